"""Write token shards in the formats of others: tars for WebDataset, or a Parquet folder for Hugging Face datasets.

Shards of one modality go into DIR itself, those of several into DIR/text, DIR/image, DIR/video and DIR/audio.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of
from tokenloom.scripts.option_types import out_folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="DIR", help="folder that tokenize wrote")
    parser.add_argument(
        "--to", choices=("webdataset", "datasets"), required=True, help="the format; datasets needs tokenloom[export]"
    )
    parser.add_argument("--out", type=out_folder, required=True, metavar="DIR", help="folder of the files")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.export_shards import to_parquet, to_webdataset
    from tokenloom.data.shard_reader import ShardReader, shard_folders

    write = {"webdataset": to_webdataset, "datasets": to_parquet}[arguments.to]
    folders = shard_folders(arguments.shards)
    for folder in folders:
        reader = ShardReader(folder)
        out = arguments.out / folder.name if len(folders) > 1 else arguments.out
        paths = write(reader, out, overwrite=arguments.overwrite)
        print(f"{out}: {len(reader)} contents in {len(paths)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
