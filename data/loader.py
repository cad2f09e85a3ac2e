"""Batches that are a pure function of (seed, step): the same for any number of workers, from any step on.

The stream of examples is one permutation of the data set after another, epoch upon epoch; step s takes positions
s * batch_size to (s + 1) * batch_size of it, so a batch may cross from one epoch into the next and no example is ever
left out. A broken example is replaced by the next good one of its permutation, which keeps a batch a function of
(seed, step) as long as the files stay the same.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor

from .folders import Example
from .made_ahead import MadeAhead
from .media import MediaError, fit, to_tensor

Batch = dict[str, Any]  # tensors (B, ...) and lists of B strings
Transform = Callable[[Any, torch.Generator], dict[str, Any]]  # an example and chance -> a row of the batch


def seed_of(*parts: int) -> int:
    """One 63-bit seed from several integers, unrelated to the seed of any other integers."""
    return int.from_bytes(hashlib.sha256(" ".join(str(int(part)) for part in parts).encode()).digest()[:8]) >> 1


def generator_of(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*parts))


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, length: int) -> Tensor:
    """The order of the examples in one epoch, int64 (length,)."""
    return torch.randperm(length, generator=generator_of(seed, epoch))


@dataclass(frozen=True)
class SquareImages:
    """Example -> `image` float32 (3, size, size) in [-1, 1] and `text`, the caption or "".

    `flip` is the probability of mirroring; leave it at 0 where captions speak of left and right.
    """

    size: int
    flip: float = 0.0

    def __call__(self, example: Example, generator: torch.Generator) -> dict[str, Any]:
        image = to_tensor(fit(example.image, self.size))
        if torch.rand((), generator=generator) < self.flip:
            image = image.flip(-1)
        return {"image": image, "text": example.caption or ""}


class Loader:
    """Batches of `transform(example, generator)`, each example with a generator of its own for augmentation.

    `transform` returns a dict of tensors, which are stacked, and other values, which are listed; a MediaError from it
    or from reading the example makes the example a bad one. With `workers`, batches are made ahead in that many
    processes, to which `examples` and `transform` are copied. `report` gets one line for each bad example, once.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        report: Callable[[str], None] | None = None,
    ):
        if not len(examples):
            raise ValueError("the data set must hold an example, got an empty one; check its path")
        if batch_size < 1 or workers < 0:
            raise ValueError(f"batch_size must be positive and workers not negative, got {batch_size} and {workers}")
        self.batch_size = batch_size
        self.workers = workers
        self.report = report or (lambda line: print(line, file=sys.stderr))
        self.bad: dict[int, str] = {}  # index of a bad example -> what is wrong with it
        self._batches = _Batches(examples, transform, batch_size, seed)

    def batch(self, step: int) -> Batch:
        """The batch of one step, made here and now."""
        return self._heed(self._batches[step])

    def iterate(self, start_step: int = 0, num_steps: int | None = None) -> Iterator[Batch]:
        """The batches of `start_step`, `start_step` + 1, ...; without `num_steps`, for ever."""
        made = MadeAhead(self._batches.__getitem__, self.workers)
        yield from map(self._heed, map(made, islice(count(start_step), num_steps)))

    def summary(self) -> str:
        """One line on the bad examples seen so far, or "" when there was none."""
        total = len(self._batches.examples)
        return f"{len(self.bad):,} of {total:,} examples could not be read and were skipped" if self.bad else ""

    def _heed(self, made: "_Made | ValueError") -> Batch:
        if isinstance(made, ValueError):
            raise made
        batch, bad = made
        for index, message in bad.items():
            if index not in self.bad:
                self.bad[index] = message
                self.report(f"skipped {message}")
        return batch


_Made = tuple[Batch, dict[int, str]]  # a batch, and the bad examples met in making it


class _Batches:
    """Step -> batch, as worker processes see it."""

    def __init__(self, examples: Sequence[Any], transform: Transform, batch_size: int, seed: int):
        self.examples = examples
        self.transform = transform
        self.batch_size = batch_size
        self.seed = seed
        self.known_bad: dict[int, str] = {}  # spares reading them again; changes no batch

    def __getitem__(self, step: int) -> _Made | ValueError:
        if step < 0:
            raise ValueError(f"steps count from 0, got {step}")
        bad: dict[int, str] = {}
        start = step * self.batch_size
        try:
            rows = [self._row(position, bad) for position in range(start, start + self.batch_size)]
            return _stack(rows), bad
        except ValueError as error:  # raised again in the process of the caller, where it stays one line
            return error

    def _row(self, position: int, bad: dict[int, str]) -> dict[str, Any]:
        length = len(self.examples)
        epoch, slot = divmod(position, length)
        order = permutation(self.seed, epoch, length)
        for skipped in range(length):
            index = int(order[(slot + skipped) % length])
            if index not in self.known_bad:
                try:
                    return self.transform(self.examples[index], generator_of(self.seed, epoch, index, skipped))
                except MediaError as error:
                    self.known_bad[index] = str(error)
            bad[index] = self.known_bad[index]
        raise ValueError(f"none of the {length:,} examples could be read; the first: {next(iter(bad.values()))}")


def _stack(rows: list[dict[str, Any]]) -> Batch:
    batch: Batch = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, Tensor):
            shapes = sorted({tuple(value.shape) for value in values})
            if len(shapes) > 1:
                raise ValueError(
                    f"transform must give {name!r} one shape, got {shapes[0]} and {shapes[1]}; resize or pad it"
                )
            batch[name] = torch.stack(values)
        else:
            batch[name] = values
    return batch
