"""Draw pictures from prompts, by any of the three decoders.

One picture: --out is the PNG. Several: --out is a folder with 00000.png, 00001.png, ... in the order of the prompts,
and index.jsonl, a line per picture. Picture k has the seed --seed + k, and a seed always gives the same bytes.

With --image and --mask the white parts of the mask are drawn anew (masked and diffusion).
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.scripts.cli import CommandParser, UsageError, main_of, open_device, refuse_to_lose
from tokenloom.scripts.option_types import out_path
from tokenloom.scripts.prompt_options import (
    add_best_of,
    add_fine_options,
    add_prompt_options,
    check_out,
    check_prompts,
    numbered,
    prompts_asked_for,
    sampler_options,
    write_drawings,
)

if TYPE_CHECKING:
    from PIL import Image

NUM_IMAGES = "--num-images"


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_prompt_options(parser, "picture", NUM_IMAGES)
    add_best_of(parser, "picture")
    add_fine_options(parser)
    parser.add_argument("--image", type=Path, metavar="PNG", help="picture to draw into")
    parser.add_argument("--mask", type=Path, metavar="PNG", help="as large as the picture: white where to draw anew")
    parser.add_argument("--out", type=out_path, required=True, metavar="PATH", help="the PNG, or the folder of several")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if (arguments.image is None) != (arguments.mask is None):
        raise UsageError("--image and --mask go together")
    if arguments.image is not None and arguments.decoder == "ar":
        raise UsageError("--image needs a decoder that sees the whole picture, got ar; take masked or diffusion")
    prompts = prompts_asked_for(arguments, "picture")
    count = len(prompts) * arguments.copies
    refuse_to_lose(arguments.out, filter(None, (arguments.image, arguments.mask)))
    check_out(arguments.out, "picture", [".png"], several=count > 1)

    from tokenloom.data.media import write_png
    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.draw_files import drawings, read_inpainting
    from tokenloom.pipelines.text_to_image import BATCH, TextToImagePipeline

    pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    picture = mask = None
    if arguments.image is not None:
        picture, mask = read_inpainting(arguments.image, arguments.mask, pipeline.image_size)

    def draw(texts: list[str], **how: Any) -> "list[Image.Image]":
        return pipeline(texts, image=picture, mask_image=mask, **how, **sampler_options(arguments)).images

    def write(path: Path, image: "Image.Image") -> None:
        write_png(path, image)
        progress.advance()

    todo = numbered(prompts, arguments.copies, check_prompts(pipeline, prompts))
    drawn = drawings(draw, todo, decoder=arguments.decoder, seed=arguments.seed)
    progress = Progress("drawing", count, enabled=count > BATCH)
    return write_drawings(drawn, count, arguments.out, "picture", ".png", write, progress)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
