"""Turn the small files of `tokenloom compress` back into pictures, as PNG."""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import out_folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="what compress wrote")
    parser.add_argument("--out", type=out_folder, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument(
        "--tokenizer",
        metavar="NAME_OR_DIR",
        help="by which they were compressed; default: whichever of those that ship",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="cpu", help="of the tokenizer, such as cuda; default: %(default)s")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.find_files import find_ending
    from tokenloom.pipelines.compress_files import decompress_files
    from tokenloom.pipelines.picture_codec import SUFFIX, open_picture_codec, shipped_codecs

    device = open_device(arguments.device)
    names = [arguments.tokenizer] if arguments.tokenizer else shipped_codecs()
    codecs = [open_picture_codec(name, device) for name in names]
    done = decompress_files(find_ending(arguments.paths, SUFFIX), arguments.out, codecs, overwrite=arguments.overwrite)
    print(f"{arguments.out}: {done.files} pictures decompressed, {len(done.failed)} failed")
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
