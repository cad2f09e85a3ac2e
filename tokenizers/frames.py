"""Clips the plain way: one frame in so many, each through an image tokenizer, and held for as long as it stands for.

B clips, T frames, t coded frames, h w grid. It knows no motion; what it costs and what it gives is the measure for
video.py, which does.
"""

import math

import torch
from einops import repeat
from torch import Tensor

from .protocol import MediaTokenizer, check_clip_ids, check_clips, check_size, crop, fingerprint_of
from .streaming import BlockStream

FORMAT_VERSION = 1


class FramesTokenizer:
    """Clips <-> ids of one frame of each `stride`: the middle one, which is the nearest to all that it stands for."""

    def __init__(self, image_tokenizer: MediaTokenizer, stride: int = 1):
        if stride < 1:
            raise ValueError(f"stride must be at least 1 frame, got {stride}")
        self.image_tokenizer, self.stride = image_tokenizer, stride

    @property
    def vocab_size(self) -> int:
        return self.image_tokenizer.vocab_size

    @property
    def fingerprint(self) -> str:
        """sha256 over class, format, stride and the image tokenizer's own; ids are only good under the same one."""
        config = {"stride": self.stride, "image_tokenizer": self.image_tokenizer.fingerprint}
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, config, {})

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Frames and pixels (T, H, W) -> codes (t, h, w)."""
        return math.ceil(size[0] / self.stride), *self.image_tokenizer.grid(size[1:])

    def stream(self) -> BlockStream:
        """Frames (B, 3, T, H, W), float32 in [-1, 1], pushed in pieces -> int64 ids (B, t, h, w)."""

        def run(frames: Tensor) -> Tensor:
            return self.image_tokenizer.encode(frames[:, :, self.stride // 2]).unsqueeze(1)

        def nothing(frames: Tensor) -> Tensor:
            grid = self.image_tokenizer.grid(tuple(frames.shape[3:]))
            return torch.empty(len(frames), 0, *grid, dtype=torch.long, device=frames.device)

        return BlockStream(run, nothing, check_clips, first=self.stride, block=self.stride, time=2, time_out=1)

    def decode_stream(self) -> BlockStream:
        """Int64 ids (B, t, h, w), pushed in pieces -> frames (B, 3, T, H, W), `stride` for each."""

        def run(ids: Tensor) -> Tensor:
            return repeat(self.image_tokenizer.decode(ids[:, 0]), "B C H W -> B C k H W", k=self.stride)

        def nothing(ids: Tensor) -> Tensor:
            picture = self.image_tokenizer.decode(ids.new_zeros(len(ids), *ids.shape[2:]))  # it alone knows the size
            return picture.unsqueeze(2)[:, :, :0]

        return BlockStream(run, nothing, check_clip_ids, first=1, block=1, time=1, time_out=2)

    def encode(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), float32 in [-1, 1] -> int64 ids (B, t, h, w) in [0, vocab_size).

        Raises:
            ValueError: not a batch of RGB clips in range.
        """
        return self.stream().whole(clips)

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, t, h, w) -> clips (B, 3, T, H, W), float32 in [-1, 1], cropped to `size` = (T, H, W) if given.

        Raises:
            ValueError: ids out of range, or a size whose grid is not that of the ids.
        """
        if size is not None:
            check_size(size, self.grid(size), ids)
        return crop(self.decode_stream().whole(ids), size)
