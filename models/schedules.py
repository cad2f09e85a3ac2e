"""Schedules: learning rates over training, and times over sampling.

Time t runs from 1 (noise, or everything masked) down to 0 (data), here and everywhere else.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

RateSchedule = Callable[[int], float]  # step -> factor of the peak learning rate


def cosine(steps: int, *, warmup: int) -> RateSchedule:
    """Linear warm-up, then half a cosine down to zero at `steps` (SGDR, arXiv:1608.03983, without restarts)."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))

    return factor


def trapezoid(steps: int, *, warmup: int, decay: float) -> RateSchedule:
    """Linear warm-up, flat, then linear to zero over the last `decay` of the steps (arXiv:2405.18392)."""

    def factor(step: int) -> float:
        down = max(1.0, decay * steps)
        return max(0.0, min((step + 1) / max(1, warmup), 1.0, (steps - step) / down))

    return factor


def falling_times(num_steps: int, shift: float = 1.0) -> Tensor:
    """Times of a sampler of `num_steps` steps: float64 (num_steps + 1,), from 1 (noise) to 0 (data).

    They are evenly spaced s, moved to shift s / (1 + (shift - 1) s): with a `shift` above 1 there are more of them near
    the noise (Esser et al. 2024, arXiv:2403.03206, eq. 23).
    """
    if num_steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {num_steps}")
    even = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift * even / (1 + (shift - 1) * even)


def cosine_masked_share(t: float) -> float:
    """Share still masked at time t: sin(pi t / 2) (MaskGIT, arXiv:2202.04200); 1 at t = 1, 0 at 0."""
    return math.sin(math.pi * t / 2)
