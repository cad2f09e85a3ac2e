"""Continue a text, by a model that train-text made. The prompt is printed before it."""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import NATURAL, TEMPERATURE, seed_number


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__)
    parser.add_argument("prompt", metavar="PROMPT", help='how the text begins; "" for one from nothing')
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="that train-text wrote")
    parser.add_argument(
        "--length", type=NATURAL, default=400, metavar="BYTES", help="of text at most; default: %(default)s"
    )
    parser.add_argument(
        "--temperature", type=TEMPERATURE, default=0.8, metavar="T", help="0: the likeliest; %(default)s"
    )
    parser.add_argument("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.text_to_image import seeded
    from tokenloom.pipelines.text_to_text import TextToTextPipeline

    model = TextToTextPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    (generator,) = seeded(arguments.seed, 1)
    written = model.continue_text(arguments.prompt, generator, arguments.length, arguments.temperature)
    print(arguments.prompt + written)
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
