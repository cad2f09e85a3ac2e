"""How loud a sound is, and whether it was clipped: peak, RMS and samples at full scale, of any length.

C channels, S samples. Decibels are relative to full scale (dBFS): 0 dB is a constant 1, so a full-scale sine has an
RMS of -3.01 dB.
"""

import math
from dataclasses import dataclass

from torch import Tensor

FULL_SCALE = 32767 / 32768  # the largest sample of 16 bits: what is clipped stands there, of 16 bits or more


@dataclass(frozen=True, slots=True)
class Levels:
    peak_db: float | None  # None of silence
    rms_db: float | None
    clipped: int  # samples at full scale or beyond

    def __str__(self) -> str:
        if self.peak_db is None:
            return "silent"
        clipped = f", {self.clipped:,} samples clipped" if self.clipped else ""
        return f"peak {self.peak_db:.1f} dBFS, RMS {self.rms_db:.1f} dBFS{clipped}"


class LevelMeter:
    """Sees chunks (C, S) of a sound one after the other; all channels count alike."""

    def __init__(self) -> None:
        self.peak = self.energy = 0.0
        self.samples = self.clipped = 0

    def push(self, chunk: Tensor) -> None:
        if chunk.numel():
            size = chunk.abs()
            self.peak = max(self.peak, float(size.max()))
            self.energy += float(size.double().square().sum())
            self.samples += size.numel()
            self.clipped += int((size >= FULL_SCALE).sum())

    def levels(self) -> Levels:
        """Of all that was pushed, rounded to a hundredth of a dB."""
        if not self.peak:
            return Levels(None, None, 0)
        rms = math.sqrt(self.energy / self.samples)
        return Levels(round(20 * math.log10(self.peak), 2), round(20 * math.log10(rms), 2), self.clipped)
