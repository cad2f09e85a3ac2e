"""Laws of data/dead_leaves.py: a picture is a function of its generator, and has the statistics of natural ones."""

import numpy as np
import pytest
import torch

from tokenloom.data import dead_leaves as module
from tokenloom.data.dead_leaves import dead_leaves

COUNT = 40


def drawn(count: int = COUNT, size: int = 64) -> np.ndarray:
    return np.stack([dead_leaves(torch.Generator().manual_seed(seed), size) for seed in range(count)])


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return drawn()


def test_a_picture_is_a_function_of_its_generator_and_each_is_another(pictures):
    assert pictures.shape == (COUNT, 64, 64, 3) and pictures.dtype == np.uint8
    assert np.array_equal(drawn(3), pictures[:3])
    assert len({picture.tobytes() for picture in pictures}) == COUNT


@pytest.mark.parametrize("size", [16, 64, 100])
def test_pictures_have_any_size(size):
    assert drawn(2, size).shape == (2, size, size, 3)


def test_the_mean_spectrum_falls_as_that_of_natural_pictures(pictures):
    """The power at a frequency f goes as f^-a, a near 2 (Field 1987); of white noise a is 0, of smooth blobs more."""
    luma = pictures @ np.array([0.299, 0.587, 0.114])
    window = np.hanning(64)[:, None] * np.hanning(64)[None]
    power = np.mean([abs(np.fft.fft2((one - one.mean()) * window)) ** 2 for one in luma], axis=0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    band = (frequency > 2 / 64) & (frequency < 0.35)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert -3 < slope < -1.5


def test_edges_are_rare_and_sharp(pictures):
    """Differences of neighbours have far heavier tails than a Gaussian, whose kurtosis is 3 (Lee et al. 2001)."""
    luma = pictures @ np.array([0.299, 0.587, 0.114])
    difference = np.diff(luma, axis=2)
    assert np.mean((difference - difference.mean()) ** 4) / difference.var() ** 2 > 8


def test_all_levels_and_colors_occur(pictures):
    assert pictures.min() == 0 and pictures.max() == 255
    means = pictures.reshape(COUNT, -1, 3).mean(1)
    assert means.std(0).min() > 20, "some are dark, some bright"
    spread = (pictures.max(-1).astype(int) - pictures.min(-1)).reshape(COUNT, -1).mean(1)
    assert spread.min() < 12 and spread.max() > 40, "some are nearly gray, some colorful"


def test_some_pictures_have_few_colors_and_these_may_be_any():
    """As people draw: most neighbours are exactly alike, and whole regions are as colorful as can be."""
    found = drawn(150)
    alike = (np.diff(found.astype(int), axis=2) == 0).all(-1).mean((1, 2))
    plain = found[alike > 0.5]
    assert 12 < len(plain) < 45 and np.median(alike) < 0.2
    assert (plain.max(-1).astype(int) - plain.min(-1)).max() > 200


def test_a_leaf_of_sides_is_convex_and_holds_its_middle():
    v, u = np.mgrid[-2:2:81j, -2:2:81j].astype(np.float32)
    for sides in (0.4, 0.7, 0.999):
        corner = np.random.default_rng(0).random(module.MAX_SIDES).astype(np.float32)
        depth = module._within_sides(u, v, sides, corner)
        assert depth[40, 40] == pytest.approx(1)
        inside = np.argwhere(depth > 0)
        middles = (inside[::7] + inside[::-7]) // 2
        assert (depth[middles[:, 0], middles[:, 1]] > -0.1).all()


def test_a_blur_keeps_the_mean_and_what_is_flat():
    flat = np.full((12, 12, 3), 7, dtype=np.float32)
    np.testing.assert_allclose(module._blurred(flat, 1.3), flat, rtol=1e-5)
    picture = drawn(1, 32)[0].astype(np.float32)
    for deviation in (0.0, 1.0):
        blurred = module._blurred(picture, deviation)
        assert blurred.shape == picture.shape and abs(blurred.mean() - picture.mean()) < 2
        assert np.allclose(blurred, picture, atol=1e-3) == (deviation == 0)
