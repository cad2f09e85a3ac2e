"""Endless streams of drawn examples: kind and random numbers of example i follow from a seed and i alone."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from .scene_layout import Draws


def example_seed(seed: int, index: int) -> int:
    """One 32-bit state per example, all of a generator's seed that torch keeps on CPU.

    The finalizer of MurmurHash3 is a bijection, so no two indices of one seed share a state.
    """
    state = (index ^ (seed * 0x9E3779B97F4A7C15 >> 16)) & 0xFFFFFFFF
    state = (state ^ state >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    state = (state ^ state >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return state ^ state >> 16


def example_draws(seed: int, index: int, count: int, mixture: Mapping[str, float]) -> Iterator[tuple[str, Draws]]:
    """Kind and random numbers of examples `index` to `index + count - 1`; `mixture` gives each kind its weight.

    The numbers are to be used up before the next example is asked for: all come from one generator.
    """
    kinds = tuple(kind for kind, weight in mixture.items() if weight != 0)
    weights = np.array([mixture[kind] for kind in kinds], np.float64)
    if not kinds or not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"a mixture needs weights of at least 0 and one above 0, got {dict(mixture)}")
    if index < 0 or index + count > 2**32:
        raise ValueError(f"a seed has examples 0 to 2**32 - 1, got {index} to {index + count - 1}; change the seed")
    shares = (weights / weights.sum()).cumsum()
    generator = torch.Generator()
    for i in range(count):
        draws = Draws(generator.manual_seed(example_seed(seed, index + i)))
        yield kinds[min(int(np.searchsorted(shares, draws.uniform(), side="right")), len(kinds) - 1)], draws
