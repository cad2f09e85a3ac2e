"""`diffusion`: flow matching on latents, whose data are the points of a codebook.

B pictures, N positions, D latent dimensions, V codes. The path is straight, x_t = (1 - t) x + t noise, with t = 1 noise
and t = 0 data (rectified flow, arXiv:2209.03003), and the velocity is (x_t - E[x | x_t]) / t. The model predicts x, as
in JiT (arXiv:2511.13720). Since x is one of V known points, its mean given x_t is a weighted mean of these points, with
weights that the model gives as logits and learns by cross-entropy (score interpolation, CDCD, arXiv:2211.15089).

One thing need not be learned: how well each point c explains the x_t seen at its own position. That is a Gaussian,
log N(x_t; (1 - t) c, t^2), and is added to the logits by Bayes' rule; the model supplies what the other positions and
the prompt say. It makes the prediction exact as t falls, where a learned one would have to sharpen without end.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # x (B, N, D) and times (B,) -> velocity (B, N, D)
AtStep = Callable[[int, Tensor], Tensor | None]  # step and x after it -> None, or another x to go on with
Integrate = Callable[[Velocity, Tensor, Tensor, AtStep | None], Tensor]  # as `euler`
SMALLEST_TIME = 0.02  # below, the evidence is certain already, and its logits only lose digits
SMALLEST_TEMPERATURE = 1e-3  # below, the likeliest point has all the weight already


def evidence(x: Tensor, time: Tensor, codebook: Tensor) -> Tensor:
    """log N(x_t; (1 - t) c, t^2) for every point c of `codebook` (V, D), up to what does not depend on c.

    `x` (B, N, D) at `time` (B,) -> (B, N, V). As t falls these reach hundreds of nats, of which bfloat16 would leave
    whole nats uncertain: no autocast reaches them.
    """
    t = time.clamp(min=SMALLEST_TIME).view(-1, 1, 1)
    # (1 - t) / t^2 (x.c - (1 - t) |c|^2 / 2), as one product: |c|^2 is one dimension more of c
    seen = torch.cat([x, ((t - 1) / 2).expand(*x.shape[:-1], 1)], dim=-1)
    points = torch.cat([codebook, codebook.square().sum(1, keepdim=True)], dim=1)  # (V, D + 1)
    with torch.autocast(x.device.type, enabled=False):
        return torch.matmul((1 - t) / t**2 * seen, points.T)


def velocity_field(logits: Callable[[Tensor, Tensor], Tensor], codebook: Tensor, temperature: float = 1.0) -> Velocity:
    """The velocity (x_t - E[x | x_t]) / t from a function (x, time) -> prior logits (B, N, V).

    A `temperature` below 1 sharpens the prior, as it does for the other decoders, and leaves the evidence as it is.
    """
    sharpness = 1 / max(temperature, SMALLEST_TEMPERATURE)

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        weights = evidence(x, time, codebook).add_(logits(x, time), alpha=sharpness).softmax(-1)
        return (x - weights @ codebook) / time.view(-1, 1, 1)

    return velocity


@torch.no_grad()
def euler(velocity: Velocity, x: Tensor, times: Tensor, callback: AtStep | None = None) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from `times[0]` to `times[-1]` (N + 1,), which fall from 1 (noise) to 0 (data).

    `callback` sees (step, x) after each step and may return another x, which is how given positions are kept.
    """
    for step, (t, t_next) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        x = x + (t_next - t) * velocity(x, x.new_full((len(x),), t))
        if callback:
            changed = callback(step, x)
            x = x if changed is None else changed
    return x


@torch.no_grad()
def heun(velocity: Velocity, x: Tensor, times: Tensor, callback: AtStep | None = None) -> Tensor:
    """As `euler`, by the trapezoidal rule: two evaluations a step, but one in the last, to t = 0 (EDM, alg. 1)."""
    for step, (t, t_next) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        slope = velocity(x, x.new_full((len(x),), t))
        guess = x + (t_next - t) * slope
        if t_next > 0:
            slope = (slope + velocity(guess, x.new_full((len(x),), t_next))) / 2
        x = x + (t_next - t) * slope
        if callback:
            changed = callback(step, x)
            x = x if changed is None else changed
    return x


@torch.no_grad()
def multistep(velocity: Velocity, x: Tensor, times: Tensor, callback: AtStep | None = None) -> Tensor:
    """As `euler`, of second order at the same price: the predicted data go on moving as they did in the step before.

    While they stay, x falls on a straight line to them, which is Euler's step; while they move evenly in t, the line
    bends by what is added below, exactly. DPM-Solver++ (2M, arXiv:2211.01095) is the same for data that move evenly in
    log(1 / t - 1), which is infinite at both ends.
    """
    before: Tensor | None = None  # what the step before predicted
    for step, (t, t_next) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        prediction = x - t * velocity(x, x.new_full((len(x),), t))
        x = torch.lerp(prediction, x, t_next / t)
        if before is not None and t_next > 0:
            change = (prediction - before) / (times[step] - times[step - 1]).item()
            x = x + (t_next * math.log(t / t_next) + t_next - t) * change
        before = prediction
        if callback:
            changed = callback(step, x)
            x = x if changed is None else changed
    return x
