"""Decoded frames as they are meant to be seen: RGB, upright, with square pixels, on a ground, at the size asked for.

H W pixels of the picture that is seen, after rotation. FFmpeg's scaler turns any format, 10 bits a channel included,
into 8-bit RGB and resizes with a bicubic filter that is wide enough not to alias. Mirrored display matrices are taken
for plain rotations.
"""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .clip import MAX_CLIP_PIXELS

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av import VideoFrame

_UNSPECIFIED = 2  # FFmpeg's number for "the file does not say which colors its numbers mean"
_HD = 720  # lines; from here on players then assume BT.709, below it BT.601, as the scaler does


class Upright:
    """Turns the frames of one clip into pictures."""

    def __init__(self, pixel_aspect: Fraction, background: tuple[int, int, int]):
        from av.video.reformatter import VideoReformatter

        self.pixel_aspect, self.background = pixel_aspect, np.array(background, np.float32)
        self.scaler = VideoReformatter()

    def size(self, frame: "VideoFrame") -> tuple[int, int]:
        """(H, W) at which a frame is seen, with square pixels, none of its lines left out."""
        height, width = frame.height, max(1, round(frame.width * self.pixel_aspect))
        return (width, height) if _quarters(frame) % 2 else (height, width)

    def picture(self, frame: "VideoFrame", size: tuple[int, int]) -> np.ndarray:
        """The centre of a frame, as large as fills `size`: uint8 (H, W, 3).

        Raises:
            ValueError: the frame is so long and thin that filling `size` would make it huge.
        """
        quarters = _quarters(frame)
        height, width = size[::-1] if quarters % 2 else size  # as it is stored
        square_width = frame.width * self.pixel_aspect
        scale = max(Fraction(height, frame.height), width / square_width)
        tall, wide = max(height, round(frame.height * scale)), max(width, round(square_width * scale))
        if tall * wide > max(MAX_CLIP_PIXELS, 4 * height * width):
            raise ValueError(
                f"{frame.width} x {frame.height} pixels are too long and thin to fill {size[1]} x {size[0]}"
            )
        if any(component.is_alpha for component in frame.format.components):
            frame = self._on_background(frame)
        pixels = self._reformat(frame, "rgb24", (tall, wide)).to_ndarray()
        top, left = (tall - height) // 2, (wide - width) // 2
        return np.ascontiguousarray(np.rot90(pixels[top : top + height, left : left + width], quarters))

    def _reformat(self, frame: "VideoFrame", format: str, size: tuple[int, int]) -> "VideoFrame":
        from av.video.reformatter import Colorspace, Interpolation

        untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD and not frame.format.is_rgb
        return self.scaler.reformat(
            frame,
            size[1],
            size[0],
            format,
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            threads=1,  # work is shared out by files, and the same bytes come out everywhere
        )

    def _on_background(self, frame: "VideoFrame") -> "VideoFrame":
        from av import VideoFrame

        pixels = self._reformat(frame, "rgba", (frame.height, frame.width)).to_ndarray().astype(np.float32)
        color, alpha = pixels[..., :3], pixels[..., 3:] / 255
        seen = np.rint(self.background + (color - self.background) * alpha).astype(np.uint8)
        return VideoFrame.from_ndarray(seen, format="rgb24")


def _quarters(frame: "VideoFrame") -> int:
    """Quarter turns, counterclockwise, that make a frame upright."""
    return round(frame.rotation / 90) % 4
