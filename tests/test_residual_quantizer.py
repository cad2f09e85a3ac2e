"""Laws of tokenizers/residual_quantizer.py: cells nest, ids and latents are one thing, and a latent is a sum."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.tokenizers.residual_quantizer import ResidualQuantizer, falling_levels
from tokenloom.tokenizers.scalar_quantizer import ScalarQuantizer

SOME_LEVELS = [((4, 3),), ((3, 3), (3, 3), (3, 3)), ((8, 1, 2), (1, 4, 4), (2, 2, 4)), ((16, 1), (2, 8), (4, 4))]
each_levels = pytest.mark.parametrize("levels", SOME_LEVELS, ids=str)


def some_ids(quantizer: ResidualQuantizer, count: int = 500) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(quantizer.num_codes, (count, quantizer.num_codebooks), generator=generator)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.permutations([1, 2, 3, 4]), min_size=1, max_size=6))
def test_every_id_comes_back_from_its_latent_whatever_the_levels(levels):
    quantizer = ResidualQuantizer(tuple(map(tuple, levels)))
    ids = some_ids(quantizer)
    assert torch.equal(quantizer.latents_to_ids(quantizer.ids_to_latents(ids)), ids)


@each_levels
def test_the_first_ids_of_a_latent_are_those_of_its_coarser_latent(levels):
    """So decoding may stop at any level, and what a model of few levels says is read by all."""
    quantizer = ResidualQuantizer(levels)
    ids = some_ids(quantizer)
    for k in range(1, len(levels) + 1):
        assert torch.equal(quantizer.latents_to_ids(quantizer.ids_to_latents(ids[:, :k]))[:, :k], ids[:, :k])


@each_levels
def test_a_latent_is_the_sum_of_what_its_levels_say_each_in_cells_of_the_one_before(levels):
    quantizer = ResidualQuantizer(levels)
    ids, width = some_ids(quantizer), torch.ones(len(levels[0]))
    total = torch.zeros(len(ids), len(levels[0]))
    for k, level in enumerate(levels):
        digits = torch.stack([ids[:, k] // math.prod(level[:d]) % level[d] for d in range(len(level))], dim=1)
        total += width * (2 * digits + 1 - torch.tensor(level)) / torch.tensor(level)
        width /= torch.tensor(level)
        torch.testing.assert_close(quantizer.ids_to_latents(ids[:, : k + 1]), total)


def test_one_level_is_the_scalar_quantizer():
    ours, plain = ResidualQuantizer(((4, 3, 5),)), ScalarQuantizer((4, 3, 5))
    z = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(z), plain(z))
    assert torch.equal(ours.latents_to_ids(ours(z))[..., 0], plain.latents_to_ids(plain(z)))


def test_each_level_leaves_the_error_of_half_its_cells():
    quantizer = ResidualQuantizer(((3, 3), (3, 3), (3, 3)))
    u = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = quantizer.latents_to_ids(u)
    for k in (1, 2, 3):
        assert (quantizer.ids_to_latents(ids[:, :k]) - u).abs().max() <= 3.0**-k + 1e-6


def test_training_with_fewer_levels_gives_the_latents_of_fewer_levels():
    quantizer = ResidualQuantizer(((8, 1, 2), (1, 4, 4), (2, 2, 4)))
    z = torch.randn(3, 20, 3, generator=torch.Generator().manual_seed(0))
    latents = quantizer(z, torch.tensor([1, 2, 3]))
    ids = quantizer.latents_to_ids(quantizer.bound(z))
    for example, k in enumerate((1, 2, 3)):
        assert torch.equal(latents[example], quantizer.ids_to_latents(ids[example, :, :k]))
    assert torch.equal(quantizer(z), quantizer(z, torch.tensor([3, 3, 3])))


def test_the_gradient_is_that_of_the_bound_where_a_level_says_something_and_none_elsewhere():
    quantizer = ResidualQuantizer(((4, 1), (1, 4)))
    z = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (through,) = torch.autograd.grad(quantizer(z, torch.tensor([1])).sum(), z)
    (of_bound,) = torch.autograd.grad(quantizer.bound(z).sum(), z)
    torch.testing.assert_close(through[..., 0], of_bound[..., 0])
    assert not through[..., 1].any()


def test_bits_go_where_the_error_is_largest():
    """Variances 1, 1/4, 1/16: two bits level the first with the second, and so on; then all take turns."""
    assert falling_levels(dims=3, bits=[1, 2, 3], exponent=2.0) == ((2, 1, 1), (2, 2, 1), (2, 2, 2))


def test_wrong_levels_and_ids_are_refused():
    with pytest.raises(ValueError, match="same 2 to"):
        ResidualQuantizer(((4, 2), (2, 2)))
    with pytest.raises(ValueError, match="at most"):
        ResidualQuantizer(((1 << 11, 1), (1 << 11, 1)))
    quantizer = ResidualQuantizer(((4, 2), (2, 4)))
    with pytest.raises(ValueError, match=r"\[0, 8\), got 0 to 8"):
        quantizer.ids_to_latents(torch.tensor([[0, 8]]))
    with pytest.raises(ValueError, match="1 to 2 levels, got 3"):
        quantizer.ids_to_latents(torch.zeros(1, 3, dtype=torch.long))
