"""Sound out: wav and flac of 16 bits, Ogg Opus, mp3; of any length, in flat memory.

C channels, S samples. A sound is float (C, S) in [-1, 1]; one of any length is an iterable of such blocks.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .container_sound import MAX_CHANNELS
from .files import appears_whole
from .resample import MAX_RATE, MIN_RATE, Resampler

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


class Format(NamedTuple):
    container: str  # FFmpeg's names
    codec: str
    rates: tuple[int, ...] | None = None  # Hz that it can hold; others are resampled to the last. None: any
    max_channels: int = MAX_CHANNELS


FORMATS = {
    ".wav": Format("wav", "pcm_s16le"),
    ".flac": Format("flac", "flac"),
    ".ogg": Format("ogg", "libopus", OPUS_RATES, 2),
    ".opus": Format("ogg", "libopus", OPUS_RATES, 2),
    ".mp3": Format("mp3", "libmp3lame", MP3_RATES, 2),
}


def write_audio(path: str | os.PathLike, sound: Tensor | Iterable[Tensor], sample_rate: int) -> None:
    """Write a sound, or blocks of one, in the format of its suffix; the name appears when all is written.

    Samples outside of [-1, 1], as decoders give, are clipped, and wav and flac round to 16 bits. Opus and mp3 are
    lossy, with one or two channels; they hold few rates, and other sounds are resampled to 48 kHz. Same samples, same
    bytes.

    Raises:
        ValueError: another suffix, rate or number of channels, no sample, or blocks that are no sound of one kind.
    """
    path = Path(path)
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"a sound is written as {', '.join(FORMATS)}, got {path.name!r}; change its suffix")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"sample_rate must be from {MIN_RATE:,} to {MAX_RATE:,} Hz, got {sample_rate}")
    blocks = _checked([sound] if isinstance(sound, Tensor) else sound, form.max_channels)
    first = next(blocks, None)
    if first is None:
        raise ValueError(f"{path.name}: a sound needs at least one sample")
    blocks = chain([first], blocks)
    if form.rates and sample_rate not in form.rates:
        blocks, sample_rate = _resampled(blocks, sample_rate, form.rates[-1]), form.rates[-1]
    with appears_whole(path) as unfinished:
        _encode(unfinished, blocks, form, sample_rate, len(first))


def to_int16(sound: Tensor) -> Tensor:
    """Float samples of any shape -> int16; values outside of [-1, 1) are clipped.

    Raises:
        ValueError: a value is not finite.
    """
    if not torch.isfinite(sound).all():
        raise ValueError("samples must be finite, got nan or inf; the model that made them has diverged")
    return (sound.detach().float() * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16)


def _checked(blocks: Iterable[Tensor], max_channels: int) -> Iterator[Tensor]:
    channels = 0
    for block in blocks:
        channels = channels or (len(block) if block.ndim == 2 else 0)
        if block.ndim != 2 or len(block) != channels or not block.is_floating_point():
            raise ValueError(
                f"a sound must be floats (C, S) in [-1, 1], and all its blocks alike, got {tuple(block.shape)} of "
                f"{block.dtype}"
            )
        if not 1 <= channels <= max_channels:
            raise ValueError(f"a sound of this format has 1 to {max_channels} channels, got {channels}; mix it down")
        if block.shape[1]:
            yield block.cpu()


def _resampled(blocks: Iterable[Tensor], rate_in: int, rate_out: int) -> Iterator[Tensor]:
    resampler = Resampler(rate_in, rate_out)
    for block in blocks:
        yield resampler.push(block.float())
    yield resampler.finish()


def _encode(path: Path, blocks: Iterable[Tensor], form: Format, rate: int, channels: int) -> None:
    import av

    options = {"fflags": "bitexact"}  # no version and no random number in it
    if form.container == "wav":
        options["rf64"] = "auto"  # where 32 bits do not hold its size
    with av.open(str(path.absolute()), "w", format=form.container, options=options) as out:
        layout = av.AudioLayout(f"{channels}c") if channels > 2 else ("mono", "stereo")[channels - 1]
        stream = out.add_stream(form.codec, rate=rate, layout=layout)
        stream.codec_context.thread_count = 1
        converter = av.AudioResampler(stream.format, stream.layout, rate, stream.codec_context.frame_size or None)
        position = 0
        for block in blocks:
            if not block.shape[1]:
                continue
            frame = av.AudioFrame.from_ndarray(_packed(block), format="s16", layout=stream.layout)
            frame.sample_rate, frame.pts = rate, position
            position += block.shape[1]
            for converted in converter.resample(frame):
                out.mux(stream.encode(converted))
        for converted in converter.resample(None):
            out.mux(stream.encode(converted))
        out.mux(stream.encode(None))


def _packed(block: Tensor) -> np.ndarray:
    return rearrange(to_int16(block), "C S -> 1 (S C)").contiguous().numpy()
