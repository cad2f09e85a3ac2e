"""Recognizer of spoken digit strings: convolutions over log-mel frames, trained by CTC (Graves et al. 2006, sec. 3).

B sounds, S samples at 8 kHz (what telephones carry, enough for digits), M mel bands, n frames (100 a second), t steps
(25 a second), C channels. At each step the network says which digit has just become plain, or none ("blank"). A sound
is measured against its own loudest moment, and what is far below that is silence, exactly 0, as is what lies before its
beginning and behind its end. So loudness does not matter, and sounds of a batch may lie in silence of any length.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from ..tokenizers.mel import mel_filters
from ..tokenizers.pretrained import Pretrained, check_storage_dtype

SAMPLE_RATE = 8_000  # Hz
FRAME = 256  # samples: 32 ms
HOP = 80  # samples: 10 ms
STRIDE = 4  # frames of a step
NUM_DIGITS = 10
BLANK = NUM_DIGITS
RANGE = math.log(100.0)  # nepers between the loudest band and silence: 40 dB
TINY = 1e-5  # of mel energies: a sound without more is silent


@dataclass(frozen=True, kw_only=True)
class DigitRecognizerConfig:
    num_mels: int = 40
    width: int = 96  # channels
    num_blocks: int = 4
    kernel: int = 7  # steps that a block looks at, odd
    dropout: float = 0.1
    storage_dtype: str = "float32"  # type of the weights on disk

    def __post_init__(self) -> None:
        if min(self.num_mels, self.width, self.num_blocks) < 1 or self.num_mels > FRAME // 2 + 1:
            raise ValueError(
                f"num_mels must be 1 to {FRAME // 2 + 1}, width and num_blocks at least 1, "
                f"got {self.num_mels}, {self.width} and {self.num_blocks}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that a step lies in its middle, got {self.kernel}")
        check_storage_dtype(self.storage_dtype)


class Block(nn.Module):
    """x + mlp(depthwise(norm(x))) for x (B, t, C): neighbours in time, then channels (ConvNeXt, arXiv:2201.03545)."""

    def __init__(self, width: int, kernel: int, dropout: float):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.depthwise(rearrange(self.norm(x), "B t C -> B C t"))
        return x + self.mlp(rearrange(mixed, "B C t -> B t C"))


class DigitRecognizer(nn.Module, Pretrained):
    """Sounds -> log-probabilities of digits over time, and the digits themselves."""

    hann: Tensor
    filters: Tensor

    def __init__(self, config: DigitRecognizerConfig):
        super().__init__()
        self.config = config
        self.register_buffer("hann", torch.hann_window(FRAME), persistent=False)
        self.register_buffer("filters", mel_filters(config.num_mels, FRAME, SAMPLE_RATE).T, persistent=False)
        half = config.width // 2
        self.stem = nn.Sequential(
            nn.Conv1d(config.num_mels, half, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv1d(half, config.width, 5, stride=2, padding=2),
        )
        self.blocks = nn.Sequential(
            *(Block(config.width, config.kernel, config.dropout) for _ in range(config.num_blocks))
        )
        self.head = nn.Sequential(
            nn.RMSNorm(config.width), nn.Dropout(config.dropout), nn.Linear(config.width, NUM_DIGITS + 1)
        )

    def log_mel(self, sounds: Tensor) -> Tensor:
        """Sounds (B, 1, S) -> (B, M, n), n = ceil(S / HOP), in [0, 2]: 0 is silence, 2 the sound's loudest band."""
        before = (FRAME - HOP) // 2  # a frame lies around its hop
        sounds = F.pad(sounds, (before, before + -sounds.shape[2] % HOP))
        frames = sounds[:, 0].unfold(1, FRAME, HOP)  # (B, n, FRAME)
        energies = torch.fft.rfft(frames * self.hann).abs() @ self.filters
        loudest = reduce(energies, "B n M -> B 1 1", "max").clamp(min=TINY)
        nepers = (energies / loudest).clamp(min=math.exp(-RANGE)).log() + RANGE
        return rearrange(2 / RANGE * nepers, "B n M -> B M n")

    def classify(self, log_mel: Tensor) -> Tensor:
        """Log-mel (B, M, n) -> log-probabilities (B, t, 11) of the digits and `BLANK`, t = ceil(n / STRIDE)."""
        x = rearrange(self.stem(log_mel), "B C t -> B t C")
        return self.head(self.blocks(x)).log_softmax(-1)

    def forward(self, sounds: Tensor) -> Tensor:
        """Sounds (B, 1, S), float32 at 8 kHz -> log-probabilities (B, t, 11)."""
        return self.classify(self.log_mel(sounds))

    @torch.no_grad()
    def recognize(self, sounds: Tensor) -> list[list[int]]:
        """Sounds (B, 1, S), float32 at 8 kHz -> the digits that each says: the likeliest way through time."""
        return [collapsed(best) for best in self(sounds).argmax(-1).tolist()]


def collapsed(path: list[int]) -> list[int]:
    """What a way through time spells: repetitions count once, and blanks separate (CTC's map B)."""
    starts = [now for before, now in zip([BLANK, *path], path, strict=False) if now != before]
    return [symbol for symbol in starts if symbol != BLANK]


def ctc_loss(log_probabilities: Tensor, digits: list[list[int]]) -> Tensor:
    """Mean over sounds of -log P(digits | sound) per digit: log-probabilities (B, t, 11), and what each sound says.

    A sound too short for what it is to say adds nothing.
    """
    batch, steps, _ = log_probabilities.shape
    return F.ctc_loss(
        rearrange(log_probabilities, "B t V -> t B V"),
        torch.tensor([digit for said in digits for digit in said]),
        torch.full((batch,), steps),
        torch.tensor([len(said) for said in digits]),
        blank=BLANK,
        zero_infinity=True,
    )
