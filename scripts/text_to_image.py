"""Draw pictures from prompts, by any of the three decoders.

One picture: --out is the PNG. Several: --out is a folder with 00000.png, 00001.png, ... in the order of the prompts,
and index.jsonl, a line per picture. Picture k has the seed --seed + k, and a seed always gives the same bytes.

With --image and --mask the white parts of the mask are drawn anew (masked and diffusion).
"""

import argparse
import errno
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.pipelines.sampler_settings import DECODERS, USED_BY
from tokenloom.scripts.cli import CommandParser, UsageError, main_of, open_device

if TYPE_CHECKING:
    from tokenloom.pipelines.text_to_image import TextToImagePipeline

MAX_PICTURES = 100_000  # that five digits name
MAX_PROMPTS_BYTES = 64 << 20
MAX_WORDS = 20  # that a warning names


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what a picture shows")
    parser.add_argument("--prompts", dest="file", type=Path, metavar="FILE", help="more prompts, one a line, in UTF-8")
    parser.add_argument("--decoder", choices=DECODERS, default="ar", help="how to draw; default: %(default)s")
    parser.add_argument("--model", default="tokenloom-mini", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument(
        "--num-images", type=int, default=1, metavar="N", help="pictures of each prompt; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first picture; default: %(default)s")
    parser.add_argument(
        "--guidance-scale", type=float, metavar="G", help="how closely to follow the prompt; 1: no extra"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="of masked and diffusion; more is slower")
    parser.add_argument("--temperature", type=float, metavar="T", help="lower is safer; 0 takes the likeliest code")
    parser.add_argument("--image", type=Path, metavar="PNG", help="picture to draw into")
    parser.add_argument("--mask", type=Path, metavar="PNG", help="as large as the picture: white where to draw anew")
    parser.add_argument("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the PNG, or the folder of several")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if (arguments.image is None) != (arguments.mask is None):
        raise UsageError("--image and --mask go together")
    if arguments.num_images < 1:
        raise UsageError(f"--num-images must be at least 1, got {arguments.num_images}")
    if arguments.steps is not None and "num_inference_steps" not in USED_BY[arguments.decoder]:
        knowing = " and ".join(decoder for decoder, names in USED_BY.items() if "num_inference_steps" in names)
        raise UsageError(f"--steps is a setting of {knowing}; leave it out with {arguments.decoder}")
    prompts = [*arguments.prompts, *(read_prompts(arguments.file) if arguments.file else [])]
    count = len(prompts) * arguments.num_images
    if not 1 <= count <= MAX_PICTURES:
        raise UsageError(f"1 to {MAX_PICTURES} pictures can be drawn, got {count}; give a PROMPT or --prompts FILE")
    check_out(arguments.out, several=count > 1)

    from tokenloom.data.media import write_png
    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.draw_files import drawings, read_inpainting, write_folder
    from tokenloom.pipelines.text_to_image import BATCH, TextToImagePipeline, UnknownWordWarning

    pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    picture = mask = None
    if arguments.image is not None:
        picture, mask = read_inpainting(arguments.image, arguments.mask, pipeline.image_size)
    refused = check_prompts(pipeline, prompts)
    copies = [prompt for prompt in prompts for _ in range(arguments.num_images)]
    drawn = drawings(
        pipeline,
        [(number, prompt) for number, prompt in enumerate(copies) if prompt not in refused],
        decoder=arguments.decoder,
        seed=arguments.seed,
        guidance_scale=arguments.guidance_scale,
        num_inference_steps=arguments.steps,
        temperature=arguments.temperature,
        image=picture,
        mask_image=mask,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownWordWarning)  # said by check_prompts, once for all
        if count > 1:
            with Progress("drawing", count, enabled=count > BATCH) as progress:
                written = write_folder(arguments.out, drawn, progress)
            print(f"{arguments.out}: {written} of {count} pictures drawn")
        for drawing in drawn:
            write_png(arguments.out, drawing.image)
            print(arguments.out)
    return 1 if refused else 0


def read_prompts(file: Path) -> list[str]:
    """The lines of a file that are not blank."""
    from tokenloom.data.media import MediaError, read_bytes

    try:
        text = read_bytes(file, MAX_PROMPTS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(str(file), f"prompts must be UTF-8 text ({error.reason} at byte {error.start})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_out(out: Path, several: bool) -> None:
    """Find out before drawing what would fail after it."""
    if several and out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder when several pictures are drawn, but {out} is a file")
    if not several and (out.is_dir() or out.suffix.lower() != ".png"):
        raise UsageError(f"--out must be a file that ends in .png when one picture is drawn, got {out}")
    folder = out if several else out.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def check_prompts(pipeline: "TextToImagePipeline", prompts: list[str]) -> set[str]:
    """The prompts that cannot be drawn, each told on stderr; words that training never saw are told there, too."""
    refused = set()
    for number, prompt in enumerate(prompts, 1):
        try:
            pipeline.tokens(prompt)
        except ValueError as error:
            refused.add(prompt)
            print(f"prompt {number}: {error}", file=sys.stderr)
    strange = sorted({word for prompt in prompts if prompt not in refused for word in pipeline.unknown_words(prompt)})
    if strange:
        shown = ", ".join(map(repr, strange[:MAX_WORDS])) + (", ..." if len(strange) > MAX_WORDS else "")
        print(f"warning: the training captions never held {shown}; expect little of it", file=sys.stderr)
    return refused


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
