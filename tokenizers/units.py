"""Speech units: one id for each 40 ms of sound, by k-means on log-mel energies, and a small vocoder back.

B sounds, S samples, t units (25 or 50 a second), V kinds of unit, n steps (100 a second), P = 64 bands of all steps of
a unit. Sounds are float32 (B, 1, S) in [-1, 1] at 16 kHz; ids are (B, 1, t). As in GSLM (Lakhotia et al. 2021,
arXiv:2102.01192) a language model can read and write them, here without a network to find them: the id of a unit is
that of the centroid (kmeans.py) nearest to the log-mel energies of its steps, end to end, so that a centroid is a patch
of spectrogram that tells how its sound begins and ends. Pitch and voice are mostly lost, which is the point.

The vocoder (vocoder.py) gets for each 20 ms of a unit a latent learned by it, and sees the units before. Latents start
as the Karhunen-Loeve code of the centroid, pulses at a pitch of 100 Hz. A unit sees no sample behind its own steps,
and streams give the ids of whole sounds, bit for bit, as in audio.py.
"""

import math
from dataclasses import asdict, dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from .kmeans import kmeans, nearest
from .linear_code import least_squares, principal_axes, unit_projection
from .pretrained import Pretrained, check_storage_dtype
from .protocol import check_in_codebook, check_size, check_sound_ids, crop, fingerprint_of
from .streaming import Cache, TrimmedStream, name_layers, windows
from .vocoder import (
    DELAY,
    FLOOR,
    HOP,
    NUM_MELS,
    OVERLAP,
    SAMPLE_RATE,
    STEP,
    Decoder,
    LogMel,
    sound_decode_stream,
    sound_stream,
)

FORMAT_VERSION = 1
UNIT_RATES = (25, 50)  # units a second
MAX_UNITS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class UnitsTokenizerConfig:
    num_units: int = 256
    unit_rate: int = 25  # units a second
    dims: int = 32  # of a latent: two of pulses, then the envelope
    width: int = 128  # channels at 50 Hz
    fine_width: int = 128  # channels at 100 Hz
    decoder_blocks: int = 2  # at 50 Hz
    fine_blocks: int = 2  # at 100 Hz
    window: int = 3  # steps that a block looks at: its own and those before
    storage_dtype: str = "float32"  # type of the weights on disk

    def __post_init__(self) -> None:
        if not 2 <= self.num_units <= MAX_UNITS:
            raise ValueError(f"num_units must be from 2 to {MAX_UNITS}, got {self.num_units}")
        if self.unit_rate not in UNIT_RATES:
            raise ValueError(f"unit_rate must be 25 or 50 units a second, got {self.unit_rate}")
        if not 3 <= self.dims <= 2 + 2 * NUM_MELS:
            raise ValueError(f"dims must be from 3, 2 of pulses and the envelope's, to {2 + 2 * NUM_MELS}")
        if min(self.width, self.fine_width, self.window) < 1 or min(self.decoder_blocks, self.fine_blocks) < 0:
            raise ValueError(f"widths and window must be at least 1 and blocks 0, got {self}")
        check_storage_dtype(self.storage_dtype)

    @property
    def hop_length(self) -> int:
        """Samples of a unit."""
        return SAMPLE_RATE // self.unit_rate

    @property
    def latents_per_unit(self) -> int:
        return self.hop_length // HOP


