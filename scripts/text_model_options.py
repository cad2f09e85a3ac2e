"""What the commands that train on text alone share: options of the transformer, of its training, and its texts."""

import argparse
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import given, usable
from tokenloom.scripts.option_types import POSITIVE, out_folder, seed_number

if TYPE_CHECKING:
    from tokenloom.models.transformer import TransformerConfig
    from tokenloom.pipelines.train_language import LanguageRecipe

RECIPE = ("steps", "batch_size", "window", "bfloat16", "seed", "evaluate_every", "checkpoint_every")


def add_text_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="SPEC", help='text files; folders or "scenes" give their captions')
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--width", type=POSITIVE, default=128, metavar="N", help="of the trunk; default: %(default)s")
    add("--layers", type=POSITIVE, default=4, metavar="N", help="default: %(default)s")
    add("--heads", type=POSITIVE, default=2, metavar="N", help="of attention; default: %(default)s")
    add("--window", type=POSITIVE, metavar="TOKENS", help="seen at once; default: 128")
    add("--steps", type=POSITIVE, metavar="N", help="default: 2000")
    add("--batch-size", type=POSITIVE, metavar="N", help="windows of a step; default: 16")
    add("--bfloat16", action="store_true", default=None, help="products in bfloat16, where the processor has units")
    add("--seed", type=seed_number, metavar="S", help="default: 0")
    add("--evaluate-every", type=POSITIVE, metavar="STEPS", help="bits per byte of held-out text; default: 500")
    add("--checkpoint-every", type=POSITIVE, metavar="STEPS", help="default: 200")


def recipe_of(arguments: argparse.Namespace) -> "LanguageRecipe":
    from tokenloom.pipelines.train_language import LanguageRecipe

    return usable(LanguageRecipe, data=tuple(arguments.data), **given(arguments, *RECIPE))


def config_of(arguments: argparse.Namespace, vocab_size: int) -> "TransformerConfig":
    from tokenloom.models.transformer import TransformerConfig

    return usable(
        TransformerConfig,
        text_vocab_size=vocab_size,
        image_levels=(),
        width=arguments.width,
        num_layers=arguments.layers,
        num_heads=arguments.heads,
    )
