"""Draw clips between two given pictures: their middle squares, scaled to the model's size, are first and last frame."""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, main_of
from tokenloom.scripts.clip_options import OUT, add_clip_options, draw


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=f"{__doc__}\n{OUT}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, metavar="FIRST", help="the first frame")
    parser.add_argument("last", type=Path, metavar="LAST", help="the last frame")
    add_clip_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.guidance_scale is not None:
        raise UsageError("--guidance-scale does nothing between known frames, which take none; leave it out")
    return draw(arguments, image=arguments.first, last_image=arguments.last)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
