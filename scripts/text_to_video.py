"""Draw clips from prompts, by any of the three decoders."""

import argparse
import sys

from tokenloom.scripts.cli import CommandParser, main_of
from tokenloom.scripts.clip_options import OUT, add_clip_options, draw


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=f"{__doc__}\n{OUT}", formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    return draw(arguments)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
