"""Laws of tokenizers/kmeans.py: no round raises the inertia, and each vector goes to the centroid nearest to it."""

import pytest
import torch
from torch import Tensor

from tokenloom.tokenizers.kmeans import kmeans, lloyd_round, nearest, spread_out


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clouds(count: int = 5, size: int = 60, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """`size` vectors around each of `count` places: (N, 3) and the places (count, 3)."""
    places = 10 * torch.randn(count, 3, generator=generator(1))
    noise = spread * torch.randn(count, size, 3, generator=generator(2))
    return (places[:, None] + noise).flatten(0, 1), places


def by_brute_force(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Which centroid is nearest to each vector, and its squared distance, in double precision."""
    squared = (vectors.double()[:, None] - centroids.double()).square().sum(-1)
    return squared.argmin(1), squared.amin(1)


def test_nearest_is_what_brute_force_finds():
    vectors, centroids = torch.randn(4, 500, 7, generator=generator()), torch.randn(30, 7, generator=generator(1))
    assert torch.equal(nearest(vectors, centroids).flatten(), by_brute_force(vectors.flatten(0, 1), centroids)[0])


def test_of_equal_centroids_the_first_is_nearest():
    assert nearest(torch.zeros(1, 2), torch.ones(3, 2)).tolist() == [0]


def test_a_round_moves_each_centroid_to_the_mean_of_its_vectors_and_tells_the_inertia_before():
    vectors = torch.randn(300, 4, generator=generator())
    centroids = vectors[:10]
    moved, inertia = lloyd_round(vectors, centroids)
    ids, squared = by_brute_force(vectors, centroids)
    assert inertia == pytest.approx(float(squared.mean()), rel=1e-5)
    for index, centroid in enumerate(moved):
        torch.testing.assert_close(centroid, vectors[ids == index].mean(0))


@pytest.mark.parametrize("seed", range(3))
def test_the_inertia_never_rises_not_even_from_a_start_that_leaves_centroids_empty(seed):
    vectors = torch.randn(400, 5, generator=generator(seed))
    centroids = torch.cat([vectors[:6], torch.full((4, 5), 100.0)])
    found = []
    for _ in range(15):
        centroids, inertia = lloyd_round(vectors, centroids)
        found.append(inertia)
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in zip(found, found[1:], strict=False))
    assert len(nearest(vectors, centroids).unique()) == 10


def test_clouds_that_lie_apart_are_found():
    vectors, places = clouds()
    centroids = kmeans(vectors, 5, generator())
    squared = (places[:, None] - centroids).square().sum(-1).amin(1)
    assert bool((squared < 0.01).all())


def test_it_comes_as_near_as_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    vectors = torch.randn(600, 4, generator=generator())
    start = spread_out(vectors, 12, generator())
    theirs = cluster.KMeans(12, init=start.numpy(), n_init=1, max_iter=1, algorithm="lloyd").fit(vectors.numpy())
    ours, _ = lloyd_round(vectors, start)
    torch.testing.assert_close(ours, torch.from_numpy(theirs.cluster_centers_), atol=1e-5, rtol=0)


def test_as_many_centroids_as_vectors_are_the_vectors():
    vectors = torch.randn(9, 3, generator=generator())
    assert sorted(map(tuple, kmeans(vectors, 9, generator()).tolist())) == sorted(map(tuple, vectors.tolist()))


def test_the_start_holds_no_vector_twice_and_far_ones_come_first():
    vectors, _ = clouds(spread=1e-3)
    start = spread_out(vectors, 5, generator())
    assert len((start.round()).unique(dim=0)) == 5  # one of each cloud


def test_the_same_seed_gives_the_same_bits():
    vectors = torch.randn(300, 4, generator=generator())
    one, other = (kmeans(vectors, 8, generator(3)) for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(one, kmeans(vectors, 8, generator(4)))


def test_more_centroids_than_vectors_that_differ_are_refused():
    with pytest.raises(ValueError, match="3 centroids need as many vectors that differ, got 2"):
        kmeans(torch.tensor([[0.0], [0.0], [1.0]]), 3, generator())
