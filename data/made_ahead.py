"""Items made by worker processes before they are asked for, so that drawing and reading do not hold up training."""

import warnings
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Item = TypeVar("Item")


class MadeAhead(Generic[Item]):
    """`make(number)`, of which `workers` processes make those that come next: `number + stride`, and so on.

    `make` depends on the number alone, so which process makes an item changes nothing. Asked for a number out of turn,
    they go on from there. Without workers everything is made here, when it is asked for.
    """

    def __init__(self, make: Callable[[int], Item], workers: int = 0, stride: int = 1):
        if workers < 0 or stride < 1:
            raise ValueError(f"workers must not be negative and stride at least 1, got {workers} and {stride}")
        self.make, self.workers, self.stride = make, workers, stride
        self._next = -1
        self._made: Iterator[Item] = iter(())

    def __call__(self, number: int) -> Item:
        if not self.workers:
            return self.make(number)
        if number != self._next:
            self._made = self._start(number)
        self._next = number + self.stride
        return next(self._made)

    def _start(self, number: int) -> Iterator[Item]:
        with warnings.catch_warnings():
            # The number of workers is the caller's choice; forking is how torch starts them, one thread in each.
            warnings.filterwarnings("ignore", message="This DataLoader will create|.*multi-threaded, use of fork")
            return iter(
                DataLoader(
                    _Items(self.make),
                    batch_size=None,
                    sampler=count(number, self.stride),
                    num_workers=self.workers,
                    collate_fn=_as_it_is,
                    generator=torch.Generator(),  # it draws a seed for its workers: not from the global generator
                )
            )


class _Items(Dataset):
    """Number -> item, as worker processes see it."""

    def __init__(self, make: Callable[[int], Any]):
        self.make = make

    def __getitem__(self, number: int) -> Any:
        return self.make(number)


def _as_it_is(made: Any) -> Any:
    return made
