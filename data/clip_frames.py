"""Frames of video clips as pictures: clips of a folder or a WebDataset tar, one example per clip and time.

Opening reads each clip's length; pictures are decoded on access, a span of neighbours at once, because every frame
between two key frames is decoded anyway. Times are seconds from the clip's first frame.
"""

import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

from PIL import Image

from .folders import Entry, Example, Examples, NothingFoundError, Piece, find_entries
from .media import MAX_BYTES, WHITE, MediaError
from .open_media import Source
from .open_video import open_video
from .upright import Upright
from .video import shown_at

CLIP_SUFFIXES = tuple(".mp4 .m4v .mov .webm .mkv .avi .mpg .mpeg .ogv".split())  # a .gif or .webp may be one picture
MAX_SIDE = 480  # pixels of the longer side that is kept, unless less is asked for
MIN_STRIDE = 1e-6  # seconds
MAX_FRAMES = 100_000  # examples of one clip
SPAN = 64  # examples of one clip that are decoded at once
CACHE_BYTES = 1 << 29


def clip_length(source: Source, name: str) -> Fraction:
    """Seconds of a clip, from its header; where that is silent, from its packets, without decoding."""
    with open_video(source, name, keep_decodable=True) as clip:
        return clip.seconds()


def pictures_at(source: Source, times: Sequence[Fraction], name: str, max_side: int = MAX_SIDE) -> list[Image.Image]:
    """The pictures that a clip shows at rising `times`; fewer of them if it ends before the last, whole or cut off."""
    with open_video(source, name, keep_decodable=True) as clip:
        upright = Upright(clip.pixel_aspect, WHITE)
        shown = shown_at(clip.frames(times[0]), times, clip.rounding)
        return [Image.fromarray(upright.picture(frame, _small(upright.size(frame), max_side))) for frame in shown]


def _source(piece: Piece) -> Source:
    """A file of its own is read as it is needed, a member of a tar as a whole."""
    return piece.path if piece.size is None else piece.read(MAX_BYTES)


def _small(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(H, W) of the same shape, at most `max_side` high and wide."""
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


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
        if not MIN_STRIDE <= stride < math.inf:
            raise ValueError(f"stride must be at least {MIN_STRIDE} seconds, got {stride}")
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
        length = clip_length(_source(entry.image), entry.image.name)
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
            return pictures_at(_source(piece), times, piece.name, self.max_side)
        except MediaError as error:
            return error


def _bytes_of(pictures: list[Image.Image] | MediaError) -> int:
    return 0 if isinstance(pictures, MediaError) else sum(3 * image.width * image.height for image in pictures)
