"""The spectral vocoder of the learned sound tokenizers: sound -> log-mel frames, latents -> sound (arXiv:2306.00814).

B sounds, t latents (50 a second), n steps (100 a second), D latent dimensions. Sounds are float32 in [-1, 1] at 16 kHz.
A frame of 30 ms ends with each step of 10 ms. The decoder says magnitude and phase of the spectrum of each frame, and
the inverse transforms, windowed, overlap and add up to the sound. No layer runs above 100 Hz, so one core suffices.
Beside the network runs a linear map, from latents to log-magnitudes, with phases that put one pulse into the middle of
each frame. A step of sound is complete with the last frame that reaches it, `DELAY` samples later.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .image import zeroed
from .mel import mel_filters
from .protocol import check_sound_ids, check_sounds
from .streaming import BlockStream, Cache, CausalConv, TrimmedStream, with_past

SAMPLE_RATE = 16_000  # Hz
STEP = 160  # samples
OVERLAP = 3  # steps of a frame
FRAME = OVERLAP * STEP
HOP = 2 * STEP  # samples of a latent
DELAY = FRAME - STEP  # samples
BLOCK = 10  # latents on which the networks run at once: 0.2 s
NUM_MELS = 64
NUM_BINS = FRAME // 2 + 1
FLOOR = 1e-3  # of mel energies, magnitudes and levels: what is below counts as silence
MAX_LOG_MAGNITUDE = math.log(FRAME)  # no frame in [-1, 1] has more


class DecoderSizes(Protocol):
    """What a config says of the decoder."""

    @property
    def dims(self) -> int:
        """Latent dimensions, the first two of them of the pulses."""
        ...

    @property
    def width(self) -> int:
        """Channels at 50 Hz."""
        ...

    @property
    def fine_width(self) -> int:
        """Channels at 100 Hz."""
        ...

    @property
    def decoder_blocks(self) -> int:
        """At 50 Hz."""
        ...

    @property
    def fine_blocks(self) -> int:
        """At 100 Hz."""
        ...

    @property
    def window(self) -> int:
        """Steps that a block looks at: its own and those before."""
        ...


class LogMel(nn.Module):
    """Frames (..., FRAME) -> log(1 + energy / FLOOR) in each mel band, (..., NUM_MELS), 0 for silence. No weights."""

    hann: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("hann", torch.hann_window(FRAME), persistent=False)
        self.register_buffer("filters", mel_filters(NUM_MELS, FRAME, SAMPLE_RATE).T, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        return torch.log1p(torch.fft.rfft(frames * self.hann).abs() @ self.filters / FLOOR)


class Block(nn.Module):
    """x + out(silu(conv(norm(x)))) for x (B, t, C); `out` starts at zero, so that a fresh block is the identity."""

    def __init__(self, width: int, window: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.conv = CausalConv(width, 2 * width, window)
        self.out = zeroed(nn.Linear(2 * width, width))

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        return x + self.out(F.silu(self.conv(self.norm(x.float()), cache)))


class Decoder(nn.Module):
    """Latents (B, t, D) in (-1, 1) -> steps of sound (B, 2 t, STEP), `DELAY` samples late, not clamped."""

    hann: Tensor
    frequencies: Tensor  # radians per sample

    def __init__(self, config: DecoderSizes):
        super().__init__()
        self.register_buffer("hann", torch.hann_window(FRAME), persistent=False)
        frequencies = 2 * math.pi / FRAME * torch.arange(NUM_BINS)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.linear = nn.Linear(config.dims, 2 * NUM_BINS)
        self.stem = CausalConv(config.dims, config.width, config.window)
        self.blocks = nn.ModuleList(Block(config.width, config.window) for _ in range(config.decoder_blocks))
        self.up = nn.Linear(config.width, 2 * config.fine_width)
        self.fine_blocks = nn.ModuleList(Block(config.fine_width, config.window) for _ in range(config.fine_blocks))
        self.head = zeroed(nn.Linear(config.fine_width, 2 * NUM_BINS))

    def forward(self, latents: Tensor, cache: Cache) -> Tensor:
        x = self.stem(latents, cache)
        for block in self.blocks:
            x = block(x, cache)
        x = rearrange(self.up(x), "B t (two C) -> B (t two) C", two=2)
        for block in self.fine_blocks:
            x = block(x, cache)
        log_magnitude, phase = self.head(F.silu(x)).float().chunk(2, dim=-1)
        linear = rearrange(self.linear(latents).float(), "B t (two F) -> B (t two) F", two=2)
        magnitude = (log_magnitude + linear).clamp(max=MAX_LOG_MAGNITUDE).exp()
        pulses = FRAME / 2 + STEP / 2 * rearrange(latents[..., :2].float(), "B t two -> B (t two) 1")  # samples
        frames = torch.fft.irfft(torch.polar(magnitude, phase - self.frequencies * pulses), FRAME)  # (B, n, FRAME)
        return overlap_add(frames * self.hann, cache)


def overlap_add(frames: Tensor, cache: Cache) -> Tensor:
    """Frames (B, n, FRAME) of which one starts with each step -> steps (B, n, STEP): sums of what reaches them."""
    ends = rearrange(with_past(frames, OVERLAP - 1, "overlap", cache), "B n (part s) -> B n part s", s=STEP)
    starts = reversed(range(OVERLAP))  # part 0 of the newest frame, part 1 of the one before, ...
    parts = [ends[:, start : start + frames.shape[1], part] for part, start in enumerate(starts)]
    return torch.stack(parts).sum(0)


def sound_stream(to_ids: Callable[[Tensor], Tensor], num_codebooks: int, hop: int) -> TrimmedStream:
    """Samples (B, 1, S), pushed in pieces -> int64 ids (B, K, t), one for each `hop` samples and the `DELAY` behind.

    `to_ids` gets blocks of `BLOCK` latents, steps (B, n, STEP), and gives their ids.
    """

    @torch.no_grad()
    def run(sounds: Tensor) -> Tensor:
        return to_ids(rearrange(sounds, "B 1 (n s) -> B n s", s=STEP))

    def nothing(sounds: Tensor) -> Tensor:
        return torch.empty(len(sounds), num_codebooks, 0, dtype=torch.long, device=sounds.device)

    samples = BLOCK * HOP
    blocks = BlockStream(run, nothing, check_sounds, first=samples, block=samples, time=2, time_out=2)
    return TrimmedStream(blocks, lambda count: math.ceil((count + DELAY) / hop), flush=DELAY)


def sound_decode_stream(to_steps: Callable[[Tensor], Tensor], hop: int) -> TrimmedStream:
    """Int64 ids (B, k, t), pushed in pieces -> samples (B, 1, t hop - DELAY), float32 in [-1, 1].

    `to_steps` gets the ids of `BLOCK` latents and gives their steps (B, n, STEP), `DELAY` late.
    """
    skipped = DELAY  # samples before the first

    @torch.no_grad()
    def run(ids: Tensor) -> Tensor:
        nonlocal skipped
        sounds = rearrange(to_steps(ids), "B n s -> B 1 (n s)")[:, :, skipped:].clamp(-1, 1)
        skipped = 0
        return sounds

    def nothing(ids: Tensor) -> Tensor:
        return torch.empty(len(ids), 1, 0, device=ids.device)

    ids = BLOCK * HOP // hop
    blocks = BlockStream(run, nothing, check_sound_ids, first=ids, block=ids, time=2, time_out=2)
    return TrimmedStream(blocks, lambda count: count * hop - DELAY)
