"""Write the captions of pictures, one line each: the file, a tab, the caption.

The middle square of each is looked at. A file that cannot be read is told about and left out, and the exit code is
then 1.
"""

import argparse
import sys

from tokenloom.scripts.cli import CommandParser, main_of
from tokenloom.scripts.describe_options import add_describe_options, run_describe


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_describe_options(parser, "picture")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.describe_files import picture_of

    return run_describe(arguments, "image", picture_of)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
