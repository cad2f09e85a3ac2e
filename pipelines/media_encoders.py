"""One file -> its ids, for each modality. What one file can cause is a `MediaError`, or a ValueError about it.

B is 1. T frames, H W pixels, t h w grid of ids, S samples, K codebooks. Each depends on the file alone, so it can run
anywhere.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..data.audio import probe_audio, read_blocks
from ..data.files import sha256_of_file
from ..data.levels import LevelMeter
from ..data.media import MediaError, fit, from_uint8, read_bytes, read_image, to_tensor, to_uint8
from ..data.run_ahead import run_ahead
from ..data.shard_format import sha256
from ..data.shards import Source, Tokens
from ..data.video import probe_video, read_video
from ..tokenizers.protocol import MediaTokenizer
from .workers import Report

BLOCK = 16  # frames that are read at once; the ids do not depend on it
SAMPLES = 16_000  # samples that are, likewise


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
    """A tokenizer of clips or sounds whose ids do not depend on how they are cut."""

    def stream(self) -> Stream: ...
    def decode_stream(self) -> Stream: ...


class SoundTokenizer(StreamingTokenizer, Protocol):
    """A tokenizer of sounds of one channel."""

    @property
    def sample_rate(self) -> int:
        """Hz of the sounds that it takes and gives."""
        ...


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
        _check_unchanged(source)
        return Tokens(ids, {"frames": size[0], "size": list(size[1:]), "fps": float(fps)})


@dataclass(frozen=True)
class AudioEncoder:
    """A sound of any length, or the sound track of a video -> ids (t, K); one channel, at the tokenizer's rate.

    Reading runs ahead of the tokenizer in its own thread. Of the sound no more than a few blocks are in memory.
    """

    tokenizer: SoundTokenizer
    device: torch.device | str

    def __call__(self, source: Source, report: Report) -> Tokens:
        rate, meter = self.tokenizer.sample_rate, LevelMeter()
        seconds = probe_audio(source.path).seconds or 1.0
        bytes_of_sample = source.num_bytes / max(1.0, seconds * rate)  # as far as the header tells the truth
        sounds = read_blocks(source.path, sample_rate=rate, block=SAMPLES, meter=meter)
        with closing(run_ahead(sounds)) as blocks:
            ids, samples = encode_sound(blocks, self.tokenizer, self.device, lambda n: report(n * bytes_of_sample))
        _check_unchanged(source)
        return Tokens(ids, {"samples": samples, "sample_rate": rate, "levels": asdict(meter.levels())})


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


@torch.no_grad()
def encode_sound(
    blocks: Iterable[Tensor],
    tokenizer: SoundTokenizer,
    device: torch.device | str = "cpu",
    on_samples: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, int]:
    """Blocks of one sound, float32 (1, S) at the tokenizer's rate -> ids (t, K) and the sound's S."""
    stream = tokenizer.stream()
    small = torch.uint8 if tokenizer.vocab_size <= 256 else torch.int32  # what grows with the sound
    pieces: list[Tensor] = []
    samples = 0
    for block in blocks:
        pieces.append(stream.push(block[None].to(device))[0].to("cpu", small))
        samples += block.shape[1]
        on_samples(block.shape[1])
    pieces.append(stream.finish()[0].to("cpu", small))
    return rearrange(torch.cat(pieces, dim=1), "K t -> t K").contiguous().numpy(), samples


@torch.no_grad()
def decode_sound(
    ids: Iterable[Tensor], samples: int, tokenizer: SoundTokenizer, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Pieces of ids (t, K) of one sound, and its S -> its samples in blocks, float32 (1, S)."""
    stream = tokenizer.decode_stream()
    for piece in ids:
        sound = stream.push(rearrange(piece, "t K -> 1 K t").to(device))[0, :, :samples].cpu()
        samples -= sound.shape[1]
        yield sound
    yield stream.finish()[0, :, :samples].cpu()


def _check_unchanged(source: Source) -> None:
    if sha256_of_file(source.path) != source.sha256:
        raise MediaError(str(source.path), "changed while it was being read; run again")


def _read_unchanged(source: Source) -> bytes:
    data = read_bytes(source.path)
    if sha256(data) != source.sha256:
        raise MediaError(str(source.path), "changed while it was being read; run again")
    return data
