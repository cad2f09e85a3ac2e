"""Train a tokenizer on your own files: of texts, of pictures, of clips, of sounds, or of units of speech.

--data takes "scenes" (the built-in world), folders and tars of pictures with captions, and, for texts, text files.
Several are mixed; "scenes:3 photos:1" draws three scenes to one photo. A folder or tar of clips gives pieces of them to
`video` and their frames to `image`; a folder or tar of sounds gives pieces of a second to `audio` and `units`. To
`image` and `video`, "leaves" gives pictures that show nothing and have the edges and textures of photographs, or clips
that move as what cameras film: mix them in where photographs or clips are few. To `image`, "scene-clips" gives frames
of clips of the built-in world.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device, usable
from tokenloom.scripts.option_types import (
    HERTZ,
    LEARNING_RATE,
    NATURAL,
    POSITIVE,
    WEIGHT,
    out_folder,
    seed_number,
    spec,
)
from tokenloom.scripts.tokenizer_configs import (
    CLIPS,
    PICTURES,
    SOUNDS,
    UNITS,
    audio_start,
    image_start,
    units_start,
    video_start,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tokenloom.tokenizers.pretrained import Pretrained

Trained = TypeVar("Trained", bound="Pretrained")

TEXT = ("vocab_size", "special_tokens", "normalization", "lowercase", "min_frequency")
RECIPE = (
    *("steps", "batch_size", "learning_rate", "absolute", "edges", "adversarial"),
    *("freeze_encoder", "freeze_decoder", "bfloat16", "seed"),
)
LEARNED = ("size", *PICTURES, *RECIPE, "init", "device", "workers", "resume", "overfit_one")
VIDEO = (*CLIPS, "frames", "rate", "motion")
UNITS_RECIPE = ("steps", "batch_size", "learning_rate", "bfloat16", "seed")
SOUND_RECIPE = (*UNITS_RECIPE, "freeze_encoder", "freeze_decoder", "phases")
OF_SOUNDS = ("init", "device", "resume", "overfit_one")
KINDS = {  # what each takes
    "text": TEXT,
    "image": (*LEARNED, "plain", "bits"),
    "video": (*LEARNED, *VIDEO),
    "audio": (*SOUNDS, *SOUND_RECIPE, *OF_SOUNDS),
    "units": (*UNITS, *UNITS_RECIPE, *OF_SOUNDS),
}


def numbers(text: str) -> tuple[int, ...]:
    """ "8,8,5" -> (8, 8, 5)"""
    return tuple(int(part) for part in text.split(","))


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS, help="what the tokenizer reads")
    parser.add_argument("--data", type=spec, nargs="+", required=True, metavar="SPEC", help="what to learn from")
    parser.add_argument("--out", type=out_folder, metavar="DIR", help="where the tokenizer goes")

    text = parser.add_argument_group("text: byte-level BPE")
    text.add_argument(
        "--vocab-size", type=POSITIVE, metavar="N", help="256 bytes, merges and special tokens; default: 1024"
    )
    text.add_argument("--special-tokens", nargs="+", metavar="TOKEN", help="tokens that plain text never gives")
    text.add_argument("--normalization", choices=("NFC", "NFKC"), help="of Unicode; default: none, so nothing is lost")
    text.add_argument("--lowercase", action="store_true", default=None, help="read capitals as small letters")
    text.add_argument("--min-frequency", type=POSITIVE, metavar="N", help="of a pair that is merged; default: 2")

    image = parser.add_argument_group(
        "image and video: convolutions around one FSQ; audio takes those from --storage on"
    )
    image.add_argument("--size", type=POSITIVE, metavar="PIXELS", help="side of the squares to train on; default: 64")
    image.add_argument("--stride", type=int, choices=(4, 8, 16), help="pixels per side of a code; default: 8")
    image.add_argument(
        "--levels", type=numbers, metavar="N,N,...", help="of each dimension of a code; 8,8,8,8, or 40 with --bits"
    )
    image.add_argument("--widths", type=numbers, metavar="N,N,...", help="channels at 4 x 4 pixels, 8 x 8, ...; 96,192")
    image.add_argument("--encoder-blocks", type=numbers, metavar="N,N,...", help="at 4 x 4 pixels, 8 x 8, ...; 1,1")
    image.add_argument("--decoder-blocks", type=numbers, metavar="N,N,...", help="at 4 x 4 pixels, 8 x 8, ...; 2,2")
    image.add_argument(
        "--storage", dest="storage_dtype", choices=("float32", "float16"), help="of the weights on disk; float32"
    )
    image.add_argument("--steps", type=POSITIVE, metavar="N", help="of training; default: 2000")
    image.add_argument(
        "--batch-size", type=POSITIVE, metavar="N", help="pictures of a step, default: 64; or clips or sounds, 16"
    )
    image.add_argument(
        "--learning-rate", type=LEARNING_RATE, metavar="RATE", help="at its peak, default: 0.002; of sounds, 0.005"
    )
    image.add_argument("--absolute", type=WEIGHT, metavar="WEIGHT", help="of the absolute error beside the squared one")
    image.add_argument("--edges", type=WEIGHT, metavar="WEIGHT", help="of the error of edges at several scales")
    image.add_argument(
        "--adversarial", type=WEIGHT, metavar="WEIGHT", help="of a discriminator's verdict; default: none"
    )
    image.add_argument(
        "--plain", type=WEIGHT, metavar="WEIGHT", help="of pictures: what plain squares say beyond their color; none"
    )
    image.add_argument(
        "--bits", type=WEIGHT, metavar="WEIGHT", help="of pictures: of a bit per pixel that their files take; none"
    )
    image.add_argument(
        "--freeze-encoder", action="store_true", default=None, help="train the decoder alone: ids stay what they are"
    )
    image.add_argument(
        "--freeze-decoder",
        action="store_true",
        default=None,
        help="train the encoder alone: ids go on meaning the same",
    )
    image.add_argument("--bfloat16", action="store_true", default=None, help="for processors with bfloat16 units")
    image.add_argument("--seed", type=seed_number, metavar="S", help="of weights and pictures; default: 0")
    image.add_argument("--init", metavar="NAME_OR_DIR", help="start from the weights of this tokenizer")
    image.add_argument("--device", metavar="DEVICE", help="where to train, such as cuda; default: cpu")
    image.add_argument(
        "--workers", type=NATURAL, metavar="N", help="processes that read pictures or clips ahead; default: none"
    )
    image.add_argument("--resume", action="store_true", default=None, help="go on from the last checkpoint in --out")
    image.add_argument(
        "--overfit-one",
        action="store_true",
        default=None,
        help="train on one picture, which must reach 35 dB, one clip, 33 dB, or one sound, a mel distance of 0.15",
    )

    video = parser.add_argument_group("video: the same, causal in time; clips give smaller widths, 96,160")
    video.add_argument(
        "--group", type=POSITIVE, metavar="N", help="frames of a code, after the first; 4 or 8; default: 4"
    )
    video.add_argument("--window", type=POSITIVE, metavar="N", help="groups that a layer looks at; default: 3")
    video.add_argument(
        "--turns", type=POSITIVE, metavar="N", help="kinds of codes that groups take turns with; default: 2"
    )
    video.add_argument(
        "--frames", type=POSITIVE, metavar="N", help="of the clips to train on, 1 + n groups; default: 17"
    )
    video.add_argument("--rate", type=HERTZ, metavar="HZ", help="frames per second to read clips at; default: 12")
    video.add_argument("--motion", type=WEIGHT, metavar="WEIGHT", help="of the error of what moves; default: 0.1")

    audio = parser.add_argument_group("audio: a spectral vocoder around a residual FSQ, 8 codebooks at 50 Hz")
    audio.add_argument("--width", type=POSITIVE, metavar="N", help="channels at 50 Hz; default: 192; of units, 128")
    audio.add_argument(
        "--fine-width", type=POSITIVE, metavar="N", help="channels at 100 Hz; default: 160; of units, 128"
    )
    audio.add_argument("--phases", type=WEIGHT, metavar="WEIGHT", help="of the error of phases; default: 0.1")

    units = parser.add_argument_group("units: k-means on patches of log-mel spectrogram; the vocoder as of audio")
    units.add_argument("--num-units", type=POSITIVE, metavar="N", help="kinds of units; default: 256")
    units.add_argument("--unit-rate", type=int, choices=(25, 50), help="units a second; default: 25")
    return parser


def run(arguments: argparse.Namespace) -> int:
    others = {name for names in KINDS.values() for name in names} - set(KINDS[arguments.kind])
    for name in given(arguments, *sorted(others)):
        option = "--storage" if name == "storage_dtype" else "--" + name.replace("_", "-")
        raise UsageError(f"{option} is no option of {arguments.kind}")
    if arguments.out is None and not arguments.overfit_one:
        raise UsageError("--out DIR is needed")
    trainers = {
        "text": train_text,
        "image": train_image,
        "video": train_video,
        "audio": train_audio,
        "units": train_units,
    }
    return trainers[arguments.kind](arguments)


def train_text(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.train_text_tokenizer import TextTokenizerRecipe, texts_of, train_text_tokenizer

    recipe = usable(TextTokenizerRecipe, **given(arguments, *TEXT))
    train_text_tokenizer(list(texts_of(arguments.data)), recipe, arguments.out)
    print(arguments.out)
    return 0


def train_image(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.picture_codec import has_entropy_model, open_picture_codec
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER, open_source, random_crop
    from tokenloom.pipelines.train_image_tokenizer import (
        ImageTokenizerRecipe,
        diagnose,
        overfit_one,
        train_image_tokenizer,
    )
    from tokenloom.pipelines.train_reconstruction import to_range

    config, init = image_start(arguments)
    size = side_of(arguments, config.stride)
    recipe = usable(
        ImageTokenizerRecipe, data=(*arguments.data, f"{size} pixels"), **given(arguments, *RECIPE, "plain", "bits")
    )
    source = open_source(arguments.data, size, recipe.seed, random_crop)
    if arguments.overfit_one:
        reached = overfit_one(config, source, seed=recipe.seed, **given(arguments, "steps"))
        print(f"one picture reached {reached:.1f} dB")
        return 0
    goes_on = init is not None and recipe.bits > 0 and has_entropy_model(arguments.init)
    trained = train_image_tokenizer(
        config,
        recipe,
        source,
        arguments.out,
        resume=bool(arguments.resume),
        init=init,
        init_entropy_model=open_picture_codec(arguments.init).entropy_model if goes_on else None,
        device=open_device(arguments.device or "cpu"),
        workers=arguments.workers or 0,
    )
    return finish(trained, diagnose, to_range(source(VALIDATION_NUMBER, 256)[0]), arguments.out)


def train_video(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.clip_sources import open_clip_source
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
    from tokenloom.pipelines.train_reconstruction import to_range
    from tokenloom.pipelines.train_video_tokenizer import (
        VALIDATION_CLIPS,
        VideoTokenizerRecipe,
        diagnose,
        overfit_one,
        train_video_tokenizer,
    )

    config, init = video_start(arguments)
    size = side_of(arguments, config.stride)
    frames = 17 if arguments.frames is None else arguments.frames
    rate = 12.0 if arguments.rate is None else arguments.rate
    if frames < 1 or (frames - 1) % config.group:
        raise UsageError(f"--frames must be 1 + n x {config.group}, one frame and whole groups, got {frames}")
    pieces = f"{frames} frames of {size} pixels, {rate:g} per second"
    recipe = usable(VideoTokenizerRecipe, data=(*arguments.data, pieces), **given(arguments, *RECIPE, "motion"))
    source = open_clip_source(arguments.data, frames, size, rate, recipe.seed)
    if arguments.overfit_one:
        reached = overfit_one(config, source, seed=recipe.seed, **given(arguments, "steps"))
        print(f"one clip reached {reached:.1f} dB")
        return 0
    trained = train_video_tokenizer(
        config,
        recipe,
        source,
        arguments.out,
        resume=bool(arguments.resume),
        init=init,
        device=open_device(arguments.device or "cpu"),
        workers=arguments.workers or 0,
    )
    return finish(trained, diagnose, to_range(source(VALIDATION_NUMBER, VALIDATION_CLIPS)[0]), arguments.out)


def train_audio(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines import train_audio_tokenizer as audio

    config, init = audio_start(arguments)
    recipe = usable(audio.AudioTokenizerRecipe, data=tuple(arguments.data), **given(arguments, *SOUND_RECIPE))
    train = partial(audio.train_audio_tokenizer, config, recipe, init=init)
    return train_on_sounds(arguments, recipe.seed, partial(audio.overfit_one, config), train, audio.diagnose)


def train_units(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines import train_units as units

    config, init = units_start(arguments)
    recipe = usable(units.UnitsRecipe, data=tuple(arguments.data), **given(arguments, *UNITS_RECIPE))
    train = partial(units.train_units, config, recipe, init=init)
    return train_on_sounds(arguments, recipe.seed, partial(units.overfit_one, config), train, units.diagnose)


def train_on_sounds(
    arguments: argparse.Namespace,
    seed: int,
    overfit_one: Callable[..., float],
    train: "Callable[..., Trained]",
    diagnose: "Callable[[Trained, Tensor], tuple[Any, ...]]",
) -> int:
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
    from tokenloom.pipelines.sound_sources import open_sound_source
    from tokenloom.pipelines.train_audio_tokenizer import PIECE, VALIDATION_PIECES
    from tokenloom.tokenizers.vocoder import SAMPLE_RATE

    source = open_sound_source(arguments.data, PIECE, SAMPLE_RATE, seed)
    if arguments.overfit_one:
        reached = overfit_one(source, seed=seed, **given(arguments, "steps"))
        print(f"one sound reached a mel distance of {reached:.3f}")
        return 0
    device = open_device(arguments.device or "cpu")
    trained = train(source, arguments.out, resume=bool(arguments.resume), device=device)
    return finish(trained, diagnose, source(VALIDATION_NUMBER, VALIDATION_PIECES)[0], arguments.out)


def side_of(arguments: argparse.Namespace, stride: int) -> int:
    """Pixels per side of what is trained on."""
    size = 64 if arguments.size is None else arguments.size
    if size < stride or size % stride:
        raise UsageError(f"--size must be a multiple of the stride {stride}, got {size}")
    return size


def finish(
    trained: "Trained", diagnose: "Callable[[Trained, Tensor], tuple[Any, ...]]", media: "Tensor", out: Path
) -> int:
    """Save it, and judge it as it lies there, in its storage type, on media that training did not see."""
    trained.save_pretrained(out)
    scores = diagnose(type(trained).from_pretrained(out), media)[0]
    print(f"{out}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
