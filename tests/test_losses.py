"""Laws of models/losses.py: nothing lost for equal pictures, edges count only where brightness changes."""

import pytest
import torch

from tokenloom.models.losses import edge_loss, motion_loss, reconstruction_loss


def pictures(size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_pictures_lose_nothing():
    assert reconstruction_loss(pictures(), pictures(), absolute=0.3, edges=0.3) == 0


def test_a_shift_of_brightness_has_no_edges():
    assert edge_loss(pictures() + 0.1, pictures()) == pytest.approx(0, abs=1e-6)


def test_the_edge_of_a_half_drawn_by_hand():
    """A step of 1 in the middle column of 4: one of three differences at full size, one of one at half size."""
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1
    flat = torch.zeros(1, 1, 4, 4)
    assert edge_loss(step, flat, num_scales=1) == pytest.approx(1 / 3)
    assert edge_loss(step, flat, num_scales=2) == pytest.approx((1 / 3 + 1) / 2)
    assert edge_loss(step.mT, flat, num_scales=2) == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 64])
def test_small_pictures_have_fewer_scales_and_a_finite_loss(size):
    """Sides below 8 gave no number at all: the third scale was one pixel, which has no differences."""
    outputs = pictures(size).requires_grad_()
    loss = reconstruction_loss(outputs, pictures(size, seed=1), absolute=0.3, edges=0.3)
    loss.backward()
    assert loss.isfinite() and outputs.grad is not None and outputs.grad.isfinite().all()


def test_a_constant_slope_counts_at_every_scale_that_there_is():
    """The error rises by 0.1 a pixel, so by 0.2 a pixel of half size: the mean over the scales, however many fit."""
    slope = 0.1 * torch.arange(16.0).expand(1, 1, 16, 16)
    flat = torch.zeros(1, 1, 16, 16)
    assert edge_loss(slope, flat) == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert edge_loss(slope[..., :4, :4], flat[..., :4, :4]) == pytest.approx((0.1 + 0.2) / 2)


def test_the_terms_are_weighted():
    a, b = pictures(), pictures(seed=1)
    squared, absolute = (a - b).square().mean(), (a - b).abs().mean()
    expected = squared + 0.3 * absolute + 0.7 * edge_loss(a, b)
    torch.testing.assert_close(reconstruction_loss(a, b, absolute=0.3, edges=0.7), expected)
    torch.testing.assert_close(reconstruction_loss(a, b, absolute=0.0, edges=0.0), squared)


def test_what_does_not_move_has_no_motion_and_a_jump_counts_once_per_step():
    still = torch.rand(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 5, -1, -1)
    assert motion_loss(still + 0.1, still) == pytest.approx(0, abs=1e-6)
    jump = still + torch.tensor([0, 0, 1, 1, 1]).view(1, 1, 5, 1, 1)
    assert motion_loss(jump, still) == pytest.approx(1 / 4)
    assert motion_loss(still[:, :, :1], still[:, :, 1:2]) == 0
