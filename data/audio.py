"""Sound of any length as blocks of samples, at the rate asked for, in flat memory; the sound track of video too.

C channels, S samples. A block is float32 (C, S) in [-1, 1]. Times are seconds from the first sample; sample n of what
is read at a rate stands for the time n / rate, wherever reading starts, and is the same bits however it is cut.
"""

import math
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from .container_sound import FORMATS, ContainerSound
from .levels import LevelMeter
from .media import MediaError
from .open_media import Source, name_of, open_container, open_media
from .resample import MAX_RATE, MIN_RATE, Resampler

MAX_SECONDS = 600.0  # of sound that is read at once


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a sound is, as its header says."""

    sample_rate: int  # Hz
    channels: int
    seconds: float | None  # None where the header is silent; of some mp3 files an estimate
    codec: str  # FFmpeg's name


def is_sound_only(path: str | os.PathLike[str]) -> bool:
    """Whether a media file holds sound and no video; False where that cannot be seen, as in a broken file."""
    try:
        with open_audio(path, keep_decodable=True) as sound:
            return not sound.has_video
    except MediaError:  # whoever reads the file will say what is wrong with it
        return False


@contextmanager
def open_audio(source: Source, name: str | None = None, *, keep_decodable: bool = False) -> Iterator[ContainerSound]:
    """The sound of a file with its `sample_rate`, `channels` and `seconds`, closed on the way out.

    `source` is a path, all bytes of a file, or a file that can seek; `name` is what messages call it. A damaged or
    cut-off file is refused, or, with `keep_decodable`, gives what can be decoded.

    Raises:
        MediaError: whatever is wrong with the file, here or inside the block. One line that names it.
    """
    name = name or name_of(source, "sound")
    with open_media(source, name, "sound", keep_decodable=keep_decodable) as file:
        with open_container(file, FORMATS, {}) as container:
            yield ContainerSound(container, name, keep_decodable)


def probe_audio(source: Source, *, name: str | None = None) -> AudioInfo:
    """The facts of a sound, from its header.

    Raises:
        MediaError: as `read_blocks`.
    """
    with open_audio(source, name, keep_decodable=True) as sound:
        return AudioInfo(sound.sample_rate, sound.channels, sound.seconds, sound.codec)


def read_blocks(
    source: Source,
    *,
    sample_rate: int | None = 16_000,
    mono: bool = True,
    start: float = 0.0,
    stop: float | None = None,
    block: int = 16_000,
    meter: LevelMeter | None = None,
    keep_decodable: bool = False,
    name: str | None = None,
) -> Generator[Tensor, None, None]:
    """A sound as blocks, float32 (C, S) in [-1, 1], of `block` samples; the last has what is left.

    `sample_rate` in Hz; None is the file's own. `mono` gives the mean of the channels. Of `start` to `stop` seconds
    (None is the end) come the samples whose time lies there. What is louder than 1, in the file or by the filter that
    changes its rate, is clipped; `meter` sees the samples as they are in the file. `source`, `name` and
    `keep_decodable` as in `open_audio`. The file is closed at the end, or with the generator.

    Raises:
        ValueError: an option is out of its range; at the call.
        MediaError: the file is broken, beyond a limit, holds no sound, or none in that time; at the first block, or
            when the place is met. One line that names the file.
    """
    if sample_rate is not None and not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"sample_rate must be from {MIN_RATE:,} to {MAX_RATE:,} Hz, got {sample_rate}")
    if not 0 <= start < math.inf or (stop is not None and not start < stop):
        raise ValueError(f"start must be 0 seconds or more, and stop more than start, got {start} and {stop}")
    if block < 1:
        raise ValueError(f"block must be at least 1 sample, got {block}")

    def blocks() -> Generator[Tensor, None, None]:
        with open_audio(source, name, keep_decodable=keep_decodable) as sound:
            rate = sample_rate or sound.sample_rate
            first = math.ceil(start * rate)
            last = None if stop is None or stop == math.inf else math.ceil(stop * rate)
            found = False
            with closing(_resampled(sound, rate, mono, first, last, meter)) as chunks:
                for samples in _in_blocks(chunks, block):
                    found = True
                    yield samples.clamp(-1, 1)
            if not found:
                raise MediaError(sound.name, "no sound can be decoded, or none lies in the time asked for")

    return blocks()


def read_audio(
    source: Source,
    *,
    sample_rate: int | None = 16_000,
    mono: bool = True,
    start: float = 0.0,
    stop: float | None = None,
    limit_s: float = MAX_SECONDS,
    keep_decodable: bool = False,
    name: str | None = None,
) -> Tensor:
    """A sound at once, float32 (C, S) in [-1, 1]; options as in `read_blocks`.

    Raises:
        ValueError, MediaError: as `read_blocks`; or it is longer than `limit_s` seconds.
    """
    rate = sample_rate or probe_audio(source, name=name).sample_rate
    name = name or name_of(source, "sound")
    blocks: list[Tensor] = []
    options = {"start": start, "stop": stop, "keep_decodable": keep_decodable, "name": name}
    with closing(read_blocks(source, sample_rate=rate, mono=mono, block=rate, **options)) as reading:
        for number, samples in enumerate(reading):
            if number + samples.shape[1] / rate > limit_s:
                raise MediaError(name, f"longer than {limit_s:g} s; say start and stop, or read it in blocks")
            blocks.append(samples)
    return torch.cat(blocks, dim=1)


def _resampled(
    sound: ContainerSound, rate: int, mono: bool, first: int, last: int | None, meter: LevelMeter | None
) -> Generator[Tensor, None, None]:
    """Samples from number `first` to before `last` at `rate`, in chunks of any length."""
    resampler = Resampler(sound.sample_rate, rate, first)
    left = math.inf if last is None else last - first

    def made() -> Iterator[Tensor]:
        for chunk in sound.chunks(resampler.first_input):
            if meter is not None:
                meter.push(chunk)
            yield resampler.push(chunk.mean(dim=0, keepdim=True) if mono else chunk)
        yield resampler.finish()

    for chunk in made():
        if chunk.shape[1]:
            yield chunk if chunk.shape[1] <= left else chunk[:, : int(left)]
            left -= chunk.shape[1]
            if left <= 0:
                return


def _in_blocks(chunks: Iterator[Tensor], block: int) -> Iterator[Tensor]:
    waiting: list[Tensor] = []
    count = 0
    for chunk in chunks:
        while count + chunk.shape[1] >= block:
            missing = block - count
            yield torch.cat([*waiting, chunk[:, :missing]], dim=1)
            chunk, waiting, count = chunk[:, missing:], [], 0
        if chunk.shape[1]:
            waiting.append(chunk)
            count += chunk.shape[1]
    if waiting:
        yield torch.cat(waiting, dim=1)
