"""Laws of models/image_metrics.py, against closed forms and a plain window-by-window computation."""

import math

import numpy as np
import pytest
import torch

from tokenloom.models.image_metrics import psnr, ssim


def pictures(size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


@pytest.mark.parametrize("offset", [0.01, 0.1, 0.2])
def test_psnr_of_a_known_error(offset):
    """In 8 bits the peak is 255 and the error 127.5 x offset."""
    expected = 20 * math.log10(255 / (127.5 * offset))
    assert psnr(pictures() + offset, pictures()).tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_psnr_of_known_noise():
    noise = 0.1 * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert float(psnr(noise, torch.zeros_like(noise))) == pytest.approx(10 * math.log10(4 / 0.01), abs=0.1)


def test_equal_pictures_score_100_db_and_1():
    assert psnr(pictures(), pictures()).tolist() == [100, 100]
    torch.testing.assert_close(ssim(pictures(), pictures()), torch.ones(2))


def test_each_picture_is_scored_by_itself():
    a, b = pictures(), pictures(seed=1)
    b[1] = a[1]
    for metric in (psnr, ssim):
        scores = metric(a, b)
        assert scores[0] < 0.9 * scores[1]
        torch.testing.assert_close(scores[:1], metric(a[:1], b[:1]))


def test_ssim_is_that_of_the_paper_computed_window_by_window():
    a, b = pictures(14).double().numpy(), (0.7 * pictures(14) + 0.3 * pictures(14, seed=1)).double().numpy()
    distance = np.square(np.arange(11) - 5)
    weights = np.exp(-(distance[:, None] + distance[None]) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    scores = np.zeros((2, 3, 4, 4))
    for place in np.ndindex(scores.shape):
        picture, channel, y, x = place
        p, q = (side[picture, channel, y : y + 11, x : x + 11] for side in (a, b))
        mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
        var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
        covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
        scores[place] = (2 * mean_p * mean_q + c1) * (2 * covariance + c2)
        scores[place] /= (mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2)
    ours = ssim(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(ours.numpy(), scores.mean((1, 2, 3)), rtol=1e-6)


def test_ssim_of_two_flat_pictures_compares_their_brightness_alone():
    a, b = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), -0.2)
    c1 = 0.02**2
    assert float(ssim(a, b)) == pytest.approx((2 * 0.5 * -0.2 + c1) / (0.25 + 0.04 + c1), abs=1e-3)


def test_ssim_does_not_care_which_picture_is_the_original():
    torch.testing.assert_close(ssim(pictures(), pictures(seed=1)), ssim(pictures(seed=1), pictures()))


def test_pictures_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match=r"sides of at least 11 pixels, got \(10, 10\)"):
        ssim(pictures(10), pictures(10))
