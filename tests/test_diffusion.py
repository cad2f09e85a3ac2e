"""Laws of models/diffusion.py: orders of the integrators on closed forms, Bayes' rule by brute force, the distribution.

The closed form: data are normal with mean MU and deviation SIGMA. Then x_t is normal with variance
(1 - t)^2 SIGMA^2 + t^2, the velocity is known, and the path that begins in x at t = 1 ends in MU + SIGMA x at t = 0.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from tokenloom.models.corruption import add_noise
from tokenloom.models.diffusion import SMALLEST_TIME, euler, evidence, heun, multistep, velocity_field
from tokenloom.models.schedules import falling_times

MU, SIGMA = 0.7, 0.4


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal_velocity(x: Tensor, time: Tensor) -> Tensor:
    t = time.view(-1, 1, 1)
    variance = (1 - t) ** 2 * SIGMA**2 + t**2
    return (t - (1 - t) * SIGMA**2) / variance * (x - (1 - t) * MU) - MU


def end_error(integrate, steps: int, end: float) -> float:
    noise, times = random(4, 3, 2), torch.linspace(1, end, steps + 1, dtype=torch.float64)
    expected = (1 - end) * MU + math.hypot((1 - end) * SIGMA, end) * noise
    return float((integrate(normal_velocity, noise, times) - expected).abs().max())


@pytest.mark.parametrize("integrate", [euler, heun, multistep])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_straight_path_is_followed_exactly(integrate, steps):
    noise, data = random(2, 3, 5, 8).unbind(0)
    x = integrate(lambda x, t: noise - data, noise, falling_times(steps))
    torch.testing.assert_close(x, data)


@pytest.mark.parametrize(
    ("integrate", "order", "end"),
    [(euler, 1, 0), (heun, 2, 0), (multistep, 2, 0.1)],  # at 0 a logarithm slows `multistep`
)
def test_the_error_falls_with_the_order_of_the_method(integrate, order, end):
    coarse, fine = end_error(integrate, 64, end), end_error(integrate, 128, end)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_heun_takes_two_evaluations_a_step_and_one_in_the_last():
    times: list[float] = []

    def velocity(x, t):
        times.append(float(t[0]))
        return normal_velocity(x, t)

    heun(velocity, random(1, 1, 1), falling_times(4))
    assert times == [1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]


def test_multistep_is_exact_where_the_prediction_moves_evenly_in_time():
    """Its first step is Euler's, having seen nothing move; the callback puts x where it belongs after that."""
    start, slope, noise = random(3, 4, 5, 2).unbind(0)
    times = torch.tensor([1, 0.7, 0.6, 0.2, 0.1], dtype=torch.float64)

    def exact(t: float) -> Tensor:  # of dx/dt = (x - start - t slope) / t
        return start + t * (noise - start - slope * math.log(t))

    seen: list[Tensor] = []
    multistep(
        lambda x, t: (x - start - t.view(-1, 1, 1) * slope) / t.view(-1, 1, 1),
        noise,
        times,
        lambda step, x: exact(0.7) if step == 0 else seen.append(x),
    )
    torch.testing.assert_close(seen, [exact(t) for t in (0.6, 0.2, 0.1)])


def test_multistep_comes_closer_than_euler_with_half_the_steps():
    assert end_error(multistep, 8, 0) < end_error(euler, 16, 0)


def test_multistep_asks_once_a_step():
    times: list[float] = []
    multistep(lambda x, t: times.append(float(t[0])) or x, random(1, 1, 1), falling_times(4))
    assert times == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("integrate", [euler, heun, multistep])
def test_every_picture_of_the_batch_is_asked_at_the_same_time_and_none_at_time_zero(integrate):
    seen: list[Tensor] = []
    integrate(lambda x, t: seen.append(t) or x, random(3, 2, 2), falling_times(5))
    assert all(t.shape == (3,) and t.unique().numel() == 1 and 0 < t[0] <= 1 for t in seen)


@pytest.mark.parametrize("integrate", [euler, heun, multistep])
def test_the_callback_sees_each_step_and_may_put_another_x(integrate):
    steps: list[int] = []

    def keep(step: int, x: Tensor) -> Tensor:
        steps.append(step)
        return torch.full_like(x, step)

    assert (integrate(normal_velocity, random(2, 2, 2), falling_times(3), keep) == 2).all() and steps == [0, 1, 2]
    plain = integrate(normal_velocity, random(2, 2, 2), falling_times(3))
    assert torch.equal(integrate(normal_velocity, random(2, 2, 2), falling_times(3), lambda step, x: None), plain)


