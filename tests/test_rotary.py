"""Laws of models/rotary.py: only differences of positions count, and text on the diagonal is one-dimensional RoPE."""

import pytest
import torch

from tokenloom.models.rotary import AXES, BASE, rotary_table, rotate
from tokenloom.tokenizers.sequence import text_positions


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scores(positions: torch.Tensor, head_dim: int = 16) -> torch.Tensor:
    """Dot products of every pair of a fixed set of turned queries and keys."""
    q, k = random(1, 2, len(positions), head_dim), random(1, 2, len(positions), head_dim, seed=1)
    table = rotary_table(positions, head_dim)
    return rotate(q, table) @ rotate(k, table).mT


@pytest.mark.parametrize("shift", [(5, 5, 5), (3, 0, 0), (0, 7, 0), (0, 0, 100), (1, 20, 30)])
def test_a_shift_of_all_positions_changes_no_score(shift):
    positions = torch.randint(20, (9, AXES), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(scores(positions + torch.tensor(shift)), scores(positions), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("axis", range(AXES))
def test_every_axis_counts(axis):
    positions = torch.zeros(2, AXES, dtype=torch.long)
    moved = positions.clone()
    moved[1, axis] = 3
    assert (scores(moved) - scores(positions)).abs().max() > 0.1


def test_text_is_turned_as_by_one_dimensional_rope():
    """The oracle turns complex numbers: channels c and c + head_dim / 2, by position x BASE^(-2 c / head_dim)."""
    x, head_dim = random(2, 3, 6, 12), 12
    turned = rotate(x, rotary_table(text_positions(6), head_dim))
    angle = torch.arange(6)[:, None] * BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
    pairs = torch.complex(x[..., :6], x[..., 6:]) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(turned, torch.cat([pairs.real, pairs.imag], dim=-1))


def test_turning_keeps_lengths_and_position_zero_turns_nothing():
    x = random(2, 3, 6, 12)
    torch.testing.assert_close(rotate(x, rotary_table(text_positions(6, start=50), 12)).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, rotary_table(torch.zeros(6, AXES), 12)), x)


def test_positions_may_be_shared_or_one_set_per_sequence():
    x, positions = random(2, 3, 6, 12), text_positions(6, start=4)
    shared = rotate(x, rotary_table(positions, 12))
    assert torch.equal(rotate(x, rotary_table(positions.expand(2, -1, -1), 12)), shared)
    own = torch.stack([positions, positions + 9])
    assert torch.equal(rotate(x, rotary_table(own, 12))[1], rotate(x[1:], rotary_table(positions + 9, 12))[0])
