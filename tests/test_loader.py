"""Laws of data/loader.py: a batch is a pure function of (seed, step), whatever the workers, start or bad files."""

import itertools
import multiprocessing
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tokenloom.data.folders import Example
from tokenloom.data.loader import Loader, SquareImages, permutation, seed_of
from tokenloom.data.media import MediaError


class Numbers:
    """Example i is a picture of one gray value i; the indices in `broken` raise. Counts what it was asked for."""

    def __init__(self, length: int, broken: tuple[int, ...] = ()):
        self.length, self.broken, self.read = length, broken, Counter()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read[index] += 1
        if index in self.broken:
            raise MediaError(f"{index}.png", "broken\npicture")
        return Example(str(index), f"number {index}", Image.new("RGB", (4, 4), (index, index, index)))


def noted(example: Example, generator: torch.Generator) -> dict:
    noise = torch.rand(2, generator=generator)
    return {"index": torch.tensor(int(example.key)), "noise": noise, "text": example.caption}


def loader_of(examples, seed=7, **options) -> Loader:
    return Loader(examples, noted, **{"batch_size": 4, "seed": seed, "report": lambda line: None} | options)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name] for name in a
    )


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    seed=st.integers(-(2**70), 2**70),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    broken=st.sets(st.integers(0, 29)),
)
def test_a_batch_depends_on_seed_and_step_alone(length, batch_size, seed, steps, broken):
    broken = tuple(broken - {0})
    torch.manual_seed(0)
    used = loader_of(Numbers(length, broken), seed, batch_size=batch_size)
    batches = [used.batch(step) for step in steps]
    torch.manual_seed(1)
    for step, batch in zip(steps, batches, strict=True):
        fresh = loader_of(Numbers(length, broken), seed, batch_size=batch_size)
        assert same(batch, fresh.batch(step))
        assert len(batch["text"]) == batch_size == len(batch["index"])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_batches_and_reports(workers):
    examples = Numbers(11, broken=(2, 5))
    plain, parallel = loader_of(examples), loader_of(examples, workers=workers)
    expected = [plain.batch(step) for step in range(3, 15)]
    state = torch.get_rng_state()
    got = list(parallel.iterate(3, 12))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is not touched
    assert len(got) == 12 and all(map(same, expected, got))
    assert parallel.bad == plain.bad == {2: "2.png: broken picture", 5: "5.png: broken picture"}


@given(start=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_iteration_resumes_in_the_middle_of_an_epoch(start):
    whole = itertools.islice(loader_of(Numbers(10)).iterate(), start, start + 6)
    assert all(map(same, whole, loader_of(Numbers(10)).iterate(start, 6)))


def test_stopping_early_ends_the_workers():
    before = set(multiprocessing.active_children())
    batches = loader_of(Numbers(10), workers=2).iterate()
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    assert not set(multiprocessing.active_children()) - before


@pytest.mark.parametrize("batch_size", [1, 3, 5, 20])
def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(batch_size):
    stream = loader_of(Numbers(10), batch_size=batch_size).iterate(0, 3 * 20)
    shown = torch.cat([batch["index"] for batch in stream])[:50].view(5, 10)
    assert (shown.sort(dim=1).values == torch.arange(10)).all()
    assert len({tuple(epoch.tolist()) for epoch in shown}) == 5


def test_seeds_differ_and_augmentation_changes_between_epochs():
    assert not torch.equal(permutation(1, 0, 50), permutation(2, 0, 50))
    assert len({seed_of(a, b) for a in range(30) for b in range(30)}) == 900
    assert all(0 <= seed_of(a) < 2**63 for a in range(100))
    assert seed_of(12, 3) != seed_of(1, 23)
    loader = loader_of(Numbers(1), batch_size=3)
    noise = loader.batch(0)["noise"]
    assert len(noise.unique(dim=0)) == 3


def test_a_bad_example_is_replaced_by_the_next_of_the_permutation_and_reported_once():
    lines = []
    loader = loader_of(Numbers(6, broken=(1, 4)), batch_size=6, report=lines.append)
    order = permutation(7, 0, 6).tolist()
    good = [index for index in order if index not in (1, 4)]
    expected = [next(i for i in order[slot:] + order[:slot] if i in good) for slot in range(6)]
    assert loader.batch(0)["index"].tolist() == expected
    for step in range(5):
        loader.batch(step)
    assert sorted(lines) == ["skipped 1.png: broken picture", "skipped 4.png: broken picture"]
    assert loader.summary() == "2 of 6 examples could not be read and were skipped"
    assert loader_of(Numbers(3)).summary() == ""


def test_a_replacement_gets_an_augmentation_of_its_own():
    batch = loader_of(Numbers(2, broken=(1,)), batch_size=2).batch(0)
    assert batch["index"].tolist() == [0, 0] and not torch.equal(*batch["noise"])


def test_a_bad_example_is_read_once_not_at_every_step():
    examples = Numbers(3, broken=(0,))
    loader = loader_of(examples)
    for step in range(10):
        loader.batch(step)
    assert examples.read[0] == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_are_one_line(workers):
    with pytest.raises(ValueError, match="^none of the 3 examples could be read; the first: .*broken picture$"):
        next(loader_of(Numbers(3, broken=(0, 1, 2)), workers=workers).iterate())
    ragged = Loader(
        Numbers(5), lambda example, _: {"x": torch.zeros(int(example.key))}, batch_size=5, seed=0, workers=workers
    )
    with pytest.raises(ValueError, match="^transform must give 'x' one shape"):
        next(ragged.iterate())
    with pytest.raises(ValueError, match="empty"):
        loader_of([], workers=workers)
    with pytest.raises(ValueError, match="batch_size"):
        loader_of(Numbers(3), batch_size=0)
    with pytest.raises(ValueError, match="count from 0"):
        loader_of(Numbers(3)).batch(-1)


def test_square_images_are_the_tensors_a_tokenizer_takes():
    wide = Example("a", None, Image.linear_gradient("L").rotate(90).resize((40, 20)).convert("RGB"))
    generator = torch.Generator().manual_seed(0)
    plain, mirrored = SquareImages(8)(wide, generator), SquareImages(8, flip=1.0)(wide, generator)
    assert plain["image"].shape == (3, 8, 8) and plain["text"] == ""
    assert plain["image"].dtype == torch.float32 and plain["image"].abs().max() <= 1
    assert torch.equal(plain["image"].flip(-1), mirrored["image"]) and not torch.equal(
        plain["image"], mirrored["image"]
    )
    flipped = [torch.equal(SquareImages(8, flip=0.5)(wide, generator)["image"], plain["image"]) for _ in range(40)]
    assert 5 < sum(flipped) < 35