@pytest.mark.slow  # the import of diffusers takes most of it
def test_our_euler_step_is_that_of_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler, times = FlowMatchEulerDiscreteScheduler(), falling_times(7)
    scheduler.set_timesteps(sigmas=times[:-1].tolist())
    theirs = random(2, 3, 4).float()
    ours = euler(normal_velocity, theirs, times)
    for timestep in scheduler.timesteps:
        time = (timestep / scheduler.config.num_train_timesteps).expand(2)
        theirs = scheduler.step(normal_velocity(theirs, time), timestep, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------ codes: a known distribution

CODEBOOK = torch.tensor([[-0.75, -0.5], [-0.25, 0.5], [0.5, -0.5], [0.75, 1.0]], dtype=torch.float64)  # (V, D)
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
each_time = pytest.mark.parametrize("time", [SMALLEST_TIME, 0.1, 0.5, 0.9, 1.0])


def log_likelihood(x: Tensor, t: float) -> Tensor:
    """log p(x_t | code) of every code, by torch: x (..., D) -> (..., V)."""
    return Normal((1 - t) * CODEBOOK, torch.tensor(t, dtype=torch.float64)).log_prob(x.unsqueeze(-2)).sum(-1)


@each_time
def test_evidence_is_the_gaussian_likelihood_up_to_a_constant(time):
    x = random(2, 3, 2)
    ours, theirs = evidence(x, torch.full((2,), time, dtype=torch.float64), CODEBOOK), log_likelihood(x, time)
    torch.testing.assert_close(ours.log_softmax(-1), theirs.log_softmax(-1), atol=1e-9, rtol=1e-9)


def test_no_autocast_reaches_the_evidence():
    x, time, points = random(2, 9, 4).float(), torch.tensor([0.05, 0.6]), random(64, 4).float()
    plain = evidence(x, time, points)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(evidence(x, time, points), plain)


def test_at_time_one_there_is_no_evidence_and_near_zero_it_is_certain():
    ids = torch.tensor([[0, 1, 2, 3]])
    assert (evidence(random(1, 4, 2), torch.ones(1), CODEBOOK) == 0).all()
    for time in (0.0, SMALLEST_TIME):
        noisy = add_noise(CODEBOOK[ids], random(1, 4, 2), torch.tensor([time], dtype=torch.float64))
        certain = evidence(noisy, torch.full((1,), time), CODEBOOK).softmax(-1)
        torch.testing.assert_close(certain, torch.eye(4, dtype=torch.float64).unsqueeze(0))


@each_time
def test_the_velocity_points_from_the_posterior_mean_by_brute_force(time):
    x = random(5, 3, 2)
    posterior = torch.softmax(PRIOR.log() + log_likelihood(x, time), dim=-1)
    mean = (posterior.unsqueeze(-1) * CODEBOOK).sum(-2)
    field = velocity_field(lambda x, t: PRIOR.log().expand(5, 3, 4), CODEBOOK)
    torch.testing.assert_close(x - time * field(x, torch.full((5,), time, dtype=torch.float64)), mean)


def frequencies(ids: Tensor, count: int) -> Tensor:
    return torch.bincount(ids.flatten(), minlength=count) / ids.numel()


def nearest(x: Tensor) -> Tensor:
    return torch.cdist(x, CODEBOOK).argmin(-1)


def test_sampling_with_the_exact_prior_draws_its_distribution():
    """4,000 positions, each by itself: five standard deviations of a frequency are below 0.04."""
    field = velocity_field(lambda x, t: PRIOR.log().expand(*x.shape[:2], 4), CODEBOOK)
    x = euler(field, random(1000, 4, 2), falling_times(64))
    assert (frequencies(nearest(x), 4) - PRIOR).abs().max() < 0.04
    assert (x - CODEBOOK[nearest(x)]).norm(dim=-1).quantile(0.99) < 0.05  # it ends on the codes, not between


def test_a_temperature_sharpens_the_prior_and_zero_leaves_its_likeliest_point():
    for temperature, wanted in ((0.5, PRIOR**2 / (PRIOR**2).sum()), (0.0, torch.eye(4)[PRIOR.argmax()])):
        field = velocity_field(lambda x, t: PRIOR.log().expand(*x.shape[:2], 4), CODEBOOK, temperature)
        x = euler(field, random(1000, 4, 2), falling_times(64))
        assert (frequencies(nearest(x), 4) - wanted).abs().max() < 0.04


def test_what_the_other_position_says_gives_the_joint_distribution():
    """Two positions that depend on each other; the exact logits of one are what the other's x_t says about it."""
    joint = torch.tensor(
        [[0.3, 0.0, 0.05, 0.0], [0.0, 0.25, 0.0, 0.05], [0.0, 0.1, 0.1, 0.0], [0.05, 0.0, 0.0, 0.1]],
        dtype=torch.float64,
    )

    def logits(x: Tensor, time: Tensor) -> Tensor:
        seen = log_likelihood(x, float(time[0]))  # (B, 2, V)
        first = torch.logsumexp(joint.log() + seen[:, 1:], dim=-1)
        second = torch.logsumexp(joint.T.log() + seen[:, :1], dim=-1)
        return torch.stack([first, second], dim=1)

    ids = nearest(euler(velocity_field(logits, CODEBOOK), random(4000, 2, 2), falling_times(64)))
    drawn = frequencies(ids[:, 0] * 4 + ids[:, 1], 16)
    assert (drawn - joint.flatten()).abs().max() < 0.04


def test_noising_and_the_exact_posterior_agree_on_the_mean_squared_error():
    """The posterior mean is the best guess there is: no other of some guesses has a smaller error."""
    time = 0.5
    ids = torch.multinomial(PRIOR, 20_000, replacement=True, generator=torch.Generator().manual_seed(0)).view(1, -1)
    noisy = add_noise(CODEBOOK[ids], random(1, 20_000, 2), torch.tensor([time], dtype=torch.float64))

    def error(prior: Tensor) -> float:
        field = velocity_field(lambda x, t: prior.log().expand(1, 20_000, 4), CODEBOOK)
        return float((noisy - time * field(noisy, torch.tensor([time])) - CODEBOOK[ids]).square().mean())

    assert all(error(PRIOR) < error(PRIOR[list(order)]) for order in itertools.permutations(range(4)) if order[0])
