"""Video of any length as blocks of frames: resampled by time, upright, in flat memory.

T frames, H W pixels. A block is uint8 (3, T, H, W), RGB; `media.from_uint8` makes floats of it. Times are seconds from
the clip's first frame, and a frame stays on the screen until the next one comes; the last one for as long as the file
says.
"""

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, takewhile
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .clip import MAX_CLIP_PIXELS, Clip, TimedFrame, check_pixels
from .media import WHITE, MediaError
from .open_media import Source
from .open_video import open_video
from .upright import Upright

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av import VideoFrame

MAX_FPS = 1000
MAX_BLOCK_BYTES = 2**26  # a block of large frames has fewer of them


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is, as `read_video` gives it when it is not told otherwise."""

    height: int  # pixels, upright and square
    width: int
    fps: Fraction  # frames per second; the mean where they vary
    seconds: Fraction
    num_frames: int | None  # as the header says, if it does
    has_audio: bool


def probe_video(source: Source, *, name: str | None = None) -> VideoInfo:
    """The facts of a video; one frame is decoded, the rest comes from the header.

    Raises:
        MediaError: as `read_video`.
    """
    with open_video(source, name, keep_decodable=True) as clip:
        first = next(clip.frames(), None)
        if first is None:
            raise MediaError(clip.name, "no frame can be decoded")
        height, width = Upright(clip.pixel_aspect, WHITE).size(first.frame)
        check_pixels(width, height, clip.name)
        return VideoInfo(height, width, clip.fps, clip.seconds(), clip.num_frames, clip.has_audio)


def read_video(
    source: Source,
    *,
    fps: float | Fraction | None = None,
    size: int | tuple[int, int] | None = None,
    start: float | Fraction = 0.0,
    stop: float | Fraction | None = None,
    block: int = 32,
    background: tuple[int, int, int] = WHITE,
    keep_decodable: bool = False,
    name: str | None = None,
) -> Generator[Tensor, None, None]:
    """A video as blocks, uint8 (3, T, H, W), of `block` frames (of large ones fewer; the last has what is left).

    `fps` gives what is on the screen at `start` + k / fps; None the frames of the file that begin in `start` to `stop`
    (seconds; None is the end). `size` is (H, W), filled by the centre of the frames, or the side of a square; None is
    the first frame's own size. Transparency lies on `background`. `source` is a path, all bytes of a file, or a file
    that can seek; `name` is what messages call it. The file is closed at the end, or with the generator.

    A file that is cut off is refused at once, and one that is damaged when the place is met, after the blocks before
    it; with `keep_decodable` the frames that are whole are given instead.

    Raises:
        ValueError: an option is out of its range; at the call.
        MediaError: the file is broken, beyond a limit, no video, or has no frame in that time; at the first block, or
            when the place is met. One line that names the file.
    """
    if not math.isfinite(start) or (fps is not None and not math.isfinite(fps)):
        raise ValueError(f"start and fps must be finite, got {start} and {fps}")
    first = Fraction(start).limit_denominator(1_000_000)
    last = None if stop is None or stop == math.inf else Fraction(stop).limit_denominator(1_000_000)
    rate = None if fps is None else Fraction(fps).limit_denominator(1_000_000)
    if first < 0 or (last is not None and last <= first):
        raise ValueError(f"start must be 0 seconds or more, and stop more than start, got {start} and {stop}")
    if rate is not None and not 0 < rate <= MAX_FPS:
        raise ValueError(f"fps must be more than 0 and at most {MAX_FPS}, got {fps}")
    if isinstance(size, int):
        size = size, size
    if size is not None and (min(size) < 1 or size[0] * size[1] > MAX_CLIP_PIXELS):
        raise ValueError(f"size must be (height, width) of 1 to {MAX_CLIP_PIXELS:,} pixels, or one side, got {size}")
    if block < 1:
        raise ValueError(f"block must be at least 1 frame, got {block}")

    def blocks() -> Generator[Tensor, None, None]:
        with open_video(source, name, keep_decodable=keep_decodable) as clip:
            frames = clip.frames(first)
            if rate is None:
                chosen = _beginning_in(frames, first - clip.rounding, last and last - clip.rounding)
            else:
                times = (first + k / rate for k in count())
                chosen = shown_at(frames, takewhile(lambda time: last is None or time < last, times), clip.rounding)
            yield from _stacked(clip, chosen, size, block, background)

    return blocks()


def shown_at(
    frames: Iterator[TimedFrame], times: Iterable[Fraction], rounding: Fraction = Fraction(0)
) -> Iterator["VideoFrame"]:
    """What is on the screen at each of rising `times`, until the last frame's end; `rounding` is the clip's."""
    shown, following = next(frames, None), next(frames, None)
    for time in times:
        while following is not None and following.time - rounding <= time:
            shown, following = following, next(frames, None)
        if shown is None or (following is None and shown.time + shown.duration - rounding <= time):
            return
        yield shown.frame


def _beginning_in(frames: Iterator[TimedFrame], start: Fraction, stop: Fraction | None) -> Iterator["VideoFrame"]:
    for shown in frames:
        if stop is not None and shown.time >= stop:
            return
        if shown.time >= start:
            yield shown.frame


def _stacked(
    clip: Clip,
    frames: Iterator["VideoFrame"],
    size: tuple[int, int] | None,
    block: int,
    background: tuple[int, int, int],
) -> Generator[Tensor, None, None]:
    upright = Upright(clip.pixel_aspect, background)
    pictures: list[np.ndarray] = []
    found = False
    for frame in frames:
        found = True
        if size is None:
            size = upright.size(frame)
            check_pixels(*size[::-1], clip.name)  # pixels that are not square may make much of little
        pictures.append(upright.picture(frame, size))
        if len(pictures) == block or len(pictures) * pictures[0].nbytes >= MAX_BLOCK_BYTES:
            yield _block(pictures)
            pictures = []
    if pictures:
        yield _block(pictures)
    if not found:
        raise MediaError(clip.name, "no frame can be decoded, or none lies in the time asked for")


def _block(pictures: list[np.ndarray]) -> Tensor:
    return rearrange([torch.from_numpy(picture) for picture in pictures], "T H W C -> C T H W").contiguous()
