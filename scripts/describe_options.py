"""What the commands that write texts about files share: options, and how the texts are told."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import in_one_line, open_device, refuse_to_lose
from tokenloom.scripts.option_types import TEMPERATURE, out_file, seed_number

if TYPE_CHECKING:
    from torch import Tensor

    from tokenloom.pipelines.describe_files import Described
    from tokenloom.pipelines.hear_files import Heard
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
    from tokenloom.data.find_files import find_files
    from tokenloom.pipelines.describe_files import describe
    from tokenloom.pipelines.media_to_text import MediaToTextPipeline

    files = find_files(arguments.files, modality)
    refuse_to_lose(arguments.out, files.values())
    pipeline = MediaToTextPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    found = describe(pipeline, files.values(), read, seed=arguments.seed, temperature=arguments.temperature)
    return tell(found, len(files), arguments.out)


def tell(found: "Iterable[Described | Heard]", count: int, out: Path | None) -> int:
    """Print the text of each of `count` files as it comes, and write a line each to `out`; 1 where one has an error.

    If it is interrupted, `out` holds the lines that there were.
    """
    from tokenloom.data.files import json_line, write_atomically

    lines: list[bytes] = []
    failed = 0
    try:
        for one in found:
            if one.error:
                print(f"skipped {one.error}", file=sys.stderr)
                failed += 1
                continue
            print(f"{in_one_line(str(one.file))}\t{in_one_line(one.text)}", flush=True)
            lines.append(json_line({"file": str(one.file), "text": one.text}))
    finally:  # what was written so far is worth keeping, whatever ends it
        if out and lines:
            write_atomically(out, b"".join(lines))
    if failed:
        print(f"{failed} of {count} files could not be read", file=sys.stderr)
    return int(failed > 0)
