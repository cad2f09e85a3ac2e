"""Turn token shards back: pictures as PNG, clips as mp4, sounds as wav, with their length; texts byte for byte.

Sizes and names are those of the files, with .png, .mp4 or .wav after a name that ends otherwise; an odd side of a clip
is one pixel longer, as mp4 has it. Shards of one modality go into DIR itself, those of several into DIR/text,
DIR/image, DIR/video and DIR/audio.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import out_folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="DIR", help="folder that tokenize wrote")
    parser.add_argument("--out", type=out_folder, required=True, metavar="DIR", help="folder of the files")
    parser.add_argument(
        "--tokenizer", metavar="NAME_OR_DIR", help="shipped name or folder; default: the name that the shards tell"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument("--device", default="cpu", help="where media are decoded, such as cuda; default: %(default)s")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.shard_format import read_manifest
    from tokenloom.data.shard_reader import shard_folders
    from tokenloom.pipelines.detokenize_files import detokenize
    from tokenloom.pipelines.open_tokenizer import KINDS, open_tokenizer

    device = open_device(arguments.device)
    folders = shard_folders(arguments.shards)
    code = 0
    for folder in folders:
        manifest = read_manifest(folder)
        modality = manifest["modality"]
        if modality not in KINDS:
            raise ValueError(f"{folder}: holds {modality!r}, which this version does not know; use a newer one")
        name = arguments.tokenizer or manifest["tokenizer"] or KINDS[modality].default
        out = arguments.out / modality if len(folders) > 1 else arguments.out
        summary = detokenize(
            folder, out, open_tokenizer(modality, name, device), device=device, overwrite=arguments.overwrite
        )
        print(f"{out}: {summary.files} files written, {len(summary.failed)} failed")
        code = 1 if summary.failed else code
    return code


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
