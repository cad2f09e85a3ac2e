"""Where the objects of a scene stand: boxes inside the margin, apart from each other, related where that is asked.

Lengths and positions are fractions of the side; x grows to the right, y down.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

WIDTHS = {"small": (0.16, 0.20), None: (0.22, 0.30), "large": (0.34, 0.42)}  # None: a size that goes unsaid
MAX_PLAIN = 4  # when there are more objects, all are small
MAX_LARGE = 2  # when there are more objects, none is large
MARGIN = 0.03  # from a box to the edge
GAP = 0.04  # between two boxes, on at least one axis
APART, ASIDE = 0.22, 0.119  # of two centres in a relation: at least, on its axis; at most (0.12 excluded), on the other
RESTARTS, TRIES = 20, 30  # of the search for free places


class Draws:
    """Uniform numbers from a generator, fetched in blocks: a torch call costs as much as fifty numbers."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator
        self.block: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        if not self.block:
            self.block = torch.rand(64, generator=self.generator, dtype=torch.float64).tolist()
        return low + (high - low) * self.block.pop()

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return int(self.uniform() * stop)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def two(self, options: Sequence[T]) -> tuple[T, T]:
        """Two different options, in random order."""
        i, j = self.below(len(options)), self.below(len(options) - 1)
        return options[i], options[j + (j >= i)]


def place(draws: Draws, widths: Sequence[float]) -> list[tuple[float, float]]:
    """Centres of boxes that keep the margin and the gap: rejection, widest first; on bad luck, cells of a grid."""
    order = sorted(range(len(widths)), key=lambda i: -widths[i])
    for _ in range(RESTARTS):
        centres: dict[int, tuple[float, float]] = {}
        for i in order:
            low, high = MARGIN + widths[i] / 2, 1 - MARGIN - widths[i] / 2
            for _ in range(TRIES):
                x, y = draws.uniform(low, high), draws.uniform(low, high)
                if all(
                    max(abs(x - centres[j][0]), abs(y - centres[j][1])) >= (widths[i] + widths[j]) / 2 + GAP
                    for j in centres
                ):
                    centres[i] = x, y
                    break
            else:
                break
        if len(centres) == len(widths):
            return [centres[i] for i in range(len(widths))]
    return grid(len(widths))


def grid(count: int) -> list[tuple[float, float]]:
    """Centres of the first cells of a 2 x 2 grid, or 3 x 2 for more than four: every lawful scene fits."""
    columns = 3 if count > 4 else 2
    step_x, step_y = (1 - 2 * MARGIN) / columns, (1 - 2 * MARGIN) / 2
    return [(MARGIN + step_x * (i % columns + 0.5), MARGIN + step_y * (i // columns + 0.5)) for i in range(count)]


def place_related(draws: Draws, widths: Sequence[float], relation: str) -> list[tuple[float, float]]:
    """Centres of two boxes, the first in the relation to the second."""
    low = [MARGIN + width / 2 for width in widths]
    distance = draws.uniform(max(APART, sum(widths) / 2 + GAP), 1 - low[0] - low[1])
    near, far = (0, 1) if relation in ("left of", "above") else (1, 0)
    along, across = [0.0, 0.0], [0.0, 0.0]
    along[near] = draws.uniform(low[near], 1 - low[far] - distance)
    along[far] = along[near] + distance
    wide, slim = (0, 1) if widths[0] >= widths[1] else (1, 0)  # the slim one can always follow the wide one
    across[wide] = draws.uniform(low[wide], 1 - low[wide])
    across[slim] = draws.uniform(max(low[slim], across[wide] - ASIDE), min(1 - low[slim], across[wide] + ASIDE))
    if relation in ("left of", "right of"):
        return list(zip(along, across, strict=True))
    return list(zip(across, along, strict=True))
