"""Laws of models/audio_metrics.py: SI-SDR against its definition."""

import pytest
import torch

from tokenloom.models.audio_metrics import si_sdr


def noise(seed: int) -> torch.Tensor:
    x = torch.randn(2, 1, 5000, generator=torch.Generator().manual_seed(seed))
    return x - x.mean(-1, keepdim=True)


def test_noise_of_a_tenth_of_the_power_at_right_angles_is_10_db():
    signal, other = noise(0), noise(1)
    other -= (other * signal).sum(-1, keepdim=True) / signal.square().sum(-1, keepdim=True) * signal
    other *= (signal.square().sum(-1, keepdim=True) / other.square().sum(-1, keepdim=True) / 10).sqrt()
    torch.testing.assert_close(si_sdr(signal + other, signal), torch.full((2,), 10.0))


def test_neither_loudness_nor_an_offset_count():
    heard = noise(0) + 0.3 * noise(1)
    torch.testing.assert_close(si_sdr(5 * heard + 1, noise(0)), si_sdr(heard, noise(0)))


def test_the_same_is_100_db_and_silence_and_strangers_are_finite():
    assert si_sdr(noise(0), noise(0)).tolist() == pytest.approx([100, 100])
    for heard, target in ((torch.zeros(1, 1, 9), torch.ones(1, 1, 9)), (noise(0), torch.zeros(2, 1, 5000))):
        assert si_sdr(heard, target).isfinite().all()
