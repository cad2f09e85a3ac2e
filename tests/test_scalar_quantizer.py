"""Laws of tokenizers/scalar_quantizer.py: an id and its latent are one thing, and the cells are equal and in use."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.tokenizers.scalar_quantizer import MAX_CELLS, MAX_CODES, ScalarQuantizer

SOME_LEVELS = [(2,), (3,), (8, 8), (5, 5, 5), (2, 3, 4, 5), (7, 2, 6), (1000,)]
each_levels = pytest.mark.parametrize("levels", SOME_LEVELS, ids=str)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=4))
def test_every_id_comes_back_from_its_latent_whatever_the_levels(levels):
    quantizer = ScalarQuantizer(tuple(levels))
    ids = torch.arange(quantizer.num_codes)
    assert quantizer.num_codes == math.prod(levels)
    assert torch.equal(quantizer.latents_to_ids(quantizer.ids_to_latents(ids)), ids)
    assert torch.equal(quantizer.cells_to_ids(quantizer.ids_to_cells(ids)), ids)


def test_ids_count_in_the_first_dimension_and_latents_are_midpoints():
    """Levels 2 and 3, drawn by hand: midpoints of two halves, and of three thirds, of [-1, 1]."""
    third = 2 / 3
    expected = [[-0.5, -third], [0.5, -third], [-0.5, 0], [0.5, 0], [-0.5, third], [0.5, third]]
    torch.testing.assert_close(ScalarQuantizer((2, 3)).codebook(), torch.tensor(expected))


@each_levels
def test_the_codebook_lists_every_latent_once_and_inside_the_bound(levels):
    codebook = ScalarQuantizer(levels).codebook()
    assert codebook.shape == (math.prod(levels), len(levels))
    assert codebook.abs().max() < 1
    assert len(codebook.unique(dim=0)) == len(codebook)


@pytest.mark.parametrize("levels", [(2,), (3, 3), (4, 5, 2)], ids=str)
def test_a_latent_goes_to_the_nearest_point_of_the_codebook(levels):
    quantizer = ScalarQuantizer(levels)
    latents = torch.rand(500, len(levels), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(quantizer.latents_to_ids(latents), torch.cdist(latents, quantizer.codebook()).argmin(1))


@each_levels
def test_what_lies_outside_goes_to_the_end_cells(levels):
    quantizer = ScalarQuantizer(levels)
    for far in (1.0, 1.5, 1e9, math.inf):
        assert quantizer.latents_to_ids(torch.full((len(levels),), far)) == quantizer.num_codes - 1
        assert quantizer.latents_to_ids(torch.full((len(levels),), -far)) == 0


@each_levels
def test_quantizing_gives_points_of_the_codebook_and_lets_the_gradient_of_the_bound_pass(levels):
    quantizer = ScalarQuantizer(levels)
    z = torch.randn(9, len(levels), generator=torch.Generator().manual_seed(1), requires_grad=True)
    z_q = quantizer(z)
    ids = quantizer.latents_to_ids(quantizer.bound(z))
    torch.testing.assert_close(z_q, quantizer.codebook()[ids])
    weight = torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    (through_quantizer,) = torch.autograd.grad((z_q * weight).sum(), z)
    (through_bound,) = torch.autograd.grad((quantizer.bound(z) * weight).sum(), z)
    torch.testing.assert_close(through_quantizer, through_bound)
    assert through_bound.abs().min() > 0


@pytest.mark.parametrize(("levels", "tolerance"), [(2, 0.02), (3, 0.03), (5, 0.05), (8, 0.12)])
def test_unit_normal_input_uses_every_level_about_equally(levels, tolerance):
    """Shares of a fine grid of the normal's quantiles, so there is no chance in it."""
    quantiles = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    z = (2**0.5 * torch.erfinv(2 * quantiles - 1)).unsqueeze(1)
    quantizer = ScalarQuantizer((levels,))
    shares = torch.bincount(quantizer.latents_to_ids(quantizer.bound(z)), minlength=levels) / len(z)
    assert (shares * levels - 1).abs().max() < tolerance


def test_ids_outside_the_codebook_are_refused():
    quantizer = ScalarQuantizer((4, 4))
    for wrong in (-1, 16):
        with pytest.raises(ValueError, match=r"ids must lie in \[0, 16\), got"):
            quantizer.ids_to_latents(torch.tensor([0, wrong]))
    assert quantizer.ids_to_latents(torch.empty(0, 3, dtype=torch.long)).shape == (0, 3, 2)


@pytest.mark.parametrize("levels", [(), (1,), (8, 1), (0,), (-3, -3)], ids=str)
def test_a_dimension_of_one_level_is_refused(levels):
    with pytest.raises(ValueError, match="at least 2 levels"):
        ScalarQuantizer(levels)


def test_codes_that_are_too_many_have_cells_and_latents_but_no_ids():
    quantizer = ScalarQuantizer((9,) * 64)
    u = torch.rand(5, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cells = quantizer.cells(u)
    assert not quantizer.has_ids and quantizer.num_codes == 9**64
    assert torch.equal(quantizer.cells(quantizer.midpoints(cells)), cells)
    for what in (
        lambda: quantizer.cells_to_ids(cells),
        lambda: quantizer.latents_to_ids(u),
        lambda: quantizer.ids_to_cells(cells),
        lambda: quantizer.ids_to_latents(cells),
        quantizer.codebook,
    ):
        with pytest.raises(ValueError, match=rf"at most {MAX_CODES} codes can have ids, got 2\^203"):
            what()


def test_as_many_codes_as_have_ids_have_them_all():
    quantizer = ScalarQuantizer((MAX_CELLS, 16))
    assert quantizer.has_ids and not ScalarQuantizer((MAX_CELLS, 17)).has_ids
    last = torch.tensor([[MAX_CELLS - 1, 15]])
    assert quantizer.cells_to_ids(last).tolist() == [MAX_CODES - 1]
    assert torch.equal(quantizer.ids_to_cells(torch.tensor([MAX_CODES - 1])), last)


def test_more_cells_than_float32_tells_apart_are_refused():
    every = torch.arange(MAX_CELLS).unsqueeze(1)
    quantizer = ScalarQuantizer((MAX_CELLS,))
    assert torch.equal(quantizer.cells(quantizer.midpoints(every)), every)
    with pytest.raises(ValueError, match=f"at most {MAX_CELLS}, got"):
        ScalarQuantizer((MAX_CELLS + 1,))


@pytest.mark.parametrize("ids", [torch.full((2,), 3.7), torch.zeros(2, dtype=torch.int32)])
def test_ids_of_another_type_are_refused(ids):
    with pytest.raises(ValueError, match="ids must be int64, got"):
        ScalarQuantizer((8, 8)).ids_to_latents(ids)


def test_it_has_nothing_to_train_and_nothing_to_store():
    quantizer = ScalarQuantizer((8, 8))
    assert not list(quantizer.parameters()) and not quantizer.state_dict()
