"""What train-tokenizer starts from: a config as the options ask for it, or the tokenizer that --init names."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tokenloom.scripts.cli import UsageError, given, usable

if TYPE_CHECKING:
    from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
    from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
    from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig
    from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

Learned = TypeVar("Learned", "ImageTokenizer", "VideoTokenizer", "AudioTokenizer", "UnitsTokenizer")

SCALES = {4: 1, 8: 2, 16: 3}  # of each stride
FILE_LEVELS = (95, *(31,) * 3, *(15,) * 4, *(9,) * 12, *(7,) * 20)  # of codes for files alone, which need no ids
PICTURES = ("stride", "levels", "widths", "encoder_blocks", "decoder_blocks", "storage_dtype")
BLOCKS = ("encoder_blocks", "decoder_blocks")  # of which pictures may get more than --init has
CLIPS = ("group", "window", "turns")  # besides
SOUNDS = ("width", "fine_width", "window", "storage_dtype")
UNITS = ("num_units", "unit_rate", *SOUNDS)


def image_start(arguments: argparse.Namespace) -> "tuple[ImageTokenizerConfig, ImageTokenizer | None]":
    """The config, and the tokenizer to go on from if there is one; so do the others.

    Raises:
        ValueError: --init is no tokenizer of this kind.
        UsageError: an option asks for what --init is not.
    """
    from tokenloom.pipelines.open_tokenizer import open_any_image_tokenizer
    from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

    asked = given(arguments, *PICTURES)
    if arguments.init is None:
        scales = SCALES[arguments.stride or 8]
        widths = tuple(96 << scale for scale in range(scales))
        usual = {"widths": widths, "encoder_blocks": (1,) * scales, "decoder_blocks": (2,) * scales}
        if arguments.bits:
            usual["levels"] = FILE_LEVELS
        return usable(ImageTokenizerConfig, **(usual | asked)), None
    found = open_any_image_tokenizer(arguments.init)
    blocks = {name: asked.pop(name) for name in BLOCKS if name in asked}
    init = as_asked(found, ImageTokenizer, "pictures", asked, arguments.init)
    try:
        init = init.deeper(replace(init.config, **blocks))
    except ValueError as error:
        raise UsageError(f"--init: {error}") from None
    return init.config, init


def video_start(arguments: argparse.Namespace) -> "tuple[VideoTokenizerConfig, VideoTokenizer | None]":
    from tokenloom.pipelines.open_tokenizer import open_video_tokenizer
    from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

    asked = given(arguments, *PICTURES, *CLIPS)
    if arguments.init is None:
        scales = SCALES[arguments.stride or 8]
        widths = tuple(96 + 64 * scale for scale in range(scales))
        usual = {"widths": widths, "encoder_blocks": (1, 2, 1)[:scales], "decoder_blocks": (2,) * scales}
        return usable(VideoTokenizerConfig, **(usual | asked)), None
    init = as_asked(open_video_tokenizer(arguments.init), VideoTokenizer, "clips", asked, arguments.init)
    return init.config, init


def audio_start(arguments: argparse.Namespace) -> "tuple[AudioTokenizerConfig, AudioTokenizer | None]":
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig

    asked = given(arguments, *SOUNDS)
    if arguments.init is None:
        return usable(AudioTokenizerConfig, **asked), None
    init = as_asked(open_audio_tokenizer(arguments.init), AudioTokenizer, "sounds", asked, arguments.init)
    return init.config, init


def units_start(arguments: argparse.Namespace) -> "tuple[UnitsTokenizerConfig, UnitsTokenizer | None]":
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig

    asked = given(arguments, *UNITS)
    if arguments.init is None:
        return usable(UnitsTokenizerConfig, **asked), None
    init = as_asked(open_audio_tokenizer(arguments.init), UnitsTokenizer, "speech units", asked, arguments.init)
    return init.config, init


def as_asked(found: object, kind: type[Learned], of: str, asked: dict[str, Any], name: str) -> Learned:
    """The tokenizer that was found, with its weights stored as asked for: in all else they fit what they were."""
    if not isinstance(found, kind):
        raise ValueError(f"--init {name} must be a learned tokenizer of {of}, got {type(found).__name__}; name another")
    config: Any = replace(found.config, **asked)
    if replace(config, storage_dtype=found.config.storage_dtype) != found.config:
        raise UsageError(f"--init brings {found.config}; leave out what differs from it")
    tokenizer = kind(config)
    tokenizer.load_state_dict(found.state_dict())
    return tokenizer
