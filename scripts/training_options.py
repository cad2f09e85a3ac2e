"""The options of every command that trains the shared transformer on media: its shape, and how it learns."""

import argparse
from collections.abc import Callable
from typing import Any

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import comma_separated
from tokenloom.scripts.option_types import LEARNING_RATE, NATURAL, POSITIVE, SHARE, seed_number

Add = Callable[..., Any]  # as `add_argument`


def add_shape_options(shape: Add, *, width: int, layers: str, heads: int) -> None:
    """Options of the trunk; the numbers, and what `layers` ends in, are the defaults that the help tells."""
    shape("--width", type=POSITIVE, metavar="N", help=f"of the trunk; default: {width}")
    shape("--layers", dest="num_layers", type=POSITIVE, metavar="N", help=layers)
    shape("--heads", dest="num_heads", type=POSITIVE, metavar="N", help=f"of attention; default: {heads}")
    shape("--storage", dest="storage_dtype", choices=("float32", "float16"), help="of the weights on disk; float32")


def add_learning_options(
    parser: argparse.ArgumentParser, *, steps: int, examples: str, muon_lr: float, watched: str, checkpoint_every: int
) -> Add:
    """A group of options, to which what it gives adds more; `examples` and `watched` are words of the help.

    The numbers are the defaults that the help tells: those of the recipe, which would bring torch.
    """
    learn = parser.add_argument_group("training").add_argument
    learn("--decoder", dest="decoders", type=comma_separated(str, DECODERS), metavar="D,...", help="default: all three")
    learn("--steps", type=POSITIVE, metavar="N", help=f"default: {steps}")
    learn("--batch-size", type=POSITIVE, metavar="N", help=f"{examples}; default: 32")
    learn("--muon-lr", type=LEARNING_RATE, metavar="RATE", help=f"of the trunk's matrices; default: {muon_lr}")
    learn("--adamw-lr", type=LEARNING_RATE, metavar="RATE", help="of the rest; default: 0.002")
    learn("--warmup", type=NATURAL, metavar="N", help="steps; default: 100")
    learn("--decay", type=SHARE, metavar="SHARE", help="of the steps, in which the rate falls to zero; default: 0.5")
    learn("--ema-decay", type=SHARE, metavar="D", help="of the average of the weights; default: 0.998")
    learn("--bfloat16", action="store_true", default=None, help="products in bfloat16, where the processor has units")
    learn("--seed", type=seed_number, metavar="S", help="default: 0")
    learn("--evaluate-every", type=POSITIVE, metavar="STEPS", help=f"{watched}; default: 500")
    learn("--checkpoint-every", type=POSITIVE, metavar="STEPS", help=f"default: {checkpoint_every}")
    return learn