class UnitsTokenizer(nn.Module, Pretrained):
    """Sounds <-> ids of speech units, whole or as streams. Fresh, it has no units: `start` finds them."""

    centroids: Tensor  # (V, P)

    def __init__(self, config: UnitsTokenizerConfig):
        super().__init__()
        self.config = config
        self.log_mel = LogMel()
        self.register_buffer("centroids", torch.zeros(config.num_units, config.hop_length // STEP * NUM_MELS))
        self.latents = nn.Embedding(config.num_units, config.latents_per_unit * config.dims)
        self.decoder = Decoder(config)
        name_layers(self)

    @property
    def vocab_size(self) -> int:
        return self.config.num_units

    @property
    def num_codebooks(self) -> int:
        return 1

    @property
    def sample_rate(self) -> int:
        """Hz of the sounds that are meant."""
        return SAMPLE_RATE

    def bits_per_second(self, num_codebooks: int = 1) -> float:
        """What the ids take, not entropy-coded. There is one codebook."""
        return num_codebooks * math.log2(self.vocab_size) * self.config.unit_rate

    @property
    def fingerprint(self) -> str:
        """sha256 over class, format, config and the weights as they ship; ids are only good under the same one."""
        dtype = getattr(torch, self.config.storage_dtype)
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(self.config), self.state_dict(), dtype)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Samples (S,) -> ids (1, t)."""
        return 1, math.ceil((size[0] + DELAY) / self.config.hop_length)

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """Training pass, all units at once: sounds (B, 1, t hop) -> sounds (B, 1, t hop - DELAY), ids (B, t).

        Gradients reach the vocoder and its latents; the units are what they are.
        """
        with torch.no_grad():
            ids = nearest(self.patches(rearrange(sounds, "B 1 (n s) -> B n s", s=STEP), {}), self.centroids)
        heard = rearrange(self._steps(ids, {}), "B n s -> B 1 (n s)")[:, :, DELAY:]
        return heard, ids

    def patches(self, steps: Tensor, cache: Cache) -> Tensor:
        """Steps of sound (B, n, STEP) -> what tells units apart, log-mel energies of all steps of each (B, t, P)."""
        log_mel = self.log_mel(windows(steps, OVERLAP, "frames", cache))
        return rearrange(log_mel, "B (t step) M -> B t (step M)", step=self.config.hop_length // STEP)

    def stream(self) -> TrimmedStream:
        """Samples (B, 1, S), float32 in [-1, 1], pushed in pieces -> int64 ids (B, 1, t)."""
        cache: Cache = {}

        def to_ids(steps: Tensor) -> Tensor:
            return rearrange(nearest(self.patches(steps, cache), self.centroids), "B t -> B 1 t")

        return sound_stream(to_ids, self.num_codebooks, self.config.hop_length)

    def decode_stream(self) -> TrimmedStream:
        """Int64 ids (B, 1, t), pushed in pieces -> samples (B, 1, t hop - DELAY), float32 in [-1, 1]."""
        cache: Cache = {}

        def to_steps(ids: Tensor) -> Tensor:
            return self._steps(rearrange(self._checked(ids), "B 1 t -> B t"), cache)

        return sound_decode_stream(to_steps, self.config.hop_length)

    def encode(self, sounds: Tensor) -> Tensor:
        """Sounds (B, 1, S), float32 in [-1, 1] at 16 kHz -> int64 ids (B, 1, t) in [0, vocab_size).

        Raises:
            ValueError: not a batch of sounds of one channel in range.
        """
        return self.stream().whole(sounds)

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, 1, t) -> sounds (B, 1, S), float32 in [-1, 1], of `size` = (S,): the same words, another voice.

        Without `size`, of all samples that so many units can stand for, t hop - DELAY.

        Raises:
            ValueError: ids out of range, or a size that takes another number of units.
        """
        if size is not None:
            check_size(size, self.grid(size), check_sound_ids(ids))
        return crop(self.decode_stream().whole(ids), size)

    @torch.no_grad()
    def start(self, sounds: Tensor, generator: torch.Generator) -> None:
        """Find the units of `sounds` (N, 1, t hop), and set the vocoder to the best linear one of them.

        Raises:
            ValueError: there are fewer patches that differ than units.
        """
        steps = rearrange(sounds, "N 1 (n s) -> N n s", s=STEP)
        patches = torch.cat([self.patches(part, {}).flatten(0, 1) for part in steps.split(64)])
        self.centroids.copy_(kmeans(patches, self.config.num_units, generator))
        # the latents: Karhunen-Loeve of 20 ms of the centroids, pulses in the middle
        parts = "N (part C) -> (N part) C"
        pairs = rearrange(patches, parts, part=self.config.latents_per_unit)
        weight, bias = unit_projection(pairs, principal_axes(pairs, self.config.dims - 2))
        envelopes = rearrange(self.centroids, parts, part=self.config.latents_per_unit) @ weight + bias
        latents = torch.cat([torch.zeros_like(envelopes[:, :2]), envelopes], dim=1)
        self.latents.weight.copy_(rearrange(latents, "(V part) D -> V (part D)", part=self.config.latents_per_unit))
        # the vocoder: what magnitudes these had in the mean, of sounds enough to tell
        steps = steps[:128]
        ids = nearest(self.patches(steps, {}), self.centroids)
        spectra = torch.fft.rfft(windows(steps, OVERLAP, "frames", {}) * self.log_mel.hann)
        log_magnitude = rearrange(spectra.abs().clamp(min=FLOOR).log(), "N (t two) F -> (N t) (two F)", two=2)
        weight, bias = least_squares(self._latents(ids).flatten(0, 1), log_magnitude)
        self.decoder.linear.weight.copy_(weight.T)
        cast(Tensor, self.decoder.linear.bias).copy_(bias)

    def _latents(self, ids: Tensor) -> Tensor:
        """Ids (B, t) -> latents (B, t parts, D)."""
        return rearrange(self.latents(ids), "B t (part D) -> B (t part) D", D=self.config.dims)

    def _steps(self, ids: Tensor, cache: Cache) -> Tensor:
        """Ids (B, t) -> steps of sound (B, n, STEP), `DELAY` samples late."""
        return self.decoder(self._latents(ids), cache)

    def _checked(self, ids: Tensor) -> Tensor:
        if check_sound_ids(ids).shape[1] != 1:
            raise ValueError(f"ids must be (B, 1, t), got {tuple(ids.shape)}")
        return check_in_codebook(ids, self.vocab_size)
