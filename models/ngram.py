"""n-grams: what comes next, from how often it followed the last n - 1 tokens (modified Kneser-Ney, interpolated).

Chen and Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3. L tokens of a
text, V kinds of token, END included. For a history h of n - 1 tokens, and h' without its first,

    P(w | h) = (c(h w) - D(c(h w))) / c(h) + gamma(h) P(w | h'),    gamma(h) = sum over w of D(c(h w)) / c(h),

down to 1 / V. c counts occurrences in the longest n-grams, and in shorter ones how many different tokens stood before
them: "Francisco" is frequent, but only after "San", so it says little about other places.

An n-gram is one int64, its tokens as digits, last token last; so counting is sorting, and a history is a division.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .sampling import sample

LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True)
class _Order:
    """n-grams of one length: sorted keys (G,), what is left of their counts (G,); histories (H,), their counts and
    what is taken from all their n-grams (H,)."""

    keys: Tensor  # int64
    rest: Tensor  # float64, c - D(c)
    histories: Tensor  # int64
    counts: Tensor  # float64
    taken: Tensor  # float64


class NGramModel:
    """A NextTokenModel that counts. Built from texts in seconds, so there is nothing to save."""

    def __init__(self, texts: Sequence[Tensor], *, order: int, num_tokens: int):
        """From texts, each int64 (L,) of ids in [0, num_tokens).

        Raises:
            ValueError: `order` does not fit, or there is no text.
        """
        self.end, self.begin, self.base = num_tokens, num_tokens + 1, num_tokens + 2
        if order < 1 or self.base**order > LARGEST_KEY:
            largest = next(n for n in range(64, 0, -1) if self.base**n <= LARGEST_KEY)
            raise ValueError(f"order must be 1 to {largest} with {num_tokens} tokens, got {order}")
        if not any(map(len, texts)):
            raise ValueError("an n-gram model needs texts, got none; name files that hold some")
        self.order, self.num_tokens = order, num_tokens
        keys, counts = torch.cat([self._keys(text, order) for text in texts]).unique(return_counts=True)
        self.orders = [_smoothed(keys, counts, self.base)]
        for n in range(order - 1, 0, -1):
            keys, counts = (keys % self.base**n).unique(return_counts=True)  # each came after so many different tokens
            self.orders.append(_smoothed(keys, counts, self.base))

    @property
    def num_counts(self) -> int:
        """What the model holds, in numbers, as parameters of a network: n-grams of all lengths."""
        return sum(len(order.keys) for order in self.orders)

    def log_probabilities(self, ids: Tensor) -> Tensor:
        """See NextTokenModel."""
        return self._probabilities(self._keys(ids, self.order)[:-1]).log()

    def continue_ids(self, ids: Sequence[int], generator: torch.Generator, temperature: float) -> Iterator[int]:
        """See NextTokenModel."""
        every = torch.arange(self.end + 1)
        history = deque([self.begin] * (self.order - 1) + list(ids), maxlen=self.order - 1)
        while True:
            key = 0
            for token in history:
                key = (key + token) * self.base
            logits = self._probabilities(key + every).log().float()
            token = int(sample(logits, torch.rand((), generator=generator), temperature=temperature))
            if token == self.end:
                return
            yield token
            history.append(token)

    def _keys(self, ids: Tensor, length: int) -> Tensor:
        """The n-gram that ends at each token of a text and at the END after it: int64 (L,) -> (L + 1,)."""
        padded = torch.cat([ids.new_full((length - 1,), self.begin), ids, ids.new_tensor([self.end])])
        keys = torch.zeros(len(ids) + 1, dtype=torch.long)
        for start in range(length):
            keys = keys * self.base + padded[start : start + len(keys)]
        return keys

    def _probabilities(self, keys: Tensor) -> Tensor:
        """Of the last token of n-grams int64 (N,), given the others: float64 (N,)."""
        p = torch.full(keys.shape, 1 / (self.num_tokens + 1), dtype=torch.float64)
        for n, order in enumerate(reversed(self.orders), 1):
            shorter = keys % self.base**n
            rest = _look_up(order.keys, order.rest, shorter, missing=0.0)
            count = _look_up(order.histories, order.counts, shorter // self.base, missing=1.0)
            taken = _look_up(order.histories, order.taken, shorter // self.base, missing=1.0)  # nothing known: all of P
            p = (rest + taken * p) / count
        return p


def _smoothed(keys: Tensor, counts: Tensor, base: int) -> _Order:
    """Sorted n-grams and their counts -> what is left when each gives a discount to what was never seen."""
    taken = _discounts(counts)[counts.clamp(max=3) - 1]
    histories, inverse = (keys // base).unique_consecutive(return_inverse=True)
    zeros = torch.zeros(len(histories), dtype=torch.float64)
    total = zeros.index_add(0, inverse, counts.double())
    return _Order(keys, counts - taken, histories, total, zeros.index_add(0, inverse, taken))


def _discounts(counts: Tensor) -> Tensor:
    """Of counts 1, 2, and 3 or more: float64 (3,), from how many n-grams occur 1 to 4 times.

    Of few texts the estimates may be anything; so they are kept 0.1 away from 0 and from the count.
    """
    n1, n2, n3, n4 = (float((counts == count).sum()) for count in (1, 2, 3, 4))
    y = n1 / max(1.0, n1 + 2 * n2)
    raw = [k - (k + 1) * y * more / max(1.0, fewer) for k, fewer, more in ((1, n1, n2), (2, n2, n3), (3, n3, n4))]
    return torch.tensor([min(max(d, 0.1), k - 0.1) for k, d in enumerate(raw, 1)], dtype=torch.float64)


def _look_up(keys: Tensor, values: Tensor, wanted: Tensor, *, missing: float) -> Tensor:
    """values[where `keys`, sorted, hold `wanted`], and `missing` where they do not."""
    where = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[where] == wanted, values[where], missing)
