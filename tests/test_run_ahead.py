"""Laws of data/run_ahead.py: the same items, made while the caller works, never too many, and no thread is left."""

import threading
import time

import pytest

from tokenloom.data.run_ahead import run_ahead


def test_the_items_are_those_of_the_generator():
    assert list(run_ahead(n * n for n in range(50))) == [n * n for n in range(50)]
    assert list(run_ahead(n for n in range(0))) == []


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_the_depth_waits(depth):
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    for number in run_ahead(items(), depth):
        time.sleep(0.005)
        assert len(made) <= number + 1 + depth  # this one, and those that wait or are being made
    assert len(made) == 20


def test_making_and_using_overlap():
    made = [threading.Event() for _ in range(5)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in run_ahead(items()):
        assert made[min(number + 1, 4)].wait(10)  # while this one is in use, the next is made


def test_an_error_arrives_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    found = []
    with pytest.raises(ValueError, match="broken"):
        for item in run_ahead(items()):
            found.append(item)
    assert found == [1]


def test_leaving_early_closes_the_generator_and_ends_the_thread():
    before = threading.active_count()
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread())

    ahead = run_ahead(items())
    next(ahead)
    ahead.close()
    assert len(closed) == 1 and closed[0] is not threading.main_thread()
    assert threading.active_count() == before
