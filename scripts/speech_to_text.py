"""Write what recordings say, one line each: the file, a tab, the text.

A file that cannot be read, or is longer than the model knows, is told about and left out, and the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of, open_device, refuse_to_lose
from tokenloom.scripts.describe_options import tell
from tokenloom.scripts.option_types import out_file


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="PATH", help="recordings, or folders of them")
    parser.add_argument("--model", default="tokenloom-speech", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=out_file, metavar="JSONL", help="also write a line per file there")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.find_files import find_files
    from tokenloom.pipelines.hear_files import transcripts
    from tokenloom.pipelines.text_to_speech import SpeechToTextPipeline

    files = find_files(arguments.files, "audio")
    refuse_to_lose(arguments.out, files.values())
    pipeline = SpeechToTextPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    return tell(transcripts(pipeline, files.values()), len(files), arguments.out)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
