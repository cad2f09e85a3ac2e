"""Turn clips of any length into exact, resumable token shards: DIR/video. `tokenloom tokenize --modality video`.

Reading, the tokenizer and writing overlap, in as many files at once as there are workers, and memory does not grow with
length. A run that was stopped goes on where it was; files that cannot be read are reported and skipped.
"""

import argparse
import sys

from tokenloom.scripts import tokenize_files
from tokenloom.scripts.cli import main_of
from tokenloom.scripts.tokenize_files import run


def build_parser() -> argparse.ArgumentParser:
    parser = tokenize_files.build_parser()
    parser.description = __doc__
    parser.set_defaults(modality="video")
    return parser


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
