"""Clips of animated WebP, which FFmpeg cannot decode and Pillow can."""

import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from typing import BinaryIO

import numpy as np
from PIL import Image

from .clip import TimedFrame, check_pixels
from .media import MAX_BYTES, MediaError

_TOO_SHORT, _INSTEAD = 10, 100  # milliseconds: what is no longer is shown for a tenth of a second, as in browsers


class WebPClip:
    """An animated WebP as a `Clip`; whoever opened the file closes it. Pillow reads it whole, so its size is bounded.

    Raises:
        MediaError: it is too large, or no WebP.
    """

    has_audio = False
    pixel_aspect = Fraction(1)
    rounding = Fraction(1, 1000)

    def __init__(self, file: BinaryIO, name: str, keep_decodable: bool):
        if file.seek(0, os.SEEK_END) > MAX_BYTES:
            raise MediaError(name, f"an animated WebP may have {MAX_BYTES:,} bytes, this one has more; make it a video")
        self.name, self.keep_decodable = name, keep_decodable
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large pictures; the limit here is ours
                self.image = Image.open(file, formats=["WEBP"])
        except Exception as error:  # Pillow raises anything
            raise MediaError(name, f"broken WebP ({error})") from error
        check_pixels(*self.image.size, name)
        self.num_frames: int | None = getattr(self.image, "n_frames", 1)

    @cached_property
    def _durations(self) -> list[Fraction]:
        return [shown.duration for shown in self.frames()]

    @property
    def fps(self) -> Fraction:
        return len(self._durations) / self.seconds() if self._durations else Fraction(1000, _INSTEAD)

    def seconds(self) -> Fraction:
        return sum(self._durations, Fraction(0))

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame]:
        from av import VideoFrame

        time = Fraction(0)
        for number in range(self.num_frames or 1):
            try:
                self.image.seek(number)
                pixels = np.asarray(self.image.convert("RGBA"))
            except Exception as error:  # Pillow raises anything
                if self.keep_decodable:
                    return  # each frame is drawn over the one before it
                raise MediaError(self.name, f"damaged at {float(time):.2f} s") from error
            milliseconds = int(self.image.info.get("duration", 0))
            duration = Fraction(milliseconds if milliseconds > _TOO_SHORT else _INSTEAD, 1000)
            yield TimedFrame(time, duration, VideoFrame.from_ndarray(pixels, format="rgba"))
            time += duration
