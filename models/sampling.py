"""From logits to ids. Pure functions: the chance enters as uniform numbers that the caller drew.

B rows, V vocabulary. A row is decided by its own uniform number alone, so a picture does not depend on its batch.
"""

import torch
from torch import Tensor

SMALLEST_TEMPERATURE = 1e-6  # below, logits / temperature may leave the range of float32
LARGEST_TEMPERATURE = 100.0  # beyond it, draws are as good as uniform


def restrict(logits: Tensor, *, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (..., V) with -inf outside the `top_k` largest (0: all) and outside the nucleus of mass `top_p`.

    The nucleus is the smallest set of ids whose probabilities add up to at least `top_p` (arXiv:1904.09751).
    """
    if top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(f"top_k must be at least 0 and top_p in (0, 1], got {top_k} and {top_p}")
    if 0 < top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass = ordered.softmax(-1)
        outside = mass.cumsum(-1) - mass >= top_p  # the mass before an id already suffices
        logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return logits


def sample(logits: Tensor, uniform: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits (..., V) and uniform numbers (...) in [0, 1) -> int64 ids (...), by the inverse distribution function.

    Temperature 0 takes the likeliest id, and so does one below `SMALLEST_TEMPERATURE`.
    """
    if not 0 <= temperature <= LARGEST_TEMPERATURE:
        raise ValueError(f"temperature must be 0 to {LARGEST_TEMPERATURE:g}, got {temperature}; lower it")
    if temperature < SMALLEST_TEMPERATURE:
        return logits.argmax(-1)
    mass = restrict(logits / temperature, top_k=top_k, top_p=top_p).softmax(-1).cumsum(-1)
    # The last entry may fall short of 1 by rounding, and an id of no mass must never be drawn.
    total = mass[..., -1]
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(mass, point.unsqueeze(-1), right=True).squeeze(-1)


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) -> Gumbel noise, -log(-log u)."""
    return -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
