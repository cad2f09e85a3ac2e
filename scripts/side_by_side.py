"""Timing of ours beside the peers', so that other work on the machine meets all alike, and the table of it.

A ratio is taken within a round, where both ran within seconds of each other; its spread over the rounds tells how much
it can be trusted.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def side_by_side(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every case in every round, after a warm-up of each. Who comes first in a round changes."""
    for run in cases.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, lowest and highest: "1.90 (1.85 to 2.10)"."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def speedup(seconds: Mapping[str, Sequence[float]], name: str, over: str) -> list[float]:
    """How many times as fast as `over` the case `name` was, round by round."""
    return [theirs / own for theirs, own in zip(seconds[over], seconds[name], strict=True)]


def table(
    title: str, seconds: Mapping[str, Sequence[float]], *, peers: Sequence[str], target: float, per: float = 1.0
) -> str:
    """A line per case: milliseconds for one of `per` units of work, and how many times as fast as the fastest peer."""
    over = min(peers, key=lambda name: statistics.median(seconds[name]))
    lines = [title, f"  {'':34}{'ms':>32}{'times as fast':>26}"]
    for name, values in seconds.items():
        factor = "1" if name == over else spread(speedup(seconds, name, over))
        lines.append(f"  {name:34}{spread([1e3 * value / per for value in values]):>32}{factor:>26}")
    return "\n".join([*lines, f"  the target is {target:g} times as fast as {over}"])
