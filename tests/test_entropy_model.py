"""Laws of tokenizers/entropy_model.py: probabilities are probabilities, of what is to come by what has come alone."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from tests.doubles import toy_entropy_model
from tokenloom.tokenizers.entropy_model import EntropyModel, EntropyModelConfig

LEVELS = (9, 5, 3, 2)


def latents(model: EntropyModel, *shape: int, seed: int = 0) -> Tensor:
    """Random codes (B, h, w) as latents (B, D, h, w)."""
    ids = torch.randint(model.quantizer.num_codes, shape, generator=torch.Generator().manual_seed(seed))
    return rearrange(model.quantizer.ids_to_latents(ids), "B h w D -> B D h w")


@pytest.mark.parametrize("dimension", range(len(LEVELS)))
def test_the_cells_of_a_dimension_share_one_probability(dimension):
    model = toy_entropy_model()
    found = latents(model, 3, 4, 5)
    total = torch.zeros(3)
    for cell in range(LEVELS[dimension]):
        found[:, dimension, 2, 3] = (2 * cell + 1 - LEVELS[dimension]) / LEVELS[dimension]
        total += 2 ** -model(found)[:, dimension, 2, 3]
    torch.testing.assert_close(total, torch.ones(3), atol=1e-4, rtol=0)


def test_bits_are_those_of_a_logistic_distribution_cut_at_the_cells():
    model = toy_entropy_model()
    found = latents(model, 2, 3, 3)
    means, scales = (part.double() for part in model.distributions(found))
    levels = torch.tensor(LEVELS)[:, None, None]
    upper = torch.where(found > 1 - 1.5 / levels, torch.inf, found.double() + 1 / levels)
    lower = torch.where(found < 1.5 / levels - 1, -torch.inf, found.double() - 1 / levels)
    shares = torch.sigmoid((upper - means) / 2**scales) - torch.sigmoid((lower - means) / 2**scales)
    assert shares.min() < 0.05 and shares.max() > 0.5  # both are there
    torch.testing.assert_close(2 ** -model(found).double(), shares, atol=2e-5, rtol=1e-3)


def test_bits_depend_on_no_code_that_comes_later():
    """Rows below, codes to the right, dimensions of the same and later groups; those before do count."""
    model = toy_entropy_model()
    found = latents(model, 1, 5, 6).requires_grad_()
    for dimension, before in ((0, 0), (1, 0), (2, 2), (3, 2)):  # groups are (0, 1) and (2, 3)
        means, scales = model.distributions(found)
        (gradient,) = torch.autograd.grad((means + scales)[0, dimension, 2, 3], found)
        seen = gradient[0] != 0  # (D, h, w)
        expected = torch.zeros_like(seen)
        expected[:, :2, 1:6] = True  # two rows above, two columns to either side
        expected[:, 2, 1:3] = True
        expected[:before, 2, 3] = True
        assert torch.equal(seen, expected)


def test_it_learns_what_can_be_foretold():
    """Columns that repeat the one before: after training the first costs its bits, the others next to none."""
    torch.manual_seed(0)
    model = EntropyModel(EntropyModelConfig(levels=(8, 8), width=32, num_groups=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 400)
        told = latents(model, 16, 6, 1, seed=step).expand(-1, -1, -1, 6)
        loss = model(told).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bits = model(latents(model, 64, 6, 1, seed=999).expand(-1, -1, -1, 6)).detach().mean((0, 1, 2))
    assert bits[0] > 2.8 and bits[1:].max() < 0.3


def test_gradients_are_finite_however_wrong_it_was():
    model = toy_entropy_model()
    with torch.no_grad():
        for head in model.heads:
            head.weight.zero_()
            head.bias.fill_(-30.0)  # sure of a mean far away
    found = latents(model, 2, 3, 3).requires_grad_()
    bits = model(found)
    bits.sum().backward()
    assert bits.isfinite().all() and float(bits.detach().max()) == pytest.approx(20, abs=0.1)
    assert all(part.grad is None or part.grad.isfinite().all() for part in (found, *model.parameters()))


def test_saved_it_is_the_same(tmp_path):
    model = toy_entropy_model()
    model.save_pretrained(tmp_path)
    loaded = EntropyModel.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(latents(model, 1, 4, 4)), model(latents(model, 1, 4, 4)))


@pytest.mark.parametrize("changes", [{"num_groups": 0}, {"width": 0}, {"storage_dtype": "int8"}])
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        EntropyModelConfig(levels=LEVELS, **changes)
