"""Continue a clip: it comes back whole, at the model's rate and size, with new frames after it."""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of
from tokenloom.scripts.clip_options import OUT, add_clip_options, draw


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=f"{__doc__}\n{OUT}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, metavar="CLIP", help="any video, gif or animated webp")
    add_clip_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    return draw(arguments, video=arguments.clip)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
