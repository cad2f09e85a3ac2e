"""Train n-grams, a transformer on bytes and one on pieces of words on the same text, and show them side by side.

Writes report.html (one file that needs no network), report.json and the two transformers into --out. The transformers
have one trunk and spend equally much arithmetic; --steps counts those on bytes. The last twentieth of the text is held
out and gives bits per byte.
"""

import argparse
import sys

from tokenloom.scripts.cli import CommandParser, comma_separated, given, main_of
from tokenloom.scripts.option_types import NATURAL, TEMPERATURE, whole_number
from tokenloom.scripts.text_model_options import add_text_training, config_of, recipe_of


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_text_training(parser)
    parser.add_argument(
        "--orders", type=comma_separated(whole_number(1, 63)), metavar="N,...", help="of the n-grams; default: 3,4,5,6"
    )
    parser.add_argument(
        "--vocab-size", type=whole_number(257, 10**6), metavar="N", help="of the pieces of words; default: 1024"
    )
    parser.add_argument("--prompt", dest="prompts", action="append", metavar="TEXT", help="default: of held-out text")
    parser.add_argument("--length", type=NATURAL, metavar="BYTES", help="of a continuation; default: 400")
    parser.add_argument("--temperature", type=TEMPERATURE, metavar="T", help="of continuations; default: 0.8")
    return parser


def run(arguments: argparse.Namespace) -> int:
    recipe = recipe_of(arguments)

    from tokenloom.pipelines.compare_text import NUM_BYTES, TextComparison, compare_text, held_out_prompts
    from tokenloom.pipelines.train_language import split_texts
    from tokenloom.pipelines.train_text_tokenizer import documents_of

    texts, held_out = split_texts(documents_of(arguments.data), seed=recipe.seed)
    comparison = TextComparison(
        prompts=tuple(arguments.prompts or held_out_prompts(held_out)),
        seed=recipe.seed,
        **given(arguments, "orders", "vocab_size", "length", "temperature"),
    )
    config = config_of(arguments, NUM_BYTES)
    report = compare_text(texts, held_out, config, recipe, comparison, arguments.out, resume=arguments.resume)
    for arm in report["arms"]:
        print(f"{arm['name']}\t{arm['bits_per_byte']:.3f} bits per byte")
    print(arguments.out / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
