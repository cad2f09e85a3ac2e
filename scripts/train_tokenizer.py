"""Train a tokenizer on your own files: of texts, or of pictures.

--data takes "scenes" (the built-in world), folders and tars of pictures with captions, and, for texts, text files.
Several are mixed; "scenes:3 photos:1" draws three scenes to one photo. A folder or tar of clips gives their frames.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device

if TYPE_CHECKING:
    from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

TEXT = ("vocab_size", "special_tokens", "normalization", "lowercase", "min_frequency")
ARCHITECTURE = ("stride", "levels", "widths", "encoder_blocks", "decoder_blocks", "storage_dtype")
RECIPE = (
    *("steps", "batch_size", "learning_rate", "absolute", "edges", "adversarial", "plain"),
    *("freeze_encoder", "bfloat16", "seed"),
)
IMAGE = ("size", *ARCHITECTURE, *RECIPE, "init", "device", "resume", "overfit_one")


def numbers(text: str) -> tuple[int, ...]:
    """ "8,8,5" -> (8, 8, 5)"""
    return tuple(int(part) for part in text.split(","))


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("text", "image"), help="what the tokenizer reads")
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC", help="what to learn from")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the tokenizer goes")

    text = parser.add_argument_group("text: byte-level BPE")
    text.add_argument("--vocab-size", type=int, metavar="N", help="256 bytes, merges and special tokens; default: 1024")
    text.add_argument("--special-tokens", nargs="+", metavar="TOKEN", help="tokens that plain text never gives")
    text.add_argument("--normalization", choices=("NFC", "NFKC"), help="of Unicode; default: none, so nothing is lost")
    text.add_argument("--lowercase", action="store_true", default=None, help="read capitals as small letters")
    text.add_argument("--min-frequency", type=int, metavar="N", help="of a pair that is merged; default: 2")

    image = parser.add_argument_group("image: convolutions around one FSQ")
    image.add_argument("--size", type=int, metavar="PIXELS", help="side of the squares to train on; default: 64")
    image.add_argument("--stride", type=int, choices=(4, 8, 16), help="pixels per side of a code; default: 8")
    image.add_argument("--levels", type=numbers, metavar="N,N,...", help="of each dimension of a code; 8,8,8,8")
    image.add_argument("--widths", type=numbers, metavar="N,N,...", help="channels at 4 x 4 pixels, 8 x 8, ...; 96,192")
    image.add_argument("--encoder-blocks", type=numbers, metavar="N,N,...", help="at 4 x 4 pixels, 8 x 8, ...; 1,1")
    image.add_argument("--decoder-blocks", type=numbers, metavar="N,N,...", help="at 4 x 4 pixels, 8 x 8, ...; 2,2")
    image.add_argument(
        "--storage", dest="storage_dtype", choices=("float32", "float16"), help="of the weights on disk; float32"
    )
    image.add_argument("--steps", type=int, metavar="N", help="of training; default: 2000")
    image.add_argument("--batch-size", type=int, metavar="N", help="pictures of a step; default: 64")
    image.add_argument("--learning-rate", type=float, metavar="RATE", help="at its peak; default: 0.002")
    image.add_argument("--absolute", type=float, metavar="WEIGHT", help="of the absolute error beside the squared one")
    image.add_argument("--edges", type=float, metavar="WEIGHT", help="of the error of edges at several scales")
    image.add_argument(
        "--adversarial", type=float, metavar="WEIGHT", help="of a discriminator's verdict; default: none"
    )
    image.add_argument("--plain", type=float, metavar="WEIGHT", help="of what plain squares say beyond their color; 0")
    image.add_argument(
        "--freeze-encoder", action="store_true", default=None, help="train the decoder alone: ids stay what they are"
    )
    image.add_argument("--bfloat16", action="store_true", default=None, help="for processors with bfloat16 units")
    image.add_argument("--seed", type=int, metavar="S", help="of weights and pictures; default: 0")
    image.add_argument("--init", metavar="NAME_OR_DIR", help="start from the weights of this tokenizer")
    image.add_argument("--device", metavar="DEVICE", help="where to train, such as cuda; default: cpu")
    image.add_argument("--resume", action="store_true", default=None, help="go on from the last checkpoint in --out")
    image.add_argument(
        "--overfit-one", action="store_true", default=None, help="train on one picture, which must reach 35 dB"
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    kind, other = arguments.kind, IMAGE if arguments.kind == "text" else TEXT
    for name in given(arguments, *other):
        option = "--storage" if name == "storage_dtype" else "--" + name.replace("_", "-")
        raise UsageError(f"{option} is no option of {kind}")
    if arguments.out is None and not arguments.overfit_one:
        raise UsageError("--out DIR is needed")
    return train_text(arguments) if kind == "text" else train_image(arguments)


def train_text(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.train_text_tokenizer import TextTokenizerRecipe, texts_of, train_text_tokenizer

    recipe = TextTokenizerRecipe(**given(arguments, *TEXT))
    train_text_tokenizer(list(texts_of(arguments.data)), recipe, arguments.out)
    print(arguments.out)
    return 0


def train_image(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER, open_source, random_crop
    from tokenloom.pipelines.train_image_tokenizer import (
        ImageTokenizerRecipe,
        diagnose,
        overfit_one,
        to_range,
        train_image_tokenizer,
    )
    from tokenloom.tokenizers.image import ImageTokenizer

    config, init = open_config(arguments)
    size = 64 if arguments.size is None else arguments.size
    if size < config.stride or size % config.stride:
        raise UsageError(f"--size must be a multiple of the stride {config.stride}, got {size}")
    recipe = ImageTokenizerRecipe(**given(arguments, *RECIPE))
    source = open_source(arguments.data, size, recipe.seed, random_crop)
    if arguments.overfit_one:
        reached = overfit_one(config, source, seed=recipe.seed, **given(arguments, "steps"))
        print(f"one picture reached {reached:.1f} dB")
        return 0
    trained = train_image_tokenizer(
        config,
        recipe,
        source,
        arguments.out,
        resume=bool(arguments.resume),
        init=init,
        device=open_device(arguments.device or "cpu"),
    )
    trained.save_pretrained(arguments.out)
    shipped = ImageTokenizer.from_pretrained(arguments.out)  # judged as it lies there, in its storage type
    scores, _, _ = diagnose(shipped, to_range(source(VALIDATION_NUMBER, 256)[0]))
    print(f"{arguments.out}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    return 0


def open_config(arguments: argparse.Namespace) -> "tuple[ImageTokenizerConfig, ImageTokenizer | None]":
    """What is asked for, or what --init brings, in the storage type that is asked for."""
    from dataclasses import replace

    from tokenloom.pipelines.open_tokenizer import open_image_tokenizer
    from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

    asked = given(arguments, *ARCHITECTURE)
    if arguments.init is None:
        scales = {4: 1, 8: 2, 16: 3}[asked.get("stride", 8)]
        usual = {
            "widths": tuple(96 << scale for scale in range(scales)),
            "encoder_blocks": (1,) * scales,
            "decoder_blocks": (2,) * scales,
        }
        return ImageTokenizerConfig(**(usual | asked)), None
    found = open_image_tokenizer(arguments.init)
    if not isinstance(found, ImageTokenizer):
        raise ValueError(f"--init {arguments.init} must be a learned tokenizer, not {type(found).__name__}")
    config = replace(found.config, **asked)
    if replace(config, storage_dtype=found.config.storage_dtype) != found.config:
        raise UsageError(f"--init brings {found.config}; leave out what differs from it")
    init = ImageTokenizer(config)
    init.load_state_dict(found.state_dict())
    return config, init


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
