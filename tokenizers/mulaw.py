"""Mu-law audio tokens: one id per sample, no training (van den Oord et al. 2016, arXiv:1609.03499, sec. 2.2).

B sounds, S samples, K = 1 codebook. A sound is float32 (B, 1, S) in [-1, 1], an id is in [0, levels).

The levels lie evenly on a logarithmic scale (ITU-T G.711), s(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu), mu = levels - 1.
Half a step of it is 1 / mu, so what comes back is off by at most (|x| + 1 / mu) ((1 + mu)^(1 / mu) - 1): with 256
levels by an 11,600th in silence and by a 45th at full scale.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor

from .protocol import check_in_codebook, check_size, check_sound_ids, check_sounds, crop, fingerprint_of

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MuLawConfig:
    sample_rate: int = 16_000  # Hz, of the sounds that are meant
    levels: int = 256  # size of the vocabulary

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate must be at least 1 Hz, got {self.sample_rate}")
        if not 2 <= self.levels <= 1 << 16:
            raise ValueError(f"levels must be from 2 to {1 << 16}, got {self.levels}")

    @property
    def mu(self) -> int:
        return self.levels - 1


class MuLawTokenizer:
    """Sounds <-> the id of the nearest level of every sample. A `protocol.MediaTokenizer`.

    Ids are found by comparing with the bounds between levels, and samples in a table of the levels, so that those of a
    sound are the same bits however it is cut.
    """

    def __init__(self, config: MuLawConfig):
        self.config = config

    @property
    def sample_rate(self) -> int:
        """Hz of the sounds that are meant."""
        return self.config.sample_rate

    @property
    def num_codebooks(self) -> int:
        return 1

    @property
    def vocab_size(self) -> int:
        return self.config.levels

    def bits_per_second(self, num_codebooks: int = 1) -> float:
        """What the ids take, not entropy-coded. There is one codebook."""
        return num_codebooks * math.log2(self.vocab_size) * self.sample_rate

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(self.config), {})

    @cached_property
    def levels(self) -> Tensor:
        """The sample of each id: float32 (levels,), from -1 to 1."""
        return self._expanded(torch.arange(self.config.levels))

    @cached_property
    def bounds(self) -> Tensor:
        """Between the levels, halfway on their scale: float32 (levels - 1,)."""
        return self._expanded(torch.arange(self.config.mu) + 0.5)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Samples (S,) -> ids (1, S)."""
        return (1, *size)

    def max_error(self, sounds: Tensor) -> Tensor:
        """How far `decode(encode(sounds))` may be from each sample of `sounds`."""
        mu = self.config.mu
        return (sounds.abs() + 1 / mu) * math.expm1(math.log1p(mu) / mu)

    def stream(self) -> "SampleStream":
        """Samples (B, 1, S), float32 in [-1, 1], pushed in pieces -> int64 ids (B, 1, S)."""
        return SampleStream(self.encode)

    def decode_stream(self) -> "SampleStream":
        """Int64 ids (B, 1, S), pushed in pieces -> samples (B, 1, S), float32 in [-1, 1]."""
        return SampleStream(self.decode)

    def encode(self, sounds: Tensor) -> Tensor:
        """Sounds (B, 1, S), float32 in [-1, 1] -> int64 ids (B, 1, S) in [0, levels).

        Raises:
            ValueError: not a batch of sounds of one channel in range; nothing is clipped in silence.
        """
        return torch.bucketize(check_sounds(sounds).contiguous(), self.bounds.to(sounds.device))

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, 1, S) -> sounds (B, 1, S), float32 in [-1, 1]: `encode` undone, up to half a step.

        Raises:
            ValueError: ids out of range, or a `size` that is not their (S,).
        """
        if check_sound_ids(ids).shape[1] != 1:
            raise ValueError(f"ids must be (B, 1, S), got {tuple(ids.shape)}")
        check_in_codebook(ids, self.vocab_size)
        if size is not None:
            check_size(size, self.grid(size), ids)
        return crop(self.levels.to(ids.device)[ids], size)

    def _expanded(self, ids: Tensor) -> Tensor:
        """Places on the scale of ids -> samples, float32."""
        mu = self.config.mu
        squeezed = 2 * ids.double() / mu - 1
        return (squeezed.sign() * torch.expm1(squeezed.abs() * math.log1p(mu)) / mu).float().clamp(-1, 1)


class SampleStream:
    """Chunks in, what is complete out: here all of it, for every sample stands alone."""

    def __init__(self, run: Callable[[Tensor], Tensor]):
        self.run = run
        self.last: Tensor | None = None
        self.finished = False

    def push(self, chunk: Tensor) -> Tensor:
        """
        Raises:
            ValueError: the chunk is refused, or the stream is finished.
        """
        if self.finished:
            raise ValueError("a finished stream takes no more chunks; open another with stream()")
        self.last = self.run(chunk)
        return self.last

    def finish(self) -> Tensor:
        """The rest, which is nothing. The stream is over.

        Raises:
            ValueError: nothing was pushed, or the stream is finished.
        """
        if self.finished or self.last is None:
            raise ValueError("finish() must come once, after at least one push(); open another stream with stream()")
        self.finished = True
        return self.last[:, :, :0]
