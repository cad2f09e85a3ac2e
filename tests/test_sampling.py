"""Laws of models/sampling.py: an id is where its uniform number falls on the distribution function, nothing else."""

import pytest
import torch

from tokenloom.models.sampling import gumbel, restrict, sample

LARGEST_BELOW_ONE = 1 - 2**-24


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mass(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def even_uniforms(count: int) -> torch.Tensor:
    return (torch.arange(count) + 0.5) / count


def shares(logits: torch.Tensor, count: int = 20_000, **options) -> torch.Tensor:
    ids = sample(logits.expand(count, -1), even_uniforms(count), **options)
    return torch.bincount(ids, minlength=len(logits)) / count


def test_the_interval_of_an_id_is_as_long_as_its_probability_and_they_follow_each_other():
    logits = mass(0.5, 0.25, 0.125, 0.125).expand(8, -1)
    uniforms = torch.tensor([0, 0.25, 0.49, 0.5, 0.74, 0.75, 0.875, LARGEST_BELOW_ONE])
    assert sample(logits, uniforms).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_frequencies_are_the_probabilities(temperature):
    logits = random_logits(12)
    torch.testing.assert_close(
        shares(logits, temperature=temperature), (logits / temperature).softmax(-1), atol=1e-4, rtol=0
    )


def test_frequencies_agree_with_torchs_own_sampler():
    logits, generator, count = random_logits(8), torch.Generator().manual_seed(1), 20_000
    theirs = torch.multinomial(logits.softmax(-1), count, replacement=True, generator=generator)
    ours = sample(logits.expand(count, -1), torch.rand(count, generator=generator))
    a, b = (torch.bincount(ids, minlength=8) / count for ids in (ours, theirs))
    assert (a - b).abs().max() < 0.02  # five standard deviations


def test_an_id_of_no_mass_is_never_drawn():
    nothing = -torch.inf
    logits = torch.tensor([nothing, 0.3, nothing, nothing, 1.0, nothing])
    uniforms = torch.cat([even_uniforms(1000), torch.tensor([0, 1e-30, LARGEST_BELOW_ONE])])
    assert set(sample(logits.expand(len(uniforms), -1), uniforms).tolist()) == {1, 4}
    many = random_logits(2000, 300, seed=3).masked_fill(random_logits(2000, 300, seed=4) > 1, nothing)
    for uniform in (0.0, LARGEST_BELOW_ONE):  # the last sum of a row may round to more or less than 1
        ids = sample(many, torch.full((2000,), uniform))
        assert many.gather(1, ids[:, None]).isfinite().all()


@pytest.mark.parametrize("uniform", [0.0, 0.3, LARGEST_BELOW_ONE])
def test_temperature_zero_and_top_k_one_take_the_likeliest_whatever_the_chance(uniform):
    logits = random_logits(50, 30)
    uniforms = torch.full((50,), uniform)
    likeliest = logits.argmax(-1)
    assert torch.equal(sample(logits, uniforms, temperature=0), likeliest)
    assert torch.equal(sample(logits, uniforms, top_k=1), likeliest)
    assert torch.equal(sample(logits, uniforms, top_p=1e-9), likeliest)
    for low in (1e-4, 1e-20, 1e-40, 1e-300):  # divided by these, logits would leave the range of numbers
        assert torch.equal(sample(logits, uniforms, temperature=low), likeliest)


@pytest.mark.parametrize("top_k", [2, 5, 12, 100])
def test_top_k_keeps_the_k_largest_in_their_proportions(top_k):
    logits = random_logits(12)
    kept = logits.argsort(descending=True)[:top_k]
    expected = torch.zeros(12)
    expected[kept] = logits[kept].softmax(-1)
    torch.testing.assert_close(shares(logits, top_k=top_k), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.05, [2]),
        (0.4, [2]),
        (0.45, [2, 0]),
        (0.7, [2, 0]),
        (0.75, [2, 0, 3]),
        (0.95, [2, 0, 3, 1]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_the_nucleus_drawn_by_hand(top_p, kept):
    """Probabilities 0.3, 0.1, 0.4, 0.2: the smallest set, largest first, that adds up to top_p."""
    logits = mass(0.3, 0.1, 0.4, 0.2)
    restricted = restrict(logits.double(), top_p=top_p)
    assert sorted(restricted.isfinite().nonzero().flatten().tolist()) == sorted(kept)
    torch.testing.assert_close(restricted[kept], logits.double()[kept])


def test_the_nucleus_is_of_what_top_k_left():
    logits = mass(0.4, 0.3, 0.2, 0.1)
    assert restrict(logits, top_k=2, top_p=0.57).isfinite().tolist() == [True, False, False, False]


def test_a_row_is_decided_by_its_own_number_alone():
    logits, uniforms = random_logits(6, 40), torch.rand(6, generator=torch.Generator().manual_seed(0))
    options = {"temperature": 0.7, "top_k": 20, "top_p": 0.9}
    together = sample(logits, uniforms, **options)
    alone = [int(sample(row, uniform, **options)) for row, uniform in zip(logits, uniforms, strict=True)]
    assert together.tolist() == alone
    grid = sample(logits.view(2, 3, 40), uniforms.view(2, 3), **options)
    assert torch.equal(grid, together.view(2, 3)) and grid.dtype == torch.long


def test_settings_without_meaning_are_refused():
    logits, uniform = random_logits(4), torch.tensor(0.5)
    for wrong in ({"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=r"top_k must be at least 0 and top_p in \(0, 1\]"):
            sample(logits, uniform, **wrong)
    for temperature in (-0.1, 101.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"temperature must be 0 to 100, got {temperature}"):
            sample(logits, uniform, temperature=temperature)


def test_gumbel_noise_is_finite_everywhere_and_follows_its_distribution():
    uniforms = even_uniforms(1000)
    torch.testing.assert_close(torch.exp(-torch.exp(-gumbel(uniforms))), uniforms)
    assert gumbel(torch.tensor([0.0, LARGEST_BELOW_ONE, 1.0])).isfinite().all()


def test_the_largest_of_logits_and_gumbel_noise_is_a_draw_from_the_softmax():
    logits = random_logits(6)
    noise = gumbel(torch.rand(20_000, 6, generator=torch.Generator().manual_seed(0)))
    drawn = torch.bincount((logits + noise).argmax(1), minlength=6) / 20_000
    assert (drawn - logits.softmax(-1)).abs().max() < 0.02
