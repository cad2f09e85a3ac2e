"""Train one transformer on pictures, clips and sounds together, each with its texts: it then goes from any to any.

--data takes pictures and --clips clips, as `train` does; --speech recordings or --digits single spoken digits, as
`train-speech` does. --mix says how often each pair of modalities is learned: "text-image:3 audio-text:1" draws three
steps of the one to one of the other. Curves and checkpoints lie in --out, samples in --out/pictures and --out/sounds,
and the finished model in --out/final, which every command takes that takes a model of pictures or one of speech. A run
that was killed and is started again with --resume ends in the same weights.
"""

import argparse
import sys
import warnings
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device, usable
from tokenloom.scripts.option_types import (
    HERTZ,
    NATURAL,
    POSITIVE,
    SECONDS,
    SHARE,
    out_folder,
    spec,
)
from tokenloom.scripts.training_options import add_learning_options, add_shape_options

if TYPE_CHECKING:
    from tokenloom.pipelines.mixed_model import MixedModel
    from tokenloom.pipelines.open_tokenizer import PictureTokenizer
    from tokenloom.pipelines.picture_sources import MixedSource
    from tokenloom.pipelines.speech_batches import SpeechData
    from tokenloom.pipelines.speech_model import SoundTokenizer

RECIPE = (
    *("decoders", "steps", "batch_size", "muon_lr", "adamw_lr", "warmup", "decay", "ema_decay", "drop_caption"),
    *("prompt_length", "bfloat16", "seed", "evaluate_every", "checkpoint_every"),
)
SHAPE = ("width", "num_layers", "num_heads", "factorized", "storage_dtype")
OF_NEW = (*SHAPE, "tokenizer", "sound_tokenizer", "codebooks", "text_vocab_size", "frames", "size", "seconds")
FRAMES, SIZE, CODEBOOKS, SECONDS_HEARD = 17, 64, 3, 4.0  # of a new model


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=spec, nargs="+", required=True, metavar="SPEC", help="pictures with captions, or their shards")
    add("--clips", type=spec, nargs="+", default=[], metavar="SPEC", help="clips with captions, or their shards")
    add("--speech", type=spec, nargs="+", default=[], metavar="SPEC", help="recordings with their texts")
    add("--digits", type=Path, metavar="PATH", help="single spoken digits, to make strings and sums of")
    add("--mix", nargs="+", default=[], metavar="PAIR:SHARE", help="default: each pair that there is data for")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--init", metavar="DIR", help="start from the weights and tokenizers of a model that this command made")
    add("--rate", type=HERTZ, default=8.0, metavar="HZ", help="frames per second of --clips; default: %(default)s")
    add("--device", default="cpu", help="where to train, such as cuda; default: %(default)s")
    add("--workers", type=NATURAL, default=0, metavar="N", help="processes that draw and read ahead; default: none")

    shape = parser.add_argument_group("a new model").add_argument
    add_shape_options(shape, width=192, layers="default: 8", heads=3)
    shape("--tokenizer", metavar="NAME_OR_DIR", help="of pictures; default: tokenloom-photo")
    shape("--sound-tokenizer", metavar="NAME_OR_DIR", help="default: tokenloom-voice")
    shape("--codebooks", type=POSITIVE, metavar="K", help=f"of that tokenizer's, the first; default: {CODEBOOKS}")
    shape("--text-vocab-size", type=POSITIVE, metavar="N", help="default: 1024")
    shape("--size", type=POSITIVE, metavar="PIXELS", help=f"side of the pictures; default: {SIZE}")
    shape("--frames", type=POSITIVE, metavar="N", help=f"of a clip; default: {FRAMES}")
    shape("--seconds", type=SECONDS, metavar="S", help=f"of the longest sound; default: {SECONDS_HEARD}")
    shape("--factorized", action="store_true", default=None, help="of other frames of a clip, see only the same place")

    learn = add_learning_options(
        parser,
        steps=3000,
        examples="pictures, clips or sounds of a step",
        muon_lr=0.002,
        watched="losses and samples",
        checkpoint_every=100,
    )
    learn("--drop-caption", type=SHARE, metavar="SHARE", help="of texts left out, for guidance; default: 0.1")
    learn("--prompt-length", type=POSITIVE, metavar="N", help="tokens; captions are cut there; default: 64")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if bool(arguments.speech) == bool(arguments.digits):
        raise UsageError("speech comes from --speech SPEC or from --digits PATH; give one of them")
    if arguments.init and (brought := given(arguments, *OF_NEW)):
        raise UsageError(f"--init brings its own {', '.join(brought)}; leave out what is for a new model")

    from tokenloom.pipelines.mixed_batches import MixedRecipe, mixing_table
    from tokenloom.pipelines.mixed_model import MixedModel
    from tokenloom.pipelines.open_tokenizer import KINDS, open_audio_tokenizer, open_image_tokenizer
    from tokenloom.pipelines.prepare_training import check_latents, watched_prompts
    from tokenloom.pipelines.shard_sources import open_training_clips, open_training_source
    from tokenloom.pipelines.text_to_image import UnknownWordWarning
    from tokenloom.pipelines.train_mixed import train_mixed

    init = MixedModel.from_pretrained(arguments.init) if arguments.init else None
    if init:
        images, sounds = init.pictures.image_tokenizer, init.speech.audio_tokenizer
        size, frames = init.pictures.image_size[0], init.transformer.config.num_frames
        seconds = init.speech.max_seconds
    else:
        images = open_image_tokenizer(arguments.tokenizer or KINDS["image"].default)
        sounds = open_audio_tokenizer(arguments.sound_tokenizer or KINDS["audio"].default)
        size, frames, seconds = arguments.size or SIZE, arguments.frames or FRAMES, arguments.seconds or SECONDS_HEARD
    seed = arguments.seed or 0
    data = speech_of(arguments, seconds, seed, sounds.sample_rate)
    source, clips = open_training_source(arguments.data, size, seed, images), None
    if arguments.clips:
        clips = open_training_clips(arguments.clips, frames, size, arguments.rate, seed, images)
    recipe = usable(
        MixedRecipe,
        data=tuple(arguments.data),
        clip_data=(*arguments.clips, f"{arguments.rate:g} frames per second") if clips else (),
        speech_data=tuple(map(str, arguments.speech or [arguments.digits])),
        mix=usable(mixing_table, specs=arguments.mix, clips=clips is not None, answers=data.answers is not None),
        **given(arguments, *RECIPE),
    )
    usable(check_latents, tokenizer=images, decoders=recipe.decoders)
    model = init or new_model(arguments, images, sounds, source, clips, data, seconds)
    model.to(open_device(arguments.device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownWordWarning)  # prompts to watch may go beyond the data
        trained = train_mixed(
            model,
            recipe,
            source,
            data,
            arguments.out,
            clips=clips,
            sample_prompts=watched_prompts(source, model.pictures.text_tokenizer, recipe.prompt_length),
            resume=arguments.resume,
            fresh=init is None,
            workers=arguments.workers,
        )
    trained.save_pretrained(arguments.out / "final")
    print(arguments.out / "final")
    return 0


def speech_of(arguments: argparse.Namespace, seconds: float, seed: int, sample_rate: int) -> "SpeechData":
    """What is said, of recordings no longer than `seconds`."""
    from tokenloom.pipelines.prepare_speech import digit_speech, recorded_speech

    if arguments.digits:
        return digit_speech(arguments.digits, seed, sample_rate=sample_rate)
    return recorded_speech(arguments.speech, seconds, seed, sample_rate=sample_rate)


def new_model(
    arguments: argparse.Namespace,
    images: "PictureTokenizer",
    sounds: "SoundTokenizer",
    source: "MixedSource",
    clips: "MixedSource | None",
    data: "SpeechData",
    seconds: float,
) -> "MixedModel":
    """An untrained one of these tokenizers; its text tokenizer is learned from all texts, and left in --out."""
    from tokenloom.pipelines.mixed_model import new_mixed_model
    from tokenloom.pipelines.open_tokenizer import KINDS
    from tokenloom.pipelines.prepare_speech import known_by_name
    from tokenloom.pipelines.prepare_training import grid_of, text_tokenizer_of
    from tokenloom.pipelines.speech_model import ANSWER

    texts = text_tokenizer_of(
        lambda: chain(source.captions(), clips.captions() if clips else (), data.texts(), [ANSWER]),
        arguments.out / "text_tokenizer",
        name=None,
        vocab_size=arguments.text_vocab_size or 1024,
        resume=arguments.resume,
    )
    return new_mixed_model(
        images,
        sounds,
        texts,
        codebooks=arguments.codebooks or min(CODEBOOKS, sounds.num_codebooks),
        seconds=seconds,
        seed=arguments.seed or 0,
        sound_codes=known_by_name(arguments.sound_tokenizer or KINDS["audio"].default),
        image_grid=grid_of(arguments.size or SIZE, images.config.stride),
        num_frames=(arguments.frames or FRAMES) if clips else 1,
        **given(arguments, *SHAPE),
    )


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
