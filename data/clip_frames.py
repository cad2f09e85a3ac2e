"""Frames of video clips as pictures: clips of a folder or a WebDataset tar, one example per clip and time.

Read with PyAV (FFmpeg), imported on use. Opening reads each clip's length; pictures are decoded on access, a span of
neighbours at once, because every frame between two key frames is decoded anyway. Times are seconds from the clip's
first frame. Clips are hostile: containers that name other files (playlists) are not opened, and bytes, pixels and
frames are bounded first.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import accumulate
from typing import Any

from PIL import Image

from .folders import Entry, Example, Examples, NothingFoundError, find_entries
from .media import MAX_BYTES, MediaError

CLIP_SUFFIXES = tuple(".mp4 .m4v .mov .webm .mkv .avi .mpg .mpeg .ogv".split())
FORMATS = "mov,matroska,avi,mpeg,ogg"  # FFmpeg's demuxers for these; none opens a second file
_INDEXED = ("mov", "matroska", "avi")  # those that know where key frames lie; elsewhere a seek may land between them
MAX_CLIP_PIXELS = 3840 * 2160  # of one frame, before it is made smaller
MAX_SIDE = 480  # pixels of the longer side that is kept, unless less is asked for
MAX_FRAMES = 100_000  # examples of one clip
SPAN = 64  # examples of one clip that are decoded at once
CACHE_BYTES = 1 << 29
_SLACK = Fraction(1, 1_000_000)  # seconds: a time like 0.3 is not exact in binary


@contextmanager
def open_clip(data: bytes, name: str) -> Iterator[tuple[Any, Any]]:
    """The container and the first video stream of a clip; closed on the way out, however one leaves.

    Raises:
        MediaError: whatever FFmpeg says about the clip, here or inside the block.
    """
    import av

    try:
        with av.open(
            io.BytesIO(data),
            container_options={"format_whitelist": FORMATS},
            options={"max_pixels": str(MAX_CLIP_PIXELS)},
            metadata_errors="replace",
        ) as container:
            streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            if not streams:
                raise MediaError(name, "no video stream")
            width, height = streams[0].width, streams[0].height
            if not 0 < width * height <= MAX_CLIP_PIXELS:
                raise MediaError(name, f"{width} x {height} pixels; a frame may have 1 to {MAX_CLIP_PIXELS:,}")
            streams[0].thread_type = "NONE"  # frame threads can hang when decoding stops early (PyAV #1849)
            yield container, streams[0]
    except MediaError:
        raise
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise MediaError(name, getattr(error, "strerror", None) or error) from error


def clip_length(data: bytes, name: str) -> Fraction:
    """Seconds of a clip, from its header; where that is silent, from its packets, without decoding."""
    with open_clip(data, name) as (container, stream):
        if stream.duration:
            return stream.duration * stream.time_base
        if container.duration:
            return Fraction(container.duration, 1_000_000)
        ends = [packet.pts + (packet.duration or 0) for packet in container.demux(stream) if packet.pts is not None]
        return (max(ends, default=0) - (stream.start_time or 0)) * stream.time_base


def pictures_at(data: bytes, times: Sequence[Fraction], name: str, max_side: int = MAX_SIDE) -> list[Image.Image]:
    """The pictures that a clip shows at rising `times`; fewer of them if its last frame starts before the last time."""
    pictures = _decode_at(data, times, name, max_side, seek=times[0] > 0)
    if pictures is None:  # the index was wrong: the seek came out too late
        pictures = _decode_at(data, times, name, max_side, seek=False)
    return pictures or []


def _decode_at(
    data: bytes, times: Sequence[Fraction], name: str, max_side: int, seek: bool
) -> list[Image.Image] | None:
    pictures: list[Image.Image] = []
    with open_clip(data, name) as (container, stream):
        start, base = stream.start_time or 0, stream.time_base
        if seek and container.format.name.startswith(_INDEXED):
            container.seek(start + int(times[0] / base), stream=stream)
        shown = None  # what is on the screen until the next frame comes
        for frame in container.decode(stream):
            if frame.pts is None:
                raise MediaError(name, "a frame without a time")
            moment = (frame.pts - start) * base
            if seek and shown is None and moment > times[0] + _SLACK:
                return None
            while shown is not None and moment > times[len(pictures)] + _SLACK:
                pictures.append(_picture(shown, stream.sample_aspect_ratio, name, max_side))
                if len(pictures) == len(times):
                    return pictures
            shown = frame
        if shown is not None:
            pictures.append(_picture(shown, stream.sample_aspect_ratio, name, max_side))
    return pictures


def _picture(frame: Any, pixel_aspect: Fraction | None, name: str, max_side: int) -> Image.Image:
    """RGB, upright, with square pixels, at most `max_side` wide and high."""
    if frame.width * frame.height > MAX_CLIP_PIXELS:
        raise MediaError(name, f"a frame of {frame.width} x {frame.height} pixels")
    width, height = float(frame.width * (pixel_aspect or 1)), float(frame.height)
    scale = min(1.0, max_side / max(width, height))
    size = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
    image: Image.Image = frame.to_image(**size, interpolation="BICUBIC")
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


class ClipFrames:
    """Frames of clips, `stride` seconds apart, as examples; the caption and the details are the clip's.

    `failed` lists the clips that were left out. What is met only while decoding is a MediaError on access.

    Raises:
        ValueError: `stride` is not positive, or no clip can be read; and as `find_entries`.
    """

    def __init__(
        self,
        paths: str | os.PathLike | Sequence[str | os.PathLike],
        stride: float = 0.5,
        max_side: int = MAX_SIDE,
    ):
        if not stride > 0:
            raise ValueError(f"stride must be more than 0 seconds, got {stride}")
        self.max_side = max_side
        self.stride = Fraction(stride).limit_denominator(1_000_000)
        self.failed: list[MediaError] = []
        entries: list[Entry] = []
        counts: list[int] = []
        for entry in find_entries(paths, "clips", CLIP_SUFFIXES):
            try:
                counts.append(self._count(entry))
                entries.append(entry)
            except MediaError as error:
                self.failed.append(error)
        if not entries:
            raise NothingFoundError(f"none of {len(self.failed)} clips can be read, the last: {self.failed[-1]}")
        self._clips = Examples(entries)
        self._ends = list(accumulate(counts))
        self._cache: dict[tuple[int, int], list[Image.Image] | MediaError] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        clip, number = self._find(index)
        span, place = divmod(number, SPAN)
        pictures = self._span(clip, span)
        entry, time = self._clips.entries[clip], float(number * self.stride)
        if place >= len(pictures):
            raise MediaError(entry.image.name, f"no picture at {time:g} s: the clip is shorter than its header says")
        extra = {**self._clips.extra(clip), "time": time}
        return Example(f"{entry.key}@{time:g}s", self._clips.caption(clip), pictures[place], extra)

    @property
    def clips(self) -> list[range]:
        """The examples of each clip, in the order of time."""
        return [range(start, end) for start, end in zip([0, *self._ends], self._ends, strict=False)]

    def caption(self, index: int) -> str | None:
        return self._clips.caption(self._find(index)[0])

    def _find(self, index: int) -> tuple[int, int]:
        """(clip, number of the frame in it)."""
        index = range(len(self))[index]  # negative ones too; IndexError beyond the end
        clip = bisect_right(self._ends, index)
        return clip, index - (self._ends[clip - 1] if clip else 0)

    def _count(self, entry: Entry) -> int:
        length = clip_length(entry.image.read(MAX_BYTES), entry.image.name)
        count = max(1, -int(-length // self.stride))  # times 0, stride, ... before the end
        if count > MAX_FRAMES:
            raise MediaError(entry.image.name, f"{float(length):,.0f} s give {count:,} frames; take a larger stride")
        return count

    def _span(self, clip: int, span: int) -> list[Image.Image]:
        """Decoded once and kept, the longest unused leaving first; a broken span stays broken."""
        found = self._cache.pop((clip, span), None)
        if found is None:
            found = self._decode(clip, span)
            self._cached_bytes += _bytes_of(found)
        self._cache[clip, span] = found
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= _bytes_of(self._cache.pop(next(iter(self._cache))))
        if isinstance(found, MediaError):
            raise MediaError(found.name, found.reason)
        return found

    def _decode(self, clip: int, span: int) -> list[Image.Image] | MediaError:
        count = self._ends[clip] - (self._ends[clip - 1] if clip else 0)
        times = [number * self.stride for number in range(span * SPAN, min(count, (span + 1) * SPAN))]
        piece = self._clips.entries[clip].image
        try:
            return pictures_at(piece.read(MAX_BYTES), times, piece.name, self.max_side)
        except MediaError as error:
            return error


def _bytes_of(pictures: list[Image.Image] | MediaError) -> int:
    return 0 if isinstance(pictures, MediaError) else sum(3 * image.width * image.height for image in pictures)
