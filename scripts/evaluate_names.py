"""How often a model draws what your own captions name: by a judge trained on the real pictures.

  tokenloom train-picture-judge --data emoji.tar --out judge
  tokenloom evaluate-names my-model --data emoji.tar --judge judge --out names

Asks for captions of --data that training saw, and for those that `tokenloom train --data` held out, and prints for each
decoder how often the judge has the name among its first and its first five, of all names. The rows above say the same
of the real pictures, and of what the image tokenizer makes of them. "same" is the share of drawings to which the very
picture that was asked for is the most alike of all training pictures, and "distance" how far the most alike one is, of
0 to 255: what a model knows by heart is near. --captions judges what the model writes about the pictures instead.

With --out DIR also writes names.json and sheets: drawings, green where the judge had the name among five, the pictures
that were asked for above, and the training pictures most alike below.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, UsageError, comma_separated, given, main_of, open_device
from tokenloom.scripts.option_types import GUIDANCE, POSITIVE, STEPS, TEMPERATURE, out_folder, seed_number
from tokenloom.scripts.prompt_options import refuse_unused

if TYPE_CHECKING:
    from tokenloom.pipelines.evaluate_names import Named
    from tokenloom.pipelines.named_pictures import NamedPictures

SETTINGS = ("guidance_scale", "num_inference_steps", "temperature", "best_of")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", nargs="?", default="tokenloom-mini", metavar="MODEL", help="default: %(default)s")
    add("--data", nargs="+", required=True, type=Path, metavar="PATH", help="folders or tars of captioned pictures")
    add("--judge", required=True, type=Path, metavar="DIR", help="made by train-picture-judge")
    decoders = comma_separated(str, DECODERS)
    add("--decoder", "--decoders", type=decoders, default=DECODERS, metavar="D,...", dest="decoders")
    add("--count", type=POSITIVE, default=200, metavar="N", help="captions of each kind; default: %(default)s")
    add("--captions", action="store_true", help="judge what MODEL writes instead of what it draws")
    add("--guidance-scale", type=GUIDANCE, metavar="G", help="default: each decoder's own, as of what follows")
    add("--steps", dest="num_inference_steps", type=STEPS, metavar="N", help="of masked and diffusion")
    add("--temperature", type=TEMPERATURE, metavar="T", help="of what is drawn")
    add("--best-of", type=POSITIVE, metavar="N", help="judge the one of N that the model finds truest")
    add("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    add("--batch-size", type=POSITIVE, default=16, metavar="N", help="drawn at once; default: %(default)s")
    add("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")
    add("--out", type=out_folder, metavar="DIR", help="folder of names.json and the sheets")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.progress import Progress
    from tokenloom.models.picture_classifier import PictureClassifier
    from tokenloom.pipelines.evaluate_names import draw_named, judged, reconstructed, write_named
    from tokenloom.pipelines.media_to_text import MediaToTextPipeline
    from tokenloom.pipelines.named_pictures import read_named
    from tokenloom.pipelines.text_to_image import TextToImagePipeline, UnknownWordWarning

    settings = given(arguments, *SETTINGS)
    if arguments.captions:
        refuse_unused(settings, (), "--captions")
    refuse_unused(settings, arguments.decoders, ", ".join(arguments.decoders))
    if not (arguments.judge / "config.json").is_file():
        raise UsageError(f"--judge must be a folder of train-picture-judge, {arguments.judge} is none")
    judge = PictureClassifier.from_pretrained(arguments.judge)
    pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    size = judge.config.size
    if pipeline.image_size != (size, size):
        raise ValueError(
            f"the judge must look at pictures of {pipeline.image_size[0]} pixels, as {arguments.model} draws them, "
            f"and looks at {size}; train one with --size {pipeline.image_size[0]}"
        )
    pictures = read_named(arguments.data, size, judge.config.name_pattern)
    if strange := sorted(set(pictures.names) - set(judge.config.names)):
        raise ValueError(f"the judge knows {len(strange)} of the names not, such as {strange[0]!r}; train it on them")

    asked = [pictures.chosen(known, arguments.count, arguments.seed) for known in (True, False)]
    found: list[Named] = []
    ways = 1 if arguments.captions else len(arguments.decoders)
    with Progress("naming" if arguments.captions else "drawing", ways * sum(map(len, asked))) as progress:
        for rows in filter(None, asked):
            if arguments.captions:
                found.append(write_named(MediaToTextPipeline(pipeline), pictures, rows, progress.advance))
                continue
            real = pictures.pixels[rows]
            found.append(judged(judge, pictures, rows, "pictures", real))
            decoded = reconstructed(pipeline.image_tokenizer, real, pipeline.device)
            found.append(judged(judge, pictures, rows, "reconstructed", decoded))
            for decoder in arguments.decoders:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UnknownWordWarning)  # words of held-out captions
                    drawn = draw_named(
                        pipeline,
                        pictures,
                        rows,
                        decoder,
                        arguments.seed,
                        batch_size=arguments.batch_size,
                        advance=progress.advance,
                        **settings,
                    )
                found.append(judged(judge, pictures, rows, decoder, drawn))
    print(table(found))
    if arguments.out:
        write_report(arguments.out, arguments.model, settings, pictures, len(judge.config.names), found)
    return 0


def table(found: "list[Named]") -> str:
    """A line for each way, under a line of names."""
    lines = [("", "captions", "asked", "top 1", "top 5", "+-95%", "same", "distance")]
    for one in found:
        shares = f"{one.share(1):.3f}", f"{one.share(5):.3f}", f"{one.half_width(5):.3f}"
        same = f"{one.same:.3f}" if one.nearest and one.way != "pictures" else "-"  # these are compared with the others
        alike = same, f"{one.distance:.1f}" if one.nearest else "-"
        lines.append((one.way, "known" if one.known else "held out", str(len(one.rows)), *shares, *alike))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(widths[n]) if n < 2 else word.rjust(widths[n]) for n, word in enumerate(line)).rstrip()
        for line in lines
    )


def write_report(
    out: Path, model: str, settings: dict[str, float], pictures: "NamedPictures", num_names: int, found: "list[Named]"
) -> None:
    """names.json, and a sheet of known and one of held-out captions."""
    from einops import rearrange

    from tokenloom.data.files import write_json
    from tokenloom.data.media import write_png
    from tokenloom.pipelines.contact_sheet import Group, contact_sheet

    results = [
        {
            "way": one.way,
            "captions": "known" if one.known else "held out",
            "top": {k: one.share(k) for k in one.found},
            "half_width_95": one.half_width(5),
            "asked": [
                {"caption": pictures.captions[row], "top": {k: hits[n] for k, hits in one.found.items()}}
                | ({"nearest": pictures.captions[one.nearest[n]], "distance": one.distances[n]} if one.nearest else {})
                for n, row in enumerate(one.rows)
            ],
        }
        for one in found
    ]
    report = {"model": model, "names": num_names, "settings": settings, "results": results}
    write_json(out / "names.json", report)
    print(out / "names.json")
    for known in (True, False):
        groups = []
        for one in found:
            if one.known != known or one.pixels is None:
                continue
            shown = rearrange(one.pixels, "N C H W -> N H W C").numpy()
            groups.append(Group(f"{one.way}: {sum(one.found[5])} of {len(one.rows)} named", shown, one.found[5]))
            if one.way in DECODERS:
                near = rearrange(pictures.pixels[one.nearest], "N C H W -> N H W C").numpy()
                same = [a == b for a, b in zip(one.rows, one.nearest, strict=True)]
                groups.append(Group(f"the training pictures most like those of {one.way}", near, same))
        if groups:
            path = out / ("known.png" if known else "held-out.png")
            write_png(path, contact_sheet(groups, columns=16, rows=1))
            print(path)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
