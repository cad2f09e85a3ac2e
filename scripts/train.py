"""Train the shared transformer on captioned pictures and clips, under any mix of the three decoders.

--data takes "scenes" (the built-in world), folders, tars, and token shards that `tokenize` made of captioned files with
the same tokenizer; several are mixed: "scenes:3 photos:1" draws three scenes to one photo. --clips takes clips in the
same way. Curves, sample grids and checkpoints lie in --out, the finished model in --out/final. A run that was killed
and is started again with --resume ends in the same weights. `accelerate launch` trains on several devices.
"""

import argparse
import sys
import warnings
from itertools import chain
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device, usable
from tokenloom.scripts.option_types import HERTZ, NATURAL, POSITIVE, SHARE, out_folder, spec
from tokenloom.scripts.several_processes import HELP, main_process_first, open_accelerator
from tokenloom.scripts.training_options import add_learning_options, add_shape_options

if TYPE_CHECKING:
    from tokenloom.models.transformer import TransformerConfig
    from tokenloom.pipelines.open_tokenizer import PictureTokenizer
    from tokenloom.pipelines.text_to_image import TextToImagePipeline

SHAPE = ("width", "num_layers", "num_heads", "factorized", "storage_dtype")
RECIPE = (
    *(
        "decoders",
        "steps",
        "batch_size",
        "muon_lr",
        "adamw_lr",
        "warmup",
        "decay",
        "ema_decay",
        "clip_share",
        "text_share",
    ),
    *("drop_caption", "prompt_length", "bfloat16", "compile", "seed", "evaluate_every", "checkpoint_every"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=spec, nargs="+", required=True, metavar="SPEC", help="pictures with captions, or their shards")
    add("--out", type=out_folder, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--init", metavar="MODEL", help="start from the weights and tokenizers of this model")
    add("--tokenizer", metavar="NAME_OR_DIR", help="of pictures; default: that of --init, or tokenloom-photo")
    add("--text-tokenizer", metavar="NAME_OR_DIR", help="default: that of --init, or a new one from the captions")
    add("--text-vocab-size", type=POSITIVE, metavar="N", help="of a new one; default: 1024")
    add(
        "--clips",
        type=spec,
        nargs="+",
        default=[],
        metavar="SPEC",
        help="clips with captions, or their shards, to learn too",
    )
    add("--frames", type=POSITIVE, metavar="N", help="of a clip; default: 17")
    add("--rate", type=HERTZ, metavar="HZ", help="frames per second to read clips at; default: 8")
    add("--size", type=POSITIVE, default=64, metavar="PIXELS", help="side of the pictures; default: %(default)s")
    add("--plan-only", action="store_true", help="print parameters, FLOPs, memory and hours, and stop")
    add("--device", default="cpu", help="where to train, such as cuda; default: %(default)s")
    add("--workers", type=NATURAL, default=0, metavar="N", help="processes that draw and read ahead; default: none")
    add("--accelerate", action="store_true", help=HELP)

    shape = parser.add_argument_group("transformer").add_argument
    add_shape_options(shape, width=192, layers="new ones come between those given; default: 8", heads=3)
    shape("--factorized", action="store_true", default=None, help="of other frames of a clip, see only the same place")

    learn = add_learning_options(
        parser,
        steps=3000,
        examples="pictures of a step, each learned by every decoder",
        muon_lr=0.002,
        watched="losses, samples, scores",
        checkpoint_every=100,
    )
    learn("--clip-share", type=SHARE, metavar="SHARE", help="of the steps that learn clips; default: 0.5")
    learn("--text-share", type=SHARE, metavar="SHARE", help="of the steps that learn to write captions; default: 0.0")
    learn("--drop-caption", type=SHARE, metavar="SHARE", help="of captions left out, for guidance; default: 0.1")
    learn("--prompt-length", type=POSITIVE, metavar="N", help="tokens; captions are cut there; default: 64")
    learn("--compile", action="store_true", default=None, help="fuse the trunk with torch.compile")
    learn("--prompt", dest="prompts", action="append", metavar="TEXT", help="to watch; default: some of the data")
    learn("--score-prompts", type=NATURAL, default=8, metavar="N", help="of each kind of scenes, 0: none; default: 8")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.out is None and not arguments.plan_only:
        raise UsageError("--out DIR is needed")
    if arguments.init and arguments.text_tokenizer:
        raise UsageError("--init brings its text tokenizer; leave out --text-tokenizer")
    if not arguments.clips and (options := given(arguments, "frames", "rate", "clip_share")):
        told = " and ".join("--" + name.replace("_", "-") for name in options)
        raise UsageError(f"{told} would be of --clips, and there are none; leave out what is of clips")
    arguments.frames, arguments.rate = arguments.frames or 17, arguments.rate or 8.0

    from tokenloom.models.transformer import SharedTransformer
    from tokenloom.pipelines.open_tokenizer import KINDS, open_image_tokenizer
    from tokenloom.pipelines.prepare_training import (
        check_latents,
        scene_score,
        text_tokenizer_of,
        watched_prompts,
    )
    from tokenloom.pipelines.shard_sources import open_training_clips, open_training_source
    from tokenloom.pipelines.text_to_image import TextToImagePipeline, UnknownWordWarning
    from tokenloom.pipelines.train_model import standardize, train_transformer
    from tokenloom.pipelines.train_recipe import TransformerRecipe, plan

    recipe = usable(
        TransformerRecipe,
        data=tuple(arguments.data),
        clip_data=(*arguments.clips, f"{arguments.rate:g} frames per second") if arguments.clips else (),
        **given(arguments, *RECIPE),
    )
    init = TextToImagePipeline.from_pretrained(arguments.init) if arguments.init else None
    vocab_size = arguments.text_vocab_size or (init.text_tokenizer.vocab_size if init else 1024)
    if init and vocab_size != init.text_tokenizer.vocab_size:
        raise UsageError(
            f"--init brings a text tokenizer of {init.text_tokenizer.vocab_size}, not {vocab_size}; keep it"
        )
    if init and arguments.clips and init.transformer.config.num_frames < arguments.frames:
        init.transformer = init.transformer.for_clips(arguments.frames, factorized=arguments.factorized)
    if init and arguments.num_layers and arguments.num_layers > init.transformer.config.num_layers:
        init.transformer = init.transformer.deeper(arguments.num_layers)
    if init and not arguments.tokenizer:
        images = init.image_tokenizer
    else:  # with --init, it goes on learning on codes that it does not know yet
        images = open_image_tokenizer(arguments.tokenizer or KINDS["image"].default)
    usable(check_latents, tokenizer=images, decoders=recipe.decoders)
    source = open_training_source(arguments.data, arguments.size, recipe.seed, images)
    clips = (
        open_training_clips(arguments.clips, arguments.frames, arguments.size, arguments.rate, recipe.seed, images)
        if arguments.clips
        else None
    )
    if arguments.plan_only:
        print(plan(SharedTransformer(config_of(arguments, images, vocab_size, init)), recipe))
        return 0
    accelerator = open_accelerator(arguments.accelerate)
    say = accelerator.print if accelerator else print
    with main_process_first(accelerator) as is_main:
        texts = (
            init.text_tokenizer
            if init
            else text_tokenizer_of(
                lambda: chain(source.captions(), clips.captions() if clips else ()),
                arguments.out / "text_tokenizer",
                name=arguments.text_tokenizer,
                vocab_size=vocab_size,
                resume=arguments.resume or not is_main,
                say=say,
            )
        )
    config = config_of(arguments, images, texts.vocab_size, init)
    if init and arguments.tokenizer:
        standardize(init.transformer, images, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownWordWarning)  # prompts to watch may go beyond the data
        trained = train_transformer(
            config,
            recipe,
            source,
            images,
            texts,
            arguments.out,
            resume=arguments.resume,
            init=init.transformer if init else None,
            clips=clips,
            sample_prompts=arguments.prompts or watched_prompts(source, texts, recipe.prompt_length),
            score=scene_score(source, recipe.decoders, arguments.score_prompts),
            device=open_device(arguments.device),
            workers=arguments.workers,
            accelerator=accelerator,
            say=say,
        )
    if is_main:
        if init:
            trained.lexicon |= init.lexicon
            trained.writes |= init.writes
        trained.save_pretrained(arguments.out / "final")
        print(arguments.out / "final")
    return 0


def config_of(
    arguments: argparse.Namespace,
    image_tokenizer: "PictureTokenizer",
    text_vocab_size: int,
    init: "TextToImagePipeline | None",
) -> "TransformerConfig":
    """What is asked for, or what --init brings.

    Raises:
        UsageError: it is asked for something else than --init brings, or for codes of other levels.
    """
    from tokenloom.models.transformer import TransformerConfig
    from tokenloom.pipelines.prepare_training import grid_of

    asked = given(arguments, *SHAPE) | {"image_grid": grid_of(arguments.size, image_tokenizer.config.stride)}
    if arguments.clips:
        asked["num_frames"] = arguments.frames
    if init is None:
        levels = image_tokenizer.config.levels
        return usable(TransformerConfig, text_vocab_size=text_vocab_size, image_levels=levels, **asked)
    config = init.transformer.config
    asked["image_levels"] = image_tokenizer.config.levels
    changed = [name for name, value in asked.items() if getattr(config, name) != value]
    if changed:
        raise UsageError(f"--init brings {changed[0]} {getattr(config, changed[0])}, not {asked[changed[0]]}; keep it")
    return config


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
