"""K-means: a few centroids that stand for many vectors, each for those that it is nearest to (Lloyd, IEEE 1982).

N vectors of P numbers, V centroids, all float32. The inertia is the mean squared distance from a vector to its nearest
centroid. A round of Lloyd's gives every vector to its nearest centroid and moves every centroid to the mean of its
vectors; neither can raise the inertia. Centroids start at vectors drawn far from each other (k-means++, Arthur and
Vassilvitskii, SODA 2007).
"""

import torch
from torch import Tensor

CHUNK = 1 << 14  # vectors whose distances are in memory at once
SAMPLE = 32  # vectors for each centroid, among which k-means++ draws
ROUNDS = 30
LEAST_GAIN = 1e-4  # share of the inertia that a round must save for another to follow


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Vectors (..., P) -> int64 (...): which centroid (V, P) is nearest; of several the first."""
    # |x - c|^2 without |x|^2, which is the same for all c
    return (centroids.square().sum(-1) - 2 * vectors @ centroids.T).argmin(-1)


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


def lloyd_round(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, float]:
    """One round: vectors (N, P) and centroids (V, P) -> better centroids (V, P), and the inertia of those before.

    A centroid without vectors moves to the vector that is farthest from its own; several take the farthest ones.
    """
    ids = torch.cat([nearest(part, centroids) for part in vectors.split(CHUNK)])
    squared = squared_distances(vectors, centroids, ids)
    counts = torch.bincount(ids, minlength=len(centroids))
    sums = torch.zeros_like(centroids, dtype=torch.float64).index_add_(0, ids, vectors.double())
    moved = (sums / counts.clamp(min=1).unsqueeze(-1)).float()
    empty = (counts == 0).nonzero().flatten()
    if len(empty):
        moved[empty] = vectors[squared_distances(vectors, moved, ids).topk(len(empty)).indices]
    return moved, float(squared.double().mean())


@torch.no_grad()
def kmeans(vectors: Tensor, count: int, generator: torch.Generator, rounds: int = ROUNDS) -> Tensor:
    """`count` centroids (V, P) of vectors (N, P), by at most so many rounds of Lloyd's from a start by k-means++.

    Raises:
        ValueError: there are fewer than `count` vectors that differ.
    """
    some = torch.randperm(len(vectors), generator=generator)[: SAMPLE * count]
    centroids = spread_out(vectors[some], count, generator)
    before = float("inf")
    for _ in range(rounds):
        centroids, inertia = lloyd_round(vectors, centroids)
        if before - inertia <= LEAST_GAIN * inertia:
            break
        before = inertia
    return centroids


def squared_distances(vectors: Tensor, centroids: Tensor, ids: Tensor) -> Tensor:
    """From each of (N, P) to the centroid (V, P) of its id (N,): (N,)."""
    parts = zip(vectors.split(CHUNK), ids.split(CHUNK), strict=True)
    return torch.cat([(part - centroids[own]).square().sum(-1) for part, own in parts])
