"""Mel filters: bands of equal width to the ear, as triangles over the bins of a spectrum (Slaney, Auditory Toolbox).

Up to 1 kHz a mel is 200/3 Hz, above it a ratio of 6.4^(1/27). Each triangle rises from the centre of the band below to
its own and falls to that of the band above; its area in Hz is 1 ("slaney" normalization, as in librosa).
"""

import math

import torch
from torch import Tensor

_BREAK_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3
_LOG_STEP = math.log(6.4) / 27


def hz_of_mel(mel: Tensor) -> Tensor:
    """Mel of any shape -> Hz."""
    break_mel = _BREAK_HZ / _HZ_PER_MEL
    above = _BREAK_HZ * torch.exp(_LOG_STEP * (mel - break_mel).clamp(min=0))
    return torch.where(mel < break_mel, mel * _HZ_PER_MEL, above)


def mel_of_hz(hz: float) -> float:
    """Hz -> mel."""
    return hz / _HZ_PER_MEL if hz < _BREAK_HZ else _BREAK_HZ / _HZ_PER_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def mel_filters(num_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Float32 (num_mels, n_fft // 2 + 1) to multiply spectra with, from 0 Hz to half the `sample_rate` (Hz)."""
    top = mel_of_hz(sample_rate / 2)
    corners = hz_of_mel(torch.linspace(0, top, num_mels + 2, dtype=torch.float64))  # (num_mels + 2,)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    low, centre, high = (corners[i : i + num_mels].unsqueeze(1) for i in range(3))
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (high - low)).float()
