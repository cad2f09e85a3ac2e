"""Draw clips that begin with a given picture: its middle square, scaled to the model's size, is the first frame."""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of
from tokenloom.scripts.clip_options import OUT, add_clip_options, draw


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=f"{__doc__}\n{OUT}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="the first frame")
    add_clip_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    return draw(arguments, image=arguments.picture)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
