"""What the ear hears of the difference of two sounds: log-mel energies at several resolutions (arXiv:2306.06546).

B sounds, S samples. A short window tells when, a long one which harmonics; none tells both. Phases do not count, so a
decoder may choose those that a listener could not tell apart; `phase_distance` holds it to those of the original, where
the codes have bits to spare.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ..tokenizers.mel import mel_filters

SCALES = ((128, 16), (256, 32), (512, 64), (1024, 96), (2048, 160))  # samples of a window, mel bands
FLOOR = 1e-4  # of the mean magnitude of a band, where a sine of full scale has 0.5: what is below is silence


@lru_cache
def _window_and_filters(n_fft: int, num_mels: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Hann window of sum 1, (n_fft,), and filters for the mean magnitude of a band, (n_fft // 2 + 1, num_mels)."""
    window = torch.hann_window(n_fft)
    return window / window.sum(), mel_filters(num_mels, n_fft, sample_rate).T * (sample_rate / n_fft)


def _spectrum(sounds: Tensor, window: Tensor) -> Tensor:
    """Complex (B, frames, bins) of float (B, 1, S), frames half a window apart."""
    return torch.fft.rfft(sounds[:, 0].unfold(-1, len(window), len(window) // 2) * window)


def log_mel(sounds: Tensor, n_fft: int, num_mels: int, sample_rate: int) -> Tensor:
    """Float (B, 1, S) -> logarithm of the magnitude in each band, (B, frames, num_mels), frames n_fft / 2 apart.

    S must be at least n_fft; samples after the last whole frame do not count.
    """
    window, filters = (x.to(sounds) for x in _window_and_filters(n_fft, num_mels, sample_rate))
    spectrum = _spectrum(sounds, window)
    magnitude = (
        spectrum.real.square() + spectrum.imag.square() + 1e-12
    ).sqrt()  # abs() is slower, and has no slope at 0
    return torch.log(magnitude @ filters + FLOOR)


def mel_distance(sounds: Tensor, targets: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of `log_mel` (nepers: 1 is 8.7 dB) over `SCALES`, of (B, 1, S) twice -> (B,).

    Scales whose window is longer than the sounds are left out; S must be at least that of the shortest.

    Raises:
        ValueError: the sounds are too short for any window.
    """
    scales = [scale for scale in SCALES if scale[0] <= sounds.shape[-1]]
    if not scales:
        raise ValueError(
            f"a mel distance needs at least {SCALES[0][0]} samples, got {sounds.shape[-1]}; take longer ones"
        )
    distances = [
        (log_mel(sounds, *scale, sample_rate) - log_mel(targets, *scale, sample_rate)).abs().mean((1, 2))
        for scale in scales
    ]
    return torch.stack(distances).mean(0)


def phase_distance(sounds: Tensor, targets: Tensor, sample_rate: int, n_fft: int = 512) -> Tensor:
    """Mean modulus of the difference of complex spectra, by the target's mean magnitude; (B, 1, S) twice -> (B,).

    Silence is 1 away, but for targets so soft that the floor counts. S must be at least `n_fft`.
    """
    window = _window_and_filters(n_fft, n_fft // 8, sample_rate)[0].to(sounds)
    ours, theirs = _spectrum(sounds, window), _spectrum(targets, window)
    error = ours - theirs
    modulus = (error.real.square() + error.imag.square() + 1e-12).sqrt().mean((1, 2))
    return modulus / (theirs.abs().mean((1, 2)) + FLOOR)
