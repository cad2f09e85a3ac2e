"""What every open video file offers, whoever decodes it: its facts, and its frames in order, each with its time.

Times are seconds from the clip's first frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from .media import MediaError

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av import VideoFrame

MAX_CLIP_PIXELS = 4096 * 2304  # of one frame


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A decoded frame, as it is stored, and when it is on the screen."""

    time: Fraction
    duration: Fraction  # as the file says
    frame: "VideoFrame"


class Clip(Protocol):
    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def fps(self) -> Fraction:
        """Frames per second, as the file says; the mean where they vary."""
        ...

    @property
    def num_frames(self) -> int | None:
        """As the header says, if it does."""
        ...

    @property
    def has_audio(self) -> bool: ...

    @property
    def pixel_aspect(self) -> Fraction:
        """A pixel's width over its height."""
        ...

    @property
    def rounding(self) -> Fraction:
        """Seconds by which the file's times may be rounded: a millisecond in Matroska, a hundredth in GIF."""
        ...

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame]:
        """The frames in order, from the one on the screen at `start`, or one before it, to the end.

        Raises:
            MediaError: the clip is damaged, or a frame beyond a limit.
        """
        ...

    def seconds(self) -> Fraction:
        """The clip's length as its header says; where that is silent, the file is read to its end to find out."""
        ...


def check_pixels(width: int, height: int, name: str) -> None:
    """
    Raises:
        MediaError: a frame of this size is none, or beyond the limit.
    """
    if not 0 < width * height <= MAX_CLIP_PIXELS:
        raise MediaError(name, f"{width} x {height} pixels; a frame may have 1 to {MAX_CLIP_PIXELS:,}")
