"""Laws of models/schedules.py: rates start, peak and end where they say; time 1 is noise and time 0 is data."""

import math

import pytest
import torch

from tokenloom.models.schedules import cosine, cosine_masked_share, falling_times, trapezoid


@pytest.mark.parametrize("schedule", [cosine(100, warmup=10), trapezoid(100, warmup=10, decay=0.3)])
def test_rates_warm_up_peak_at_one_and_end_at_zero(schedule):
    rates = [schedule(step) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == 1 and rates[100] == pytest.approx(0, abs=1e-12)
    assert all(0 < rate <= 1 for rate in rates[:100])
    assert all(later <= earlier for earlier, later in zip(rates[10:-1], rates[11:], strict=True))


def test_cosine_is_half_way_down_in_the_middle():
    assert cosine(110, warmup=10)(60) == pytest.approx(0.5)


def test_trapezoid_is_flat_until_its_last_part_and_then_a_line():
    schedule = trapezoid(100, warmup=10, decay=0.2)
    assert {schedule(step) for step in range(9, 81)} == {1.0}
    assert [schedule(step) for step in (85, 90, 95)] == pytest.approx([0.75, 0.5, 0.25])


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_warm_up_the_first_step_has_the_full_rate(warmup):
    assert cosine(10, warmup=warmup)(0) == 1
    assert trapezoid(10, warmup=warmup, decay=0.0)(0) == 1


def test_a_schedule_shorter_than_its_warm_up_still_ends():
    assert all(math.isfinite(cosine(5, warmup=50)(step)) for step in range(6))
    assert trapezoid(5, warmup=50, decay=0.5)(5) == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 1000])
def test_sampling_times_fall_from_exactly_one_to_exactly_zero_in_equal_steps(steps):
    times = falling_times(steps)
    assert times.shape == (steps + 1,) and times[0] == 1 and times[-1] == 0
    torch.testing.assert_close(times.diff(), torch.full((steps,), -1 / steps, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 3, 16])
@pytest.mark.parametrize("shift", [1.0, 1.8, 3.0])
def test_shifted_times_are_those_of_diffusers(steps, shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=falling_times(steps)[:-1].tolist())
    torch.testing.assert_close(scheduler.sigmas.double(), falling_times(steps, shift), atol=1e-6, rtol=0)


def test_a_sampler_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        falling_times(0)


def test_everything_is_masked_at_time_one_and_nothing_at_time_zero():
    values = [cosine_masked_share(t / 100) for t in range(101)]
    assert values[0] == 0 and values[100] == 1
    assert all(a < b for a, b in zip(values[:-1], values[1:], strict=True))


def test_the_masking_schedule_is_that_of_its_paper():
    """MaskGIT's cosine is of the time that has passed."""
    for t in (0.1, 0.5, 0.8):
        assert cosine_masked_share(t) == pytest.approx(math.cos(math.pi / 2 * (1 - t)))
