"""Train the head that makes vectors of texts, pictures, clips and sounds: after it, `tokenloom embed` works.

The transformer of --init stays as it is; a small head learns, on its hidden tokens, to tell which caption belongs to
which picture. --data takes "scenes" (the built-in world), folders, tars and token shards, as `tokenloom train` does;
--clips takes clips. With a model of speech (--init tokenloom-speech) it learns which text belongs to which sound:
--data takes recordings with their texts, --digits single spoken digits, as `tokenloom train-speech` does. Curves and
checkpoints lie in --out, the model with its head in --out/final; its folder contrastive_head is all that is new. A run
that was killed and is started again with --resume ends in the same weights.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.scripts.cli import CommandParser, UsageError, comma_separated, given, main_of, open_device, usable
from tokenloom.scripts.option_types import HERTZ, LEARNING_RATE, NATURAL, POSITIVE, SHARE, out_folder, seed_number, spec

if TYPE_CHECKING:
    from tokenloom.models.contrastive import ContrastiveConfig
    from tokenloom.models.transformer import TransformerConfig
    from tokenloom.pipelines.contrastive_pairs import ContrastiveRecipe, PairSource
    from tokenloom.pipelines.speech_model import SpeechModel
    from tokenloom.pipelines.text_to_image import TextToImagePipeline

RATE = 8.0  # frames per second
SHAPE = ("layers", "width", "num_heads", "num_blocks", "embedding_size", "storage_dtype")
RECIPE = (
    *("steps", "batch_size", "learning_rate", "warmup", "clip_share", "prompt_length", "bfloat16", "seed"),
    *("evaluate_every", "checkpoint_every"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--data",
        type=spec,
        nargs="+",
        default=[],
        metavar="SPEC",
        help="pictures with captions, their shards; or recordings",
    )
    add(
        "--clips",
        type=spec,
        nargs="+",
        default=[],
        metavar="SPEC",
        help="clips with captions, or their shards, to learn too",
    )
    add("--digits", type=Path, metavar="PATH", help="single spoken digits, to make strings of, for a model of speech")
    add("--init", default="tokenloom-mini", metavar="MODEL", help="whose transformer is read; default: %(default)s")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--rate", type=HERTZ, metavar="HZ", help=f"frames per second to read clips at; default: {RATE:g}")
    add("--device", default="cpu", help="where to train, such as cuda; default: %(default)s")
    add("--workers", type=NATURAL, default=0, metavar="N", help="processes that draw and read ahead; default: none")

    shape = parser.add_argument_group("head").add_argument
    shape(
        "--layers",
        type=comma_separated(int),
        metavar="N,...",
        help="of the transformer, whose output is read; default: that after two thirds of it",
    )
    shape("--width", type=POSITIVE, metavar="N", help="default: 96")
    shape("--heads", dest="num_heads", type=POSITIVE, metavar="N", help="of attention; default: 3")
    shape(
        "--blocks", dest="num_blocks", type=NATURAL, metavar="N", help="for texts, and for media; 0: linear; default: 1"
    )
    shape("--embedding-size", type=POSITIVE, metavar="N", help="of a vector; default: 128")
    shape("--storage", dest="storage_dtype", choices=("float32", "float16"), help="of the weights on disk; float16")

    learn = parser.add_argument_group("training").add_argument
    learn("--steps", type=POSITIVE, metavar="N", help="default: 600")
    learn("--batch-size", type=POSITIVE, metavar="N", help="pairs, of which each is told from the others; default: 128")
    learn("--learning-rate", type=LEARNING_RATE, metavar="RATE", help="default: 0.002")
    learn("--warmup", type=NATURAL, metavar="N", help="steps; default: 30")
    learn("--clip-share", type=SHARE, metavar="SHARE", help="of the steps that learn clips; default: 0.25")
    learn("--prompt-length", type=POSITIVE, metavar="N", help="tokens; captions are cut there; default: 64")
    learn("--bfloat16", action="store_true", default=None, help="products in bfloat16, where the processor has units")
    learn("--seed", type=seed_number, metavar="S", help="default: 0")
    learn("--evaluate-every", type=POSITIVE, metavar="STEPS", help="default: 100")
    learn("--checkpoint-every", type=POSITIVE, metavar="STEPS", help="default: 100")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.contrastive_pairs import ContrastiveRecipe
    from tokenloom.pipelines.open_models import open_models
    from tokenloom.pipelines.speech_model import SpeechModel
    from tokenloom.pipelines.train_contrastive import train_contrastive

    rate = f"{arguments.rate or RATE:g} frames per second"
    recipe = usable(
        ContrastiveRecipe,
        data=tuple(map(str, [*arguments.data, *([arguments.digits] if arguments.digits else [])])),
        clip_data=(*arguments.clips, rate) if arguments.clips else (),
        **given(arguments, *RECIPE),
    )
    model = open_models(arguments.init)[0]
    source = heard(arguments, model, recipe) if isinstance(model, SpeechModel) else seen(arguments, model, recipe)
    trained = train_contrastive(
        config_of(arguments, model.transformer.config),
        recipe,
        source,
        model,
        arguments.out,
        resume=arguments.resume,
        device=open_device(arguments.device),
        workers=arguments.workers,
    )
    trained.save_pretrained(arguments.out / "final")
    print(arguments.out / "final")
    return 0


def seen(arguments: argparse.Namespace, pictures: "TextToImagePipeline", recipe: "ContrastiveRecipe") -> "PairSource":
    """Captions with pictures and clips, for a model of pictures.

    Raises:
        UsageError: options that are not for it, or nothing to learn from.
    """
    from tokenloom.pipelines.contrastive_pairs import CaptionedMedia
    from tokenloom.pipelines.shard_sources import open_training_clips, open_training_source

    refuse(arguments, ["digits"], "speech")
    if not arguments.data:
        raise UsageError("pictures must come from somewhere: --data SPEC is needed")
    images, size = pictures.image_tokenizer, pictures.image_size[0]
    source = open_training_source(arguments.data, size, recipe.seed, images)
    num_frames, rate = pictures.transformer.config.num_frames, arguments.rate or RATE
    clips = (
        open_training_clips(arguments.clips, num_frames, size, rate, recipe.seed, images) if arguments.clips else None
    )
    return CaptionedMedia(source, clips, recipe)


def heard(arguments: argparse.Namespace, speech: "SpeechModel", recipe: "ContrastiveRecipe") -> "PairSource":
    """Texts with recordings of them, for a model of speech.

    Raises:
        UsageError: options that are not for it, or nothing to learn from.
    """
    from tokenloom.pipelines.contrastive_pairs import SpokenTexts
    from tokenloom.pipelines.speech_sources import open_recorded_speech
    from tokenloom.pipelines.spoken_digits import DigitStrings

    refuse(arguments, ["clips", "rate", "clip_share"], "pictures")
    if bool(arguments.data) == bool(arguments.digits):
        raise UsageError("speech must come from one place: --data SPEC or --digits PATH is needed")
    sample_rate = speech.audio_tokenizer.sample_rate
    if arguments.digits:
        strings = DigitStrings(arguments.digits, sample_rate=sample_rate, seed=recipe.seed)
        return SpokenTexts(strings.of_mixed_lengths, recipe)
    seconds = speech.most_samples / sample_rate
    return SpokenTexts(
        open_recorded_speech(arguments.data, seconds=seconds, sample_rate=sample_rate, seed=recipe.seed), recipe
    )


def refuse(arguments: argparse.Namespace, names: Sequence[str], kind: str) -> None:
    """
    Raises:
        UsageError: one of the options of these names is given; they are of models of this kind alone.
    """
    for name in names:
        if getattr(arguments, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is of models of {kind}, and {arguments.init} is none; leave it out")


def config_of(arguments: argparse.Namespace, trunk: "TransformerConfig") -> "ContrastiveConfig":
    """What is asked for, on a transformer of this shape."""
    from tokenloom.models.contrastive import ContrastiveConfig

    usual: dict[str, Any] = {"trunk_width": trunk.width, "layers": (max(1, round(trunk.num_layers * 2 / 3)),)}
    return usable(ContrastiveConfig, **(usual | given(arguments, *SHAPE)))


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
