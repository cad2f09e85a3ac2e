"""K-means: a few centroids that stand for many vectors, each for those that it is nearest to (Lloyd, IEEE 1982).

N vectors of P numbers, V centroids, all float32. The inertia is the mean squared distance from a vector to its nearest
centroid. A round of Lloyd's gives every vector to its nearest centroid and moves every centroid to the mean of its
vectors; neither can raise the inertia. Centroids start at vectors drawn far from each other (k-means++, Arthur and
Vassilvitskii, SODA 2007).
"""

import torch
from torch import Tensor

CHUNK = 1 << 14  # vectors whose distances are in memory at once
ROUNDS = 40
LEAST_GAIN = 1e-4  # share of the inertia that a round must save for another to follow


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Vectors (..., P) -> int64 (...): which centroid (V, P) is nearest; of several the first."""
    # |x - c|^2 without |x|^2, which is the same for all c
    return (centroids.square().sum(-1) - 2 * vectors @ centroids.T).argmin(-1)


def inertia(vectors: Tensor, centroids: Tensor) -> float:
    """Mean squared distance from vectors (N, P) to their nearest centroids (V, P)."""
    return float(_distances(vectors, centroids, _assigned(vectors, centroids)).double().mean())


def spread_out(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the vectors (N, P), each drawn in proportion to its squared distance to those before: (count, P).

    Raises:
        ValueError: there are fewer vectors that differ.
    """
    first = int(torch.randint(len(vectors), (), generator=generator))
    chosen, squared = [first], (vectors - vectors[first]).square().sum(-1).double()
    for found in range(1, count):
        if not bool(squared.any()):
            raise ValueError(f"{count} centroids need as many vectors that differ, got {found}; ask for fewer")
        place = torch.rand((), generator=generator, dtype=torch.float64) * squared.sum()
        index = int(torch.searchsorted(squared.cumsum(0), place, right=True).clamp(max=len(vectors) - 1))
        chosen.append(index)
        squared = torch.minimum(squared, (vectors - vectors[index]).square().sum(-1).double())
    return vectors[chosen].clone()


def lloyd_round(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """One round: vectors (N, P) and centroids (V, P) -> better centroids (V, P), and to which old one each went, (N,).

    A centroid without vectors moves to the vector that is farthest from its own; several take the farthest ones.
    """
    ids = _assigned(vectors, centroids)
    counts = torch.bincount(ids, minlength=len(centroids))
    sums = torch.zeros_like(centroids, dtype=torch.float64).index_add_(0, ids, vectors.double())
    moved = (sums / counts.clamp(min=1).unsqueeze(-1)).float()
    empty = (counts == 0).nonzero().flatten()
    if len(empty):
        farthest = _distances(vectors, moved, ids).topk(min(len(empty), len(vectors))).indices
        moved[empty[: len(farthest)]] = vectors[farthest]
    return moved, ids


@torch.no_grad()
def kmeans(vectors: Tensor, count: int, generator: torch.Generator, rounds: int = ROUNDS) -> Tensor:
    """`count` centroids (V, P) of vectors (N, P), by at most so many rounds of Lloyd's from a start by k-means++.

    Raises:
        ValueError: there are fewer than `count` vectors that differ.
    """
    centroids = spread_out(vectors, count, generator)
    before = inertia(vectors, centroids)
    for _ in range(rounds):
        centroids, _ = lloyd_round(vectors, centroids)
        after = inertia(vectors, centroids)
        if before - after <= LEAST_GAIN * before:
            break
        before = after
    return centroids


def _assigned(vectors: Tensor, centroids: Tensor) -> Tensor:
    return torch.cat([nearest(part, centroids) for part in vectors.split(CHUNK)])


def _distances(vectors: Tensor, centroids: Tensor, ids: Tensor) -> Tensor:
    """Squared, from each of (N, P) to the centroid of its id: (N,)."""
    return torch.cat(
        [
            (part - centroids[own]).square().sum(-1)
            for part, own in zip(vectors.split(CHUNK), ids.split(CHUNK), strict=True)
        ]
    )
