"""How well vectors find pictures by captions, and captions by pictures, or sounds by texts: recall at 1 and 5.

Among 100 pairs and among 1,000, or as many as --among says, of which every caption says something else. --on takes
"scenes" and "clips", freshly drawn for every --seed, and folders or tars of captioned pictures, of which only those
count that training leaves out. Strictly, only the own picture is right; in the columns "true" also what the detector
finds the caption true of: "a heart" is true of many pictures. For a model of speech, --digits takes the recordings of
single digits that it learned from: of those that training leaves out, strings of one to three digits are made afresh
for every --seed, in the voices of these recordings.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, comma_separated, main_of, open_device
from tokenloom.scripts.option_types import out_file, seed_number, whole_number

if TYPE_CHECKING:
    from tokenloom.pipelines.embed import EmbeddingPipeline
    from tokenloom.pipelines.retrieval import Gallery, SpokenGallery


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", nargs="?", default="tokenloom-mini", metavar="MODEL", help="default: %(default)s")
    add("--on", nargs="+", default=[], metavar="WHAT", help="scenes, clips, folders, tars; default: scenes")
    add("--digits", type=Path, metavar="PATH", help="recordings of single digits, for a model of speech")
    add(
        "--among",
        type=comma_separated(whole_number(2, 10_000)),
        default=(100, 1000),
        metavar="N,...",
        help="pairs; default: 100,1000",
    )
    add("--seed", type=seed_number, default=0, metavar="S", help="of what is drawn; default: %(default)s")
    add("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    add("--out", type=out_file, metavar="JSON", help="also write the figures there")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.embed import EmbeddingPipeline
    from tokenloom.pipelines.retrieval import retrieve

    pipeline = EmbeddingPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    report: list[dict[str, object]] = []
    for what, gallery in galleries(arguments, pipeline):
        among = sorted({min(count, len(gallery.captions)) for count in arguments.among})
        for count, found in retrieve(pipeline, gallery, among).items():
            shown = "  ".join(f"{name} {share:.3f}" for name, share in found.items())
            print(f"{what}, among {count}: {shown}", flush=True)
            report.append({"on": what, "among": count, "pairs": len(gallery.captions), "recall": found})
    if arguments.out:
        from tokenloom.data.files import write_json

        said = {"model": str(arguments.model), "seed": arguments.seed, "results": report}
        write_json(arguments.out, said)
    return 0


def galleries(
    arguments: argparse.Namespace, pipeline: "EmbeddingPipeline"
) -> "Iterator[tuple[str, Gallery | SpokenGallery]]":
    """What is asked for, with its name, one after the other.

    Raises:
        ValueError: the model knows no such media.
    """
    from tokenloom.pipelines.retrieval import spoken_gallery

    most, seed = max(arguments.among), arguments.seed
    for what in arguments.on or ([] if arguments.digits else ["scenes"]):
        yield what, open_gallery(what, most, seed, pipeline.pictures.image_size[0])
    if arguments.digits:
        rate = pipeline.speech.audio_tokenizer.sample_rate
        yield str(arguments.digits), spoken_gallery(arguments.digits, most, seed, rate)


def open_gallery(what: str, count: int, seed: int, size: int) -> "Gallery":
    """`count` fresh pairs of a world, or all held-out pictures of a path."""
    from tokenloom.pipelines.retrieval import fresh_gallery, held_out_gallery
    from tokenloom.pipelines.worlds import CLIPS, SCENES

    worlds = {world.name: world for world in (SCENES, CLIPS)}
    return fresh_gallery(worlds[what], count, seed, size) if what in worlds else held_out_gallery(Path(what), size)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
