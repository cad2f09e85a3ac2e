"""Learned sound tokenizer: a spectral vocoder, causal in time, around a residual FSQ (Vocos, arXiv:2306.00814).

B sounds, S samples, K codebooks, t codes (50 a second), n steps (100 a second), D latent dimensions. Sounds are float32
(B, 1, S) in [-1, 1] at 16 kHz. A code stands for two steps of 10 ms. The encoder reads the frame of 30 ms that ends
with each step, as log-mel energies and as the wave itself; the decoder says magnitude and phase of the spectrum of each
such frame, and the inverse transforms, windowed, overlap and add up to the sound. No layer runs above 100 Hz, so one
core suffices. As in image.py, linear maps run beside the networks: log-mel energies to latents (Karhunen-Loeve), and
latents to log-magnitudes, with phases that put one pulse into the middle of each frame. So training starts at a linear
vocoder, and the networks, whose last layers start at zero, learn what is left.

A code sees no sample behind its own two steps. A step of sound is complete with the last frame that reaches it, `DELAY`
samples later, for which `encode` adds codes at the end. Nothing normalizes across time, so any length works, and
streams give the ids of whole sounds, bit for bit. The codes of the first k codebooks are a code of their own.
"""

import math
from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .image import zeroed
from .linear_code import least_squares, principal_axes, unit_projection
from .pretrained import Pretrained, check_storage_dtype
from .protocol import check_sound_ids, crop, fingerprint_of
from .residual_quantizer import ResidualQuantizer, falling_levels
from .streaming import Cache, TrimmedStream, name_layers, windows
from .vocoder import (
    DELAY,
    FLOOR,
    FRAME,
    HOP,
    NUM_MELS,
    OVERLAP,
    SAMPLE_RATE,
    STEP,
    Block,
    Decoder,
    LogMel,
    sound_decode_stream,
    sound_stream,
)

FORMAT_VERSION = 1


def usual_levels() -> tuple[tuple[int, ...], ...]:
    """8 codebooks of 10 bits, 0.5 kb/s each: two tell of the envelope, the third of the pulses, and so on in turn."""
    of_pulses = (0, 0, 4, 0, 0, 1, 0, 0)  # bits for each of the two
    of_envelope = falling_levels(dims=30, bits=[10 - 2 * bits for bits in of_pulses])
    return tuple((2**bits, 2**bits, *level) for bits, level in zip(of_pulses, of_envelope, strict=True))


@dataclass(frozen=True, kw_only=True)
class AudioTokenizerConfig:
    levels: tuple[tuple[int, ...], ...] = usual_levels()  # cells, K x D: two dimensions of pulses, then the envelope
    width: int = 192  # channels at 50 Hz
    fine_width: int = 160  # channels at 100 Hz
    encoder_blocks: int = 2
    decoder_blocks: int = 1  # at 50 Hz
    fine_blocks: int = 2  # at 100 Hz
    window: int = 3  # steps that a block looks at: its own and those before
    storage_dtype: str = "float32"  # type of the weights on disk

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(tuple(level) for level in self.levels))  # JSON gives lists
        if min(map(len, self.levels), default=0) < 3:
            raise ValueError(f"levels need at least 3 dimensions, 2 of pulses and the envelope's, got {self.levels}")
        if (
            min(self.width, self.fine_width, self.window) < 1
            or min(self.encoder_blocks, self.decoder_blocks, self.fine_blocks) < 0
        ):
            raise ValueError(f"widths and window must be at least 1 and blocks 0, got {self}")
        check_storage_dtype(self.storage_dtype)

    @property
    def dims(self) -> int:
        return len(self.levels[0])


class Encoder(nn.Module):
    """Steps of sound (B, 2 t, STEP) -> unbounded latents z_e (B, t, D)."""

    def __init__(self, config: AudioTokenizerConfig):
        super().__init__()
        self.log_mel = LogMel()
        self.linear = nn.Linear(2 * NUM_MELS, config.dims - 2)
        self.stem = nn.Linear(2 * (NUM_MELS + FRAME), config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.window) for _ in range(config.encoder_blocks))
        self.head = zeroed(nn.Linear(config.width, config.dims))

    def forward(self, steps: Tensor, cache: Cache) -> Tensor:
        frames = windows(steps, OVERLAP, "frames", cache)  # (B, 2 t, FRAME)
        log_mel = self.log_mel(frames)
        pulses = rearrange(self.pulses(frames), "B (t two) -> B t two", two=2)
        level = frames.square().mean(-1, keepdim=True).sqrt()
        x = torch.cat([log_mel / 4, frames / (level + FLOOR)], dim=-1)  # both of the order of 1, however loud
        x = self.stem(rearrange(x, "B (t two) C -> B t (two C)", two=2))
        for block in self.blocks:
            x = block(x, cache)
        envelope = self.linear(rearrange(log_mel, "B (t two) M -> B t (two M)", two=2))
        return torch.cat([pulses, envelope], dim=-1) + self.head(F.silu(x))  # (B, t, D)

    def pulses(self, frames: Tensor) -> Tensor:
        """Frames (B, n, FRAME) -> where in the middle step of each its strongest pulse lies, (B, n), unbounded.

        That is where the frame resembles most what has its magnitudes and phases of zero. Bounded, 0 is the middle of
        the frame, -1 and 1 are half a step before and after it.
        """
        spectrum = torch.fft.rfft(frames * self.log_mel.hann)
        likeness = torch.fft.irfft(spectrum * spectrum.abs(), FRAME)[..., STEP : 2 * STEP]
        place = (2 * likeness.argmax(-1) + 1) / STEP - 1  # in (-1, 1)
        return torch.atanh(place) / 0.8  # the bound of the quantizer, undone


