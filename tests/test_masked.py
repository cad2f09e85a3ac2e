"""Laws of models/masked.py: what is given stays, nothing stays hidden, the surest come first."""

import math

import pytest
import torch

from tokenloom.models.masked import unmask
from tokenloom.models.sampling import sample
from tokenloom.models.schedules import cosine_masked_share

B, N, V = 3, 10, 7
HOLE = -1  # stands at hidden positions; no code is negative, so one that is left is seen


def random_logits(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def chance(steps: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(steps, 2, B, N, generator=torch.Generator().manual_seed(seed))


class Recorder:
    """Predicts fixed logits and keeps what it was shown."""

    def __init__(self, logits: torch.Tensor):
        self.logits, self.ids, self.hidden, self.times = logits, [], [], []

    def __call__(self, ids, hidden, time):
        self.ids.append(ids)
        self.hidden.append(hidden)
        self.times.append(time)
        return self.logits


def holes(given: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
    ids = torch.arange(B * N).view(B, N) % V if ids is None else ids
    return torch.where(given, ids, HOLE)


@pytest.fixture
def given() -> torch.Tensor:
    """A different subset in every row, one of them empty."""
    given = torch.rand(B, N, generator=torch.Generator().manual_seed(5)) < 0.4
    given[1] = False
    return given


def test_with_every_position_given_it_returns_it():
    ids = torch.arange(B * N).view(B, N) % V
    everything = torch.ones(B, N, dtype=torch.bool)
    assert torch.equal(unmask(Recorder(random_logits(B, N, V)), ids, everything, chance(4)), ids)


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 50])
@pytest.mark.parametrize("share", [cosine_masked_share, lambda time: time])
def test_given_positions_are_never_touched_and_nothing_is_hidden_at_the_end(given, steps, share):
    recorder, start = Recorder(random_logits(B, N, V)), holes(given)
    ids = unmask(recorder, start, given, chance(steps), masked_share=share)
    assert torch.equal(ids[given], start[given])
    assert ids.min() >= 0 and ids.max() < V
    assert all(torch.equal(seen[given], start[given]) for seen in recorder.ids)
    assert len(recorder.ids) == steps and not any((hidden & given).any() for hidden in recorder.hidden)
    assert torch.equal(start, holes(given))  # the caller's tensor is left alone


def test_one_step_samples_all_positions_at_once():
    logits, uniforms = random_logits(B, N, V), chance(1)
    nothing = torch.zeros(B, N, dtype=torch.bool)
    ids = unmask(Recorder(logits), holes(nothing), nothing, uniforms, temperature=0.8)
    assert torch.equal(ids, sample(logits, uniforms[0, 0], temperature=0.8))


@pytest.mark.parametrize("share", [cosine_masked_share, lambda time: time])
def test_as_many_stay_hidden_as_the_schedule_says_and_time_falls_from_one(share):
    nothing, steps = torch.zeros(B, N, dtype=torch.bool), 8
    recorder = Recorder(random_logits(B, N, V))
    unmask(recorder, holes(nothing), nothing, chance(steps), masked_share=share)
    assert recorder.times == pytest.approx([1 - step / steps for step in range(steps)])
    for time, hidden in zip(recorder.times, recorder.hidden, strict=True):
        assert hidden.sum(1).tolist() == [math.floor(share(time) * N)] * B


def test_a_code_once_kept_is_kept():
    nothing, recorder = torch.zeros(B, N, dtype=torch.bool), Recorder(random_logits(B, N, V))
    final = unmask(recorder, holes(nothing), nothing, chance(6))
    for before, after, ids in zip(recorder.hidden[:-1], recorder.hidden[1:], recorder.ids[1:], strict=True):
        assert not (after & ~before).any()
        assert torch.equal(ids[~after], final[~after])


def test_without_noise_the_surest_positions_are_kept_first():
    """Position n is decided with probability rising in n, so from step to step the hidden ones are the first ones."""
    logits = torch.zeros(B, N, V)
    logits[:, :, 3] = torch.arange(N) / 2
    nothing, recorder = torch.zeros(B, N, dtype=torch.bool), Recorder(logits)
    ids = unmask(recorder, holes(nothing), nothing, chance(5), temperature=0, choice_temperature=0)
    assert (ids[:, 1:] == 3).all()
    for hidden in recorder.hidden:
        count = int(hidden[0].sum())
        assert hidden.tolist() == [[n < count for n in range(N)]] * B


@pytest.mark.parametrize("choice_temperature", [0.5, 2.0, 10.0])
def test_sureness_is_the_log_probability_blurred_by_noise_that_falls_with_time(choice_temperature):
    """Step by step by hand: of the positions still hidden, those stay that are least sure."""
    logits, uniforms = random_logits(B, N, V), chance(5)
    nothing, recorder = torch.zeros(B, N, dtype=torch.bool), Recorder(logits)
    unmask(recorder, holes(nothing), nothing, uniforms, temperature=0, choice_temperature=choice_temperature)
    sure = logits.log_softmax(-1).amax(-1)
    for step in range(4):
        noise = -torch.log(-torch.log(uniforms[step, 1]))
        blurred = sure + choice_temperature * (1 - step / 5) * noise
        for row in range(B):
            hidden = recorder.hidden[step][row].nonzero().flatten()
            stay = hidden[blurred[row, hidden].argsort()[: int(recorder.hidden[step + 1][row].sum())]]
            assert recorder.hidden[step + 1][row].nonzero().flatten().tolist() == sorted(stay.tolist())


def test_choice_temperature_spreads_what_is_kept_first():
    logits = torch.zeros(B, N, V)
    logits[:, :, 3] = torch.arange(N) / 2
    nothing, recorder = torch.zeros(B, N, dtype=torch.bool), Recorder(logits)
    unmask(recorder, holes(nothing), nothing, chance(5), temperature=0, choice_temperature=50)
    assert len(recorder.hidden[3].unique(dim=0)) > 1


def test_without_temperature_chance_does_not_count(given):
    ids = [
        unmask(
            Recorder(random_logits(B, N, V)), holes(given), given, chance(4, seed), temperature=0, choice_temperature=0
        )
        for seed in (1, 2)
    ]
    assert torch.equal(*ids)


def test_a_row_does_not_depend_on_its_batch(given):
    logits, uniforms = random_logits(B, N, V), chance(4)
    together = unmask(Recorder(logits), holes(given), given, uniforms)
    for row in range(B):
        one = slice(row, row + 1)
        alone = unmask(Recorder(logits[one]), holes(given)[one], given[one], uniforms[:, :, one])
        assert torch.equal(alone, together[one])


def test_the_callback_counts_the_steps(given):
    steps: list[int] = []
    unmask(Recorder(random_logits(B, N, V)), holes(given), given, chance(4), callback=steps.append)
    assert steps == [0, 1, 2, 3]


def test_later_steps_are_drawn_given_the_codes_of_earlier_ones():
    """Two positions that must agree: drawn in one step they often differ, one after the other never."""
    nothing = torch.zeros(B, 2, dtype=torch.bool)

    def agree(ids, hidden, time):
        other = ids.flip(1)
        logits = torch.zeros(B, 2, V)
        seen = ~hidden.flip(1)
        return torch.where(seen.unsqueeze(-1), torch.nn.functional.one_hot(other.clamp(min=0), V) * 100.0, logits)

    uniforms = torch.rand(2, 2, B, 2, generator=torch.Generator().manual_seed(0))
    at_once, in_turn = (unmask(agree, torch.full((B, 2), HOLE), nothing, uniforms[:steps]) for steps in (1, 2))
    assert (in_turn[:, 0] == in_turn[:, 1]).all() and (at_once[:, 0] != at_once[:, 1]).any()
