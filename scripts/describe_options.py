"""What the two commands that write captions share: their options, and the run."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import open_device
from tokenloom.scripts.option_types import TEMPERATURE, out_file, seed_number

if TYPE_CHECKING:
    from torch import Tensor

    from tokenloom.pipelines.text_to_image import TextToImagePipeline


def add_describe_options(parser: argparse.ArgumentParser, thing: str) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="PATH", help=f"{thing}s, or folders of them")
    parser.add_argument("--model", default="tokenloom-mini", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument(
        "--temperature", type=TEMPERATURE, default=0.0, metavar="T", help="0, the default, takes the likeliest token"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="S", help=f"of the first {thing}; default: %(default)s"
    )
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=out_file, metavar="JSONL", help="also write a line per file there")


def run_describe(
    arguments: argparse.Namespace, modality: str, read: "Callable[[Path, TextToImagePipeline], Tensor]"
) -> int:
    """Print the caption of every file; 1 where one could not be read."""
    from tokenloom.data.files import json_line, write_atomically
    from tokenloom.data.find_files import find_files
    from tokenloom.pipelines.describe_files import describe
    from tokenloom.pipelines.media_to_text import MediaToTextPipeline

    files = find_files(arguments.files, modality)
    pipeline = MediaToTextPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    lines: list[bytes] = []
    failed = 0
    for found in describe(pipeline, files.values(), read, seed=arguments.seed, temperature=arguments.temperature):
        if found.error:
            print(f"skipped {found.error}", file=sys.stderr)
            failed += 1
            continue
        print(f"{found.file}\t{found.caption}", flush=True)
        lines.append(json_line({"file": str(found.file), "text": found.caption}))
    if arguments.out:
        write_atomically(arguments.out, b"".join(lines))
    if failed:
        print(f"{failed} of {len(files)} files could not be read", file=sys.stderr)
    return int(failed > 0)