class AudioTokenizer(nn.Module, Pretrained):
    """Sounds <-> ids and latents, whole or as streams, at the bit rate of any number of codebooks up to K."""

    def __init__(self, config: AudioTokenizerConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantizer = ResidualQuantizer(config.levels)
        name_layers(self)

    @property
    def vocab_size(self) -> int:
        """Number of ids of each codebook."""
        return self.quantizer.num_codes

    @property
    def num_codebooks(self) -> int:
        return self.quantizer.num_codebooks

    @property
    def sample_rate(self) -> int:
        """Hz of the sounds that are meant."""
        return SAMPLE_RATE

    def bits_per_second(self, num_codebooks: int) -> float:
        """What the codes of the first `num_codebooks` take, none entropy-coded."""
        return num_codebooks * math.log2(self.vocab_size) * SAMPLE_RATE / HOP

    @property
    def fingerprint(self) -> str:
        """sha256 over class, format, config and the weights as they ship; ids are only good under the same one."""
        dtype = getattr(torch, self.config.storage_dtype)
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(self.config), self.state_dict(), dtype)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Samples (S,) -> codes (K, t)."""
        return self.num_codebooks, math.ceil((size[0] + DELAY) / HOP)

    def forward(self, sounds: Tensor, num_levels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Training pass, all steps at once: sounds (B, 1, t HOP) -> sounds (B, 1, t HOP - DELAY), latents (B, D, t).

        `num_levels`, int64 (B,) in [1, K], says by how many codebooks each is told; default: all.
        """
        steps = rearrange(sounds, "B 1 (n s) -> B n s", s=STEP)
        z_q = self.quantizer(self.encoder(steps, {}), num_levels)
        heard = rearrange(self.decoder(z_q, {}), "B n s -> B 1 (n s)")[:, :, DELAY:]
        return heard, rearrange(z_q, "B t D -> B D t")

    def stream(self) -> TrimmedStream:
        """Samples (B, 1, S), float32 in [-1, 1], pushed in pieces -> int64 ids (B, K, t)."""
        cache: Cache = {}

        def to_ids(steps: Tensor) -> Tensor:
            latents = self.quantizer.bound(self.encoder(steps, cache))
            return rearrange(self.quantizer.latents_to_ids(latents), "B t K -> B K t")

        return sound_stream(to_ids, self.num_codebooks, HOP)

    def decode_stream(self) -> TrimmedStream:
        """Int64 ids (B, k, t) of the first k codebooks, pushed in pieces -> samples (B, 1, t HOP - DELAY)."""
        cache: Cache = {}

        def to_steps(ids: Tensor) -> Tensor:
            return self.decoder(self.quantizer.ids_to_latents(rearrange(ids, "B k t -> B t k")), cache)

        return sound_decode_stream(to_steps, HOP)

    def encode(self, sounds: Tensor) -> Tensor:
        """Sounds (B, 1, S), float32 in [-1, 1] at 16 kHz -> int64 ids (B, K, t) in [0, vocab_size).

        Raises:
            ValueError: not a batch of sounds of one channel in range.
        """
        return self.stream().whole(sounds)

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, k, t) of the first k <= K codebooks -> sounds (B, 1, S), float32 in [-1, 1], of `size` = (S,).

        Without `size`, of all samples that so many codes can stand for, t HOP - DELAY.

        Raises:
            ValueError: ids out of range, or a size that takes another number of codes.
        """
        if size is not None and self.grid(size)[1] != check_sound_ids(ids).shape[2]:
            raise ValueError(f"{size[0]} samples take {self.grid(size)[1]} codes, but the ids are {tuple(ids.shape)}")
        return crop(self.decode_stream().whole(ids), size)

    @torch.no_grad()
    def start_linear(self, sounds: Tensor) -> None:
        """Set the linear maps to a good code of `sounds` (N, 1, t HOP): PCA in, least squares out."""
        frames = windows(rearrange(sounds, "N 1 (n s) -> N n s", s=STEP), OVERLAP, "frames", {})
        pair = "N (t two) C -> (N t) (two C)"
        log_mel = rearrange(self.encoder.log_mel(frames), pair, two=2)
        weight, bias = unit_projection(log_mel, principal_axes(log_mel, self.config.dims - 2))
        self.encoder.linear.weight.copy_(weight.T)
        cast(Tensor, self.encoder.linear.bias).copy_(bias)
        log_magnitude = torch.fft.rfft(frames * self.encoder.log_mel.hann).abs().clamp(min=FLOOR).log()
        pulses = rearrange(self.encoder.pulses(frames), "N (t two) -> (N t) two", two=2)
        latents = self.quantizer(torch.cat([pulses, log_mel @ weight + bias], dim=-1))
        weight, bias = least_squares(latents, rearrange(log_magnitude, pair, two=2))
        self.decoder.linear.weight.copy_(weight.T)
        cast(Tensor, self.decoder.linear.bias).copy_(bias)
