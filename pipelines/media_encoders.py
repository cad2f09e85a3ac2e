"""One file -> its ids, for each modality. What one file can cause is a `MediaError`, or a ValueError about it.

B is 1. T frames, H W pixels, t h w grid of ids. Each depends on the file alone, so it can run anywhere.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.files import sha256_of_file
from ..data.media import MediaError, fit, from_uint8, read_bytes, read_image, to_tensor, to_uint8
from ..data.run_ahead import run_ahead
from ..data.shard_format import sha256
from ..data.shards import Source, Tokens
from ..data.video import probe_video, read_video
from ..tokenizers.protocol import MediaTokenizer
from .workers import Report

BLOCK = 16  # frames that are read at once; the ids do not depend on it


class ByteTokenizer(Protocol):
    """What of a text tokenizer is used here."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_bytes(self, data: bytes) -> list[int]: ...
    def decode_bytes(self, ids: list[int]) -> bytes: ...


class Stream(Protocol):
    """Chunks in, what is complete out; at last the rest. On the time axis, with B in front."""

    def push(self, chunk: Tensor) -> Tensor: ...
    def finish(self) -> Tensor: ...


class StreamingTokenizer(MediaTokenizer, Protocol):
    """A tokenizer of clips whose ids do not depend on how the clip is cut."""

    def stream(self) -> Stream: ...
    def decode_stream(self) -> Stream: ...


@dataclass(frozen=True)
class TextEncoder:
    """Any bytes -> one row of ids."""

    tokenizer: ByteTokenizer

    def __call__(self, source: Source, report: Report) -> Tokens:
        data = _read_unchanged(source)
        return Tokens(np.array(self.tokenizer.encode_bytes(data), np.int64), {"bytes": len(data)})


@dataclass(frozen=True)
class ImageEncoder:
    """A picture -> ids (h, w); as a square of `size` pixels, or at its own size."""

    tokenizer: MediaTokenizer
    size: int | None
    background: tuple[int, int, int]
    max_pixels: int
    device: torch.device | str

    def __call__(self, source: Source, report: Report) -> Tokens:
        image = read_image(
            _read_unchanged(source), background=self.background, max_pixels=self.max_pixels, name=str(source.path)
        )
        image = image if self.size is None else fit(image, self.size)
        with torch.no_grad():
            ids = self.tokenizer.encode(to_tensor(image)[None].to(self.device))[0]
        return Tokens(ids.cpu().numpy(), {"size": [image.height, image.width]})


@dataclass(frozen=True)
class VideoEncoder:
    """A clip of any length -> ids (t, h, w), at its own rate and size, or at `fps` and as a square of `size` pixels.

    Reading runs ahead of the tokenizer in its own thread. Of the clip no more than a few blocks are in memory.
    """

    tokenizer: StreamingTokenizer
    fps: float | None
    size: int | None
    background: tuple[int, int, int]
    device: torch.device | str

    def __call__(self, source: Source, report: Report) -> Tokens:
        info = probe_video(source.path)
        fps = info.fps if self.fps is None else Fraction(self.fps)
        bytes_of_frame = source.num_bytes / max(1.0, float(info.seconds * fps))  # as far as the header tells the truth
        frames = read_video(source.path, fps=self.fps, size=self.size, background=self.background, block=BLOCK)
        with closing(run_ahead(frames)) as blocks:
            ids, size = encode_clip(blocks, self.tokenizer, self.device, lambda count: report(count * bytes_of_frame))
        if sha256_of_file(source.path) != source.sha256:
            raise MediaError(str(source.path), "changed while it was being read; run again")
        return Tokens(ids, {"frames": size[0], "size": list(size[1:]), "fps": float(fps)})


@torch.no_grad()
def encode_clip(
    blocks: Iterable[Tensor],
    tokenizer: StreamingTokenizer,
    device: torch.device | str = "cpu",
    on_frames: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Blocks of one clip, uint8 (3, T, H, W) -> ids (t, h, w) and the clip's (T, H, W)."""
    stream = tokenizer.stream()
    pieces: list[Tensor] = []
    frames = height = width = 0
    for block in blocks:
        ids = stream.push(from_uint8(block[None].to(device)))
        pieces.append(ids[0].to("cpu", torch.int32))  # what grows with the clip is small
        frames, (height, width) = frames + block.shape[1], block.shape[2:]
        on_frames(block.shape[1])
    pieces.append(stream.finish()[0].to("cpu", torch.int32))
    return torch.cat(pieces).numpy(), (frames, height, width)


@torch.no_grad()
def decode_clip(
    ids: Iterable[Tensor],
    size: tuple[int, int, int],
    tokenizer: StreamingTokenizer,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Pieces of ids (t, h, w) of one clip, and its (T, H, W) -> its frames in blocks, uint8 (3, T, H, W)."""
    stream = tokenizer.decode_stream()
    frames, height, width = size

    def pixels(clip: Tensor) -> Tensor:
        nonlocal frames
        clip = clip[0, :, :frames, :height, :width]
        frames -= clip.shape[1]
        return to_uint8(clip).cpu()

    for piece in ids:
        yield pixels(stream.push(piece[None].to(device)))
    yield pixels(stream.finish())


def _read_unchanged(source: Source) -> bytes:
    data = read_bytes(source.path)
    if sha256(data) != source.sha256:
        raise MediaError(str(source.path), "changed while it was being read; run again")
    return data
