"""Laws of models/corruption.py: time 1 hides everything, time 0 nothing, and only as much as was asked."""

import pytest
import torch

from tokenloom.models.corruption import add_noise, mask_ids

MASK = 99


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_smallest_of_the_order_are_masked_first():
    ids = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 23]])
    order = torch.tensor([[0.3, 0.1, 0.9, 0.2], [0.4, 0.3, 0.2, 0.1]])
    masked, hidden = mask_ids(ids, torch.tensor([0.5, 0.75]), order, MASK)
    assert masked.tolist() == [[10, MASK, 12, MASK], [20, MASK, MASK, MASK]]
    assert torch.equal(hidden, masked == MASK)


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.01, 1), (0.25, 4), (0.5, 8), (0.99, 16), (1.0, 16)])
def test_the_share_is_masked_but_at_least_one(share, count):
    ids = torch.arange(32).view(2, 16)
    masked, hidden = mask_ids(ids, torch.full((2,), share), random(2, 16), MASK)
    assert hidden.sum(1).tolist() == [count, count]
    assert torch.equal(masked[~hidden], ids[~hidden]) and (masked[hidden] == MASK).all()


def test_equal_numbers_in_the_order_still_mask_the_right_count():
    _, hidden = mask_ids(torch.zeros(3, 10, dtype=torch.long), torch.tensor([0.3, 0.5, 1.0]), torch.zeros(3, 10), MASK)
    assert hidden.sum(1).tolist() == [3, 5, 10]


def test_the_ids_that_came_in_are_left_alone():
    ids = torch.arange(8).view(1, 8)
    mask_ids(ids, torch.ones(1), random(1, 8), MASK)
    assert ids.tolist() == [list(range(8))]


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 6)])
def test_time_one_is_noise_and_time_zero_is_data_and_between_lies_a_straight_line(shape):
    latents, noise = random(*shape), random(*shape, seed=1)
    noisy = add_noise(latents, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(noisy[0], latents[0]) and torch.equal(noisy[2], noise[2])
    torch.testing.assert_close(noisy[1], 0.75 * latents[1] + 0.25 * noise[1])
