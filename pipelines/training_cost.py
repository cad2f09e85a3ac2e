"""What a training run costs, counted and told in the same way by every trainer: arithmetic, memory, hours.

FLOP counts a product and a sum as two; a backward pass costs two forward passes. Memory is what lies there at the end
of a forward pass: weights with what training keeps beside them, and what the backward pass needs of each example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..models.transformer import TransformerConfig

WEIGHT = 20  # bytes of a trained one: itself, its moving average, its gradient, two moments
FROZEN = 4  # of one that is only read
SLOT = 29  # numbers of its width that a block keeps of each slot of a transformer: norms, products, gates
KEY = 2  # and of each slot that these look at: keys and values, laid one after the other
HALF = 0.7  # of the bytes remain with products in bfloat16


class Recipe(Protocol):
    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int: ...


@dataclass(frozen=True)
class Cost:
    """Of one example."""

    flop: float
    kept: float  # bytes for the backward pass

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flop + other.flop, self.kept + other.kept)


def trunk_cost(config: TransformerConfig, *segments: tuple[int, int], bfloat16: bool = False) -> Cost:
    """Of the trunk, forward and backward, on segments of L slots each that also look at P slots before: (L, P)."""
    slots = sum(length for length, _ in segments)
    keys = sum(length + past for length, past in segments)
    scores = sum(length * (length + past) for length, past in segments)  # those that a mask hides are computed, too
    width, layers = config.width, config.num_layers
    products = slots * (4 * width**2 + 3 * width * config.hidden) + 2 * width * scores
    numbers = width * (SLOT * slots + KEY * keys) + config.num_heads * scores
    return Cost(6.0 * layers * products, 4.0 * layers * numbers * (HALF if bfloat16 else 1))


def of_kinds(kinds: Sequence[tuple[float, Cost]]) -> Cost:
    """Of steps of several kinds, each with its share: the mean arithmetic, and the memory of the largest."""
    total = sum(share for share, _ in kinds)
    flop = sum(share * cost.flop for share, cost in kinds) / total
    return Cost(flop, max(cost.kept for share, cost in kinds if share))


def kept_bytes(forward: Callable[[], Any]) -> int:
    """Bytes that `forward` keeps for its backward pass, those of parameters left out."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # else one storage could take another's place

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def counted(module: nn.Module, batch: tuple[Tensor, ...]) -> Cost:
    """Of an example, forward and backward, as a pass of `module` over two of them shows it beside a pass over one.

    `batch` holds two examples or more, as `module` takes them.
    """
    from torch.utils.flop_counter import FlopCounterMode

    def passed(count: int) -> tuple[int, int]:
        with FlopCounterMode(display=False) as counter:
            kept = kept_bytes(lambda: module(*(tensor[:count] for tensor in batch)))
        return counter.get_total_flops(), kept

    (flop, kept), (of_one, kept_of_one) = passed(2), passed(1)
    return Cost(3.0 * (flop - of_one), kept - kept_of_one)  # backward costs two forwards


def work(recipe: Recipe, cost: Cost, parameters: int, examples: str, *, gigaflops: float, frozen: int = 0) -> str:
    """The last line of a plan: steps, arithmetic, memory, and hours at `gigaflops` a second.

    `parameters` are trained and `frozen` are read; `examples` says what a batch is made of.
    """
    count = recipe.steps * recipe.batch_size
    total = cost.flop * count
    memory = WEIGHT * parameters + FROZEN * frozen + recipe.batch_size * cost.kept
    return (
        f"{recipe.steps} steps of {recipe.batch_size}: {count} {examples}, {cost.flop / 1e9:.3g} GFLOP each, "
        f"{total / 1e15:.3g} PFLOP in all; about {memory / 1e9:.3g} GB; "
        f"{total / gigaflops / 3.6e12:.3g} hours at {gigaflops:.0f} GFLOP/s"
    )
