"""Train a tokenizer on your own files: of texts, of pictures, of clips, of sounds, or of units of speech.

--data takes "scenes" (the built-in world), folders and tars of pictures with captions, and, for texts, text files.
Several are mixed; "scenes:3 photos:1" draws three scenes to one photo. A folder or tar of clips gives pieces of them to
`video` and their frames to `image`; a folder or tar of sounds gives pieces of a second to `audio` and `units`.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device

if TYPE_CHECKING:
    from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
    from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
    from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig
    from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

Config = TypeVar(
    "Config", "ImageTokenizerConfig", "VideoTokenizerConfig", "AudioTokenizerConfig", "UnitsTokenizerConfig"
)

TEXT = ("vocab_size", "special_tokens", "normalization", "lowercase", "min_frequency")
ARCHITECTURE = ("stride", "levels", "widths", "encoder_blocks", "decoder_blocks", "storage_dtype")
RECIPE = (
    *("steps", "batch_size", "learning_rate", "absolute", "edges", "adversarial"),
    *("freeze_encoder", "bfloat16", "seed"),
)
LEARNED = ("size", *ARCHITECTURE, *RECIPE, "init", "device", "workers", "resume", "overfit_one")
IN_TIME = ("group", "window", "turns")
VIDEO = (*IN_TIME, "frames", "rate", "motion")
SOUND = ("width", "fine_width", "window", "storage_dtype")
SOUND_RECIPE = ("steps", "batch_size", "learning_rate", "freeze_encoder", "bfloat16", "seed", "phases")
AUDIO = (*SOUND, *SOUND_RECIPE, "init", "device", "resume", "overfit_one")
UNITS_RECIPE = ("steps", "batch_size", "learning_rate", "bfloat16", "seed")
UNITS = ("num_units", "unit_rate", *SOUND)
KINDS = {  # what each takes
    "text": TEXT,
    "image": (*LEARNED, "plain"),
    "video": (*LEARNED, *VIDEO),
    "audio": AUDIO,
    "units": (*UNITS, *UNITS_RECIPE, "init", "device", "resume", "overfit_one"),
}


def numbers(text: str) -> tuple[int, ...]:
    """ "8,8,5" -> (8, 8, 5)"""
    return tuple(int(part) for part in text.split(","))


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS, help="what the tokenizer reads")
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC", help="what to learn from")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the tokenizer goes")

    text = parser.add_argument_group("text: byte-level BPE")
    text.add_argument("--vocab-size", type=int, metavar="N", help="256 bytes, merges and special tokens; default: 1024")
    text.add_argument("--special-tokens", nargs="+", metavar="TOKEN", help="tokens that plain text never gives")
    text.add_argument("--normalization", choices=("NFC", "NFKC"), help="of Unicode; default: none, so nothing is lost")
    text.add_argument("--lowercase", action="store_true", default=None, help="read capitals as small letters")
    text.add_argument("--min-frequency", type=int, metavar="N", help="of a pair that is merged; default: 2")

    image = parser.add_argument_group(
        "image and video: convolutions around one FSQ; audio takes those from --storage on"
    )
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
    image.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures of a step, default: 64; or clips or sounds, 16"
    )
    image.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="at its peak, default: 0.002; of sounds, 0.005"
    )
    image.add_argument("--absolute", type=float, metavar="WEIGHT", help="of the absolute error beside the squared one")
    image.add_argument("--edges", type=float, metavar="WEIGHT", help="of the error of edges at several scales")
    image.add_argument(
        "--adversarial", type=float, metavar="WEIGHT", help="of a discriminator's verdict; default: none"
    )
    image.add_argument(
        "--plain", type=float, metavar="WEIGHT", help="of pictures: what plain squares say beyond their color; none"
    )
    image.add_argument(
        "--freeze-encoder", action="store_true", default=None, help="train the decoder alone: ids stay what they are"
    )
    image.add_argument("--bfloat16", action="store_true", default=None, help="for processors with bfloat16 units")
    image.add_argument("--seed", type=int, metavar="S", help="of weights and pictures; default: 0")
    image.add_argument("--init", metavar="NAME_OR_DIR", help="start from the weights of this tokenizer")
    image.add_argument("--device", metavar="DEVICE", help="where to train, such as cuda; default: cpu")
    image.add_argument(
        "--workers", type=int, metavar="N", help="processes that read pictures or clips ahead; default: none"
    )
    image.add_argument("--resume", action="store_true", default=None, help="go on from the last checkpoint in --out")
    image.add_argument(
        "--overfit-one",
        action="store_true",
        default=None,
        help="train on one picture, which must reach 35 dB, one clip, 33 dB, or one sound, a mel distance of 0.15",
    )

    video = parser.add_argument_group("video: the same, causal in time; clips give smaller widths, 96,160")
    video.add_argument("--group", type=int, metavar="N", help="frames of a code, after the first; 4 or 8; default: 4")
    video.add_argument("--window", type=int, metavar="N", help="groups that a layer looks at; default: 3")
    video.add_argument("--turns", type=int, metavar="N", help="kinds of codes that groups take turns with; default: 2")
    video.add_argument("--frames", type=int, metavar="N", help="of the clips to train on, 1 + n groups; default: 17")
    video.add_argument("--rate", type=float, metavar="HZ", help="frames per second to read clips at; default: 12")
    video.add_argument("--motion", type=float, metavar="WEIGHT", help="of the error of what moves; default: 0.1")

    audio = parser.add_argument_group("audio: a spectral vocoder around a residual FSQ, 8 codebooks at 50 Hz")
    audio.add_argument("--width", type=int, metavar="N", help="channels at 50 Hz; default: 192; of units, 128")
    audio.add_argument("--fine-width", type=int, metavar="N", help="channels at 100 Hz; default: 160; of units, 128")
    audio.add_argument("--phases", type=float, metavar="WEIGHT", help="of the error of phases; default: 0.1")

    units = parser.add_argument_group("units: k-means on patches of log-mel spectrogram; the vocoder as of audio")
    units.add_argument("--num-units", type=int, metavar="N", help="kinds of units; default: 256")
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
        train_image_tokenizer,
    )
    from tokenloom.pipelines.train_reconstruction import to_range
    from tokenloom.tokenizers.image import ImageTokenizer

    config, init = open_config(arguments)
    size = side_of(arguments, config.stride)
    recipe = ImageTokenizerRecipe(data=tuple(arguments.data), **given(arguments, *RECIPE, "plain"))
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
        workers=arguments.workers or 0,
    )
    trained.save_pretrained(arguments.out)
    shipped = ImageTokenizer.from_pretrained(arguments.out)  # judged as it lies there, in its storage type
    scores, _, _ = diagnose(shipped, to_range(source(VALIDATION_NUMBER, 256)[0]))
    report(arguments.out, scores)
    return 0


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
    from tokenloom.tokenizers.video import VideoTokenizer

    config, init = open_video_config(arguments)
    size = side_of(arguments, config.stride)
    frames = 17 if arguments.frames is None else arguments.frames
    rate = 12.0 if arguments.rate is None else arguments.rate
    if frames < 1 or (frames - 1) % config.group:
        raise UsageError(f"--frames must be 1 + n x {config.group}, one frame and whole groups, got {frames}")
    if not rate > 0:
        raise UsageError(f"--rate must be more than 0 frames per second, got {rate}")
    recipe = VideoTokenizerRecipe(data=tuple(arguments.data), **given(arguments, *RECIPE, "motion"))
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
    trained.save_pretrained(arguments.out)
    shipped = VideoTokenizer.from_pretrained(arguments.out)
    scores, _, _ = diagnose(shipped, to_range(source(VALIDATION_NUMBER, VALIDATION_CLIPS)[0]))
    report(arguments.out, scores)
    return 0


def train_audio(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
    from tokenloom.pipelines.sound_sources import open_sound_source
    from tokenloom.pipelines.train_audio_tokenizer import (
        PIECE,
        VALIDATION_PIECES,
        AudioTokenizerRecipe,
        diagnose,
        overfit_one,
        train_audio_tokenizer,
    )
    from tokenloom.tokenizers.audio import AudioTokenizer
    from tokenloom.tokenizers.vocoder import SAMPLE_RATE

    config, init = open_audio_config(arguments)
    recipe = AudioTokenizerRecipe(data=tuple(arguments.data), **given(arguments, *SOUND_RECIPE))
    source = open_sound_source(arguments.data, PIECE, SAMPLE_RATE, recipe.seed)
    if arguments.overfit_one:
        reached = overfit_one(config, source, seed=recipe.seed, **given(arguments, "steps"))
        print(f"one sound reached a mel distance of {reached:.3f}")
        return 0
    trained = train_audio_tokenizer(
        config,
        recipe,
        source,
        arguments.out,
        resume=bool(arguments.resume),
        init=init,
        device=open_device(arguments.device or "cpu"),
    )
    trained.save_pretrained(arguments.out)
    shipped = AudioTokenizer.from_pretrained(arguments.out)
    scores, _ = diagnose(shipped, source(VALIDATION_NUMBER, VALIDATION_PIECES)[0])
    report(arguments.out, scores)
    return 0


def train_units(arguments: argparse.Namespace) -> int:
    from tokenloom.pipelines import train_units
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
    from tokenloom.pipelines.sound_sources import open_sound_source
    from tokenloom.pipelines.train_audio_tokenizer import PIECE, VALIDATION_PIECES
    from tokenloom.tokenizers.units import UnitsTokenizer
    from tokenloom.tokenizers.vocoder import SAMPLE_RATE

    config, init = open_units_config(arguments)
    recipe = train_units.UnitsRecipe(data=tuple(arguments.data), **given(arguments, *UNITS_RECIPE))
    source = open_sound_source(arguments.data, PIECE, SAMPLE_RATE, recipe.seed)
    if arguments.overfit_one:
        reached = train_units.overfit_one(config, source, seed=recipe.seed, **given(arguments, "steps"))
        print(f"one sound reached a mel distance of {reached:.3f}")
        return 0
    trained = train_units.train_units(
        config,
        recipe,
        source,
        arguments.out,
        resume=bool(arguments.resume),
        init=init,
        device=open_device(arguments.device or "cpu"),
    )
    trained.save_pretrained(arguments.out)
    shipped = UnitsTokenizer.from_pretrained(arguments.out)
    scores, _ = train_units.diagnose(shipped, source(VALIDATION_NUMBER, VALIDATION_PIECES)[0])
    report(arguments.out, scores)
    return 0


def open_config(arguments: argparse.Namespace) -> "tuple[ImageTokenizerConfig, ImageTokenizer | None]":
    """What is asked for; or what --init brings, in the storage type that is asked for, and its weights."""
    from tokenloom.pipelines.open_tokenizer import open_image_tokenizer
    from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

    asked = given(arguments, *ARCHITECTURE)
    if arguments.init is None:
        scales = num_scales(arguments)
        widths = tuple(96 << scale for scale in range(scales))
        usual = {"widths": widths, "encoder_blocks": (1,) * scales, "decoder_blocks": (2,) * scales}
        return ImageTokenizerConfig(**(usual | asked)), None
    found = open_image_tokenizer(arguments.init)
    if not isinstance(found, ImageTokenizer):
        raise ValueError(f"--init {arguments.init} must be a learned tokenizer, not {type(found).__name__}")
    config = stored_as_asked(found.config, asked)
    init = ImageTokenizer(config)
    init.load_state_dict(found.state_dict())
    return config, init


def open_video_config(arguments: argparse.Namespace) -> "tuple[VideoTokenizerConfig, VideoTokenizer | None]":
    """As `open_config`, for clips."""
    from tokenloom.pipelines.open_tokenizer import open_video_tokenizer
    from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

    asked = given(arguments, *ARCHITECTURE, *IN_TIME)
    if arguments.init is None:
        scales = num_scales(arguments)
        widths = tuple(96 + 64 * scale for scale in range(scales))
        usual = {"widths": widths, "encoder_blocks": (1, 2, 1)[:scales], "decoder_blocks": (2,) * scales}
        return VideoTokenizerConfig(**(usual | asked)), None
    found = open_video_tokenizer(arguments.init)
    if not isinstance(found, VideoTokenizer):
        raise ValueError(f"--init {arguments.init} must be a learned tokenizer of clips, not {type(found).__name__}")
    config = stored_as_asked(found.config, asked)
    init = VideoTokenizer(config)
    init.load_state_dict(found.state_dict())
    return config, init


def open_audio_config(arguments: argparse.Namespace) -> "tuple[AudioTokenizerConfig, AudioTokenizer | None]":
    """As `open_config`, for sounds."""
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig

    asked = given(arguments, *SOUND)
    if arguments.init is None:
        return AudioTokenizerConfig(**asked), None
    found = open_audio_tokenizer(arguments.init)
    if not isinstance(found, AudioTokenizer):
        raise ValueError(f"--init {arguments.init} must be a learned tokenizer of sounds, not {type(found).__name__}")
    init = AudioTokenizer(stored_as_asked(found.config, asked))
    init.load_state_dict(found.state_dict())
    return init.config, init


def open_units_config(arguments: argparse.Namespace) -> "tuple[UnitsTokenizerConfig, UnitsTokenizer | None]":
    """As `open_config`, for units of speech."""
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig

    asked = given(arguments, *UNITS)
    if arguments.init is None:
        return UnitsTokenizerConfig(**asked), None
    found = open_audio_tokenizer(arguments.init)
    if not isinstance(found, UnitsTokenizer):
        raise ValueError(f"--init {arguments.init} must be a tokenizer of speech units, not {type(found).__name__}")
    init = UnitsTokenizer(stored_as_asked(found.config, asked))
    init.load_state_dict(found.state_dict())
    return init.config, init


def num_scales(arguments: argparse.Namespace) -> int:
    return {4: 1, 8: 2, 16: 3}[arguments.stride or 8]


def stored_as_asked(found: Config, asked: dict[str, Any]) -> Config:
    """Weights fit the architecture that they were trained in; only the type they are stored in may change."""
    config = replace(found, **asked)
    if replace(config, storage_dtype=found.storage_dtype) != found:
        raise UsageError(f"--init brings {found}; leave out what differs from it")
    return config


def side_of(arguments: argparse.Namespace, stride: int) -> int:
    """Pixels per side of what is trained on."""
    size = 64 if arguments.size is None else arguments.size
    if size < stride or size % stride:
        raise UsageError(f"--size must be a multiple of the stride {stride}, got {size}")
    return size


def report(out: Path, scores: dict[str, float]) -> None:
    print(f"{out}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
