"""Train the head that makes vectors of texts, pictures and clips: after it, `tokenloom embed` works.

The transformer of --init stays as it is; a small head learns, on its hidden tokens, to tell which caption belongs to
which picture. --data takes "scenes" (the built-in world), folders, tars and token shards, as `tokenloom train` does;
--clips takes clips. Curves and checkpoints lie in --out, the model with its head in --out/final; its folder
contrastive_head is all that is new. A run that was killed and is started again with --resume ends in the same weights.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from tokenloom.scripts.cli import CommandParser, comma_separated, given, main_of, open_device
from tokenloom.scripts.option_types import HERTZ, LEARNING_RATE, NATURAL, POSITIVE, SHARE, out_folder, seed_number

if TYPE_CHECKING:
    from tokenloom.models.contrastive import ContrastiveConfig
    from tokenloom.models.transformer import TransformerConfig

SHAPE = ("layers", "width", "num_heads", "num_blocks", "embedding_size", "storage_dtype")
RECIPE = (
    *("steps", "batch_size", "learning_rate", "warmup", "clip_share", "prompt_length", "bfloat16", "seed"),
    *("evaluate_every", "checkpoint_every"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="SPEC", help="pictures with captions, or their shards")
    add("--clips", nargs="+", default=[], metavar="SPEC", help="clips with captions, or their shards, to learn too")
    add("--init", default="tokenloom-mini", metavar="MODEL", help="whose transformer is read; default: %(default)s")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add(
        "--rate", type=HERTZ, default=8.0, metavar="HZ", help="frames per second to read clips at; default: %(default)s"
    )
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
    from tokenloom.pipelines.shard_sources import open_training_clips, open_training_source
    from tokenloom.pipelines.text_to_image import TextToImagePipeline
    from tokenloom.pipelines.train_contrastive import ContrastiveRecipe, train_contrastive

    recipe = ContrastiveRecipe(
        data=tuple(arguments.data),
        clip_data=(*arguments.clips, f"{arguments.rate:g} frames per second") if arguments.clips else (),
        **given(arguments, *RECIPE),
    )
    pictures = TextToImagePipeline.from_pretrained(arguments.init)
    trunk, images, size = pictures.transformer.config, pictures.image_tokenizer, pictures.image_size[0]
    source = open_training_source(arguments.data, size, recipe.seed, images)
    clips = (
        open_training_clips(arguments.clips, trunk.num_frames, size, arguments.rate, recipe.seed, images)
        if arguments.clips
        else None
    )
    trained = train_contrastive(
        config_of(arguments, trunk),
        recipe,
        source,
        pictures,
        arguments.out,
        resume=arguments.resume,
        clips=clips,
        device=open_device(arguments.device),
        workers=arguments.workers,
    )
    trained.save_pretrained(arguments.out / "final")
    print(arguments.out / "final")
    return 0


def config_of(arguments: argparse.Namespace, trunk: "TransformerConfig") -> "ContrastiveConfig":
    """What is asked for, on a transformer of this shape."""
    from tokenloom.models.contrastive import ContrastiveConfig

    usual: dict[str, Any] = {"trunk_width": trunk.width, "layers": (max(1, round(trunk.num_layers * 2 / 3)),)}
    return ContrastiveConfig(**(usual | given(arguments, *SHAPE)))


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
