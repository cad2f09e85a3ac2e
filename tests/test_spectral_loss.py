"""Laws of models/spectral_loss.py: equal sounds lose nothing, loudness counts in nepers, phases where they should."""

import math

import pytest
import torch
from torch import Tensor

from tokenloom.models.spectral_loss import FLOOR, SCALES, log_mel, mel_distance, phase_distance

RATE = 16_000


def noise(samples: int = 8000, count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_equal_sounds_lose_nothing():
    assert not mel_distance(noise(), noise(), RATE).any() and phase_distance(noise(), noise(), RATE).max() < 1e-3


def test_twice_as_loud_is_log_2_away():
    """But for the floor, which is far below."""
    distance = mel_distance(2 * noise(), noise(), RATE)
    torch.testing.assert_close(distance, torch.full((2,), math.log(2)), atol=0.02, rtol=0)


def test_every_band_of_an_impulse_has_the_magnitude_that_the_window_leaves_of_it():
    """In the middle of a Hann window of 2048, whose sum is 1024: 1 / 1024."""
    impulse = torch.zeros(1, 1, 2048)
    impulse[..., 1024] = 1
    bands = log_mel(impulse, 2048, 16, RATE).exp() - FLOOR
    torch.testing.assert_close(bands, torch.full((1, 1, 16), 1 / 1024), atol=0, rtol=0.02)


def test_a_turned_sound_is_the_same_to_the_ear_and_as_far_as_can_be_in_phase():
    assert not mel_distance(-noise(), noise(), RATE).any()
    torch.testing.assert_close(phase_distance(-noise(), noise(), RATE), torch.full((2,), 2.0), atol=0.05, rtol=0)


def test_silence_is_1_away_in_phase():
    torch.testing.assert_close(phase_distance(torch.zeros(2, 1, 8000), noise(), RATE), torch.ones(2), atol=0.03, rtol=0)


def test_each_sound_has_its_own_distance():
    both = mel_distance(noise(seed=1), noise(), RATE)
    one = mel_distance(noise(seed=1)[1:], noise()[1:], RATE)
    torch.testing.assert_close(both[1:], one)


@pytest.mark.parametrize("samples", [scale[0] for scale in SCALES])
def test_short_sounds_have_fewer_scales_and_finite_gradients_even_at_silence(samples):
    sounds = torch.zeros(1, 1, samples, requires_grad=True)
    mel_distance(sounds, noise(samples, 1), RATE).sum().backward()
    assert sounds.grad is not None and sounds.grad.isfinite().all()
    with pytest.raises(ValueError, match="at least 128 samples, got 127"):
        mel_distance(noise(127), noise(127), RATE)
