"""Train the shared transformer on text alone: it learns to continue text.

The last twentieth of the text is held out, and bits per byte on it are told during training. Curves and checkpoints lie
in --out, the finished model in --out/final, for text-to-text. A run that was killed and is started again with --resume
ends in the same weights.
"""

import argparse
import sys

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import whole_number
from tokenloom.scripts.text_model_options import add_text_training, config_of, recipe_of


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_text_training(parser)
    parser.add_argument(
        "--vocab-size",
        type=whole_number(256, 10**6),
        default=1024,
        metavar="N",
        help="tokens; 256: bytes alone; default: %(default)s",
    )
    parser.add_argument("--device", default="cpu", help="where to train, such as cuda; default: %(default)s")
    return parser


def run(arguments: argparse.Namespace) -> int:
    recipe = recipe_of(arguments)
    device = open_device(arguments.device)

    from tokenloom.pipelines.train_language import split_texts, train_language
    from tokenloom.pipelines.train_text_tokenizer import documents_of
    from tokenloom.tokenizers.text import TextTokenizer

    texts, held_out = split_texts(documents_of(arguments.data), seed=recipe.seed)
    tokenizer = TextTokenizer.train(texts, vocab_size=arguments.vocab_size)  # always the same one from the same texts
    config = config_of(arguments, tokenizer.vocab_size)
    model = train_language(
        config, recipe, texts, held_out, tokenizer, arguments.out, resume=arguments.resume, device=device
    )
    model.save_pretrained(arguments.out / "final")
    print(arguments.out / "final")
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
