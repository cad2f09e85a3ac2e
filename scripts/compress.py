"""Turn pictures into small files: the codes of a tokenizer, each told in as few bits as it could be foretold.

DIR gets a .tlp of each picture, about half a bit for a pixel, or a quarter with --tokenizer tokenloom-photo-quarter.
`tokenloom decompress` gives the pictures back, not pixel by pixel, as a JPEG does not.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import out_folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="pictures")
    parser.add_argument("--out", type=out_folder, required=True, metavar="DIR", help="folder of the small files")
    parser.add_argument(
        "--tokenizer", default="tokenloom-photo-half", metavar="NAME_OR_DIR", help="default: %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="cpu", help="of the tokenizer, such as cuda; default: %(default)s")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.find_files import find_files
    from tokenloom.pipelines.compress_files import compress_files
    from tokenloom.pipelines.picture_codec import open_picture_codec

    codec = open_picture_codec(arguments.tokenizer, open_device(arguments.device))
    done = compress_files(find_files(arguments.paths, "image"), arguments.out, codec, overwrite=arguments.overwrite)
    print(
        f"{arguments.out}: {done.files} pictures compressed, {len(done.failed)} failed; "
        f"{done.bytes_written:,} bytes of files that had {done.bytes_read:,}"
    )
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
