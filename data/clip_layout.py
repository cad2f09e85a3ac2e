"""Where the objects of a clip go: inside the margin and apart from each other at every frame.

Lengths and positions are fractions of the side; x grows to the right, y down.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from .clip_captions import Act
from .clip_render import MIDDLE, NUM_FRAMES, ClipObject, Orbit
from .scene_layout import GAP, MARGIN, WIDTHS, Draws
from .scene_render import SceneObject

DISTANCE = (0.35, 0.5)  # that moving objects cover
FACTOR = 1.8  # of growing and shrinking
SMALLEST = WIDTHS["small"][0]  # no object is ever smaller, not even after it shrank
ROUNDING = 1e-9


def place_acts(draws: Draws, acts: Sequence[Act], colors: Sequence[str]) -> tuple[ClipObject, ...]:
    """Objects that do what the acts say; `colors` are those of the actors at the first frame.

    Paths are drawn, sizes included, until they keep apart; two take about four tries.
    """
    if acts[0].around is not None:
        return _circling(draws, acts[0], colors[0])
    while True:
        objects = tuple(_alone(draws, act, color) for act, color in zip(acts, colors, strict=True))
        if all(apart(one, other) for one, other in combinations(objects, 2)):
            return objects


def apart(one: ClipObject, other: ClipObject) -> bool:
    """Whether the boxes keep the gap at every frame, also while an object is not there."""
    a, b = one.path(), other.path()
    distances = np.abs(a - b)[:, :2].max(axis=1) - (a[:, 2] + b[:, 2]) / 2
    return bool(distances.min() >= GAP - ROUNDING)


def _alone(draws: Draws, act: Act, color: str) -> ClipObject:
    """One object somewhere on the canvas, whatever else is there."""
    low, high = WIDTHS[act.actor.size]
    width = draws.uniform(max(low, FACTOR * SMALLEST) if act.motion == "shrinks" else low, high)
    room = MARGIN + width * (FACTOR if act.motion == "grows" else 1) / 2  # from the edge to the centre
    x, y = draws.uniform(room, 1 - room), draws.uniform(room, 1 - room)
    first = SceneObject(act.actor.shape, color, width, x, y)
    if act.motion == "moves":
        return _moving(draws, act, first, room)
    if act.motion == "appears":
        return ClipObject(first, first, range(MIDDLE, NUM_FRAMES))
    if act.motion == "disappears":
        return ClipObject(first, first, range(MIDDLE))
    if act.motion == "turns":
        assert act.color is not None
        return ClipObject(first, replace(first, color=act.color))
    return ClipObject(first, replace(first, width=width * FACTOR if act.motion == "grows" else width / FACTOR))


def _moving(draws: Draws, act: Act, first: SceneObject, room: float) -> ClipObject:
    low, high = DISTANCE
    distance = draws.uniform(low, min(high, 1 - 2 * room))
    start = draws.uniform(room, 1 - room - distance)
    end = start + distance
    if act.direction in ("left", "up"):
        start, end = end, start
    if act.direction in ("left", "right"):
        return ClipObject(replace(first, x=start), replace(first, x=end))
    return ClipObject(replace(first, y=start), replace(first, y=end))


def _circling(draws: Draws, act: Act, color: str) -> tuple[ClipObject, ClipObject]:
    """A small object and the plain one that it circles.

    On the diagonal, boxes at distance r are r / sqrt(2) apart on both axes, so r needs sqrt(2) times the room of the
    axes; the width of the still one leaves an orbit that stays on the canvas.
    """
    assert act.around is not None and act.around.color is not None
    width = draws.uniform(*WIDTHS["small"])
    reach = 0.5 - MARGIN - width / 2  # of the widest orbit
    low, high = WIDTHS[None]
    still_width = draws.uniform(low, min(high, 2 * (reach / math.sqrt(2) - GAP) - width))
    radius = draws.uniform(math.sqrt(2) * ((width + still_width) / 2 + GAP), reach)
    room = MARGIN + width / 2 + radius
    still = SceneObject(
        act.around.shape, act.around.color, still_width, draws.uniform(room, 1 - room), draws.uniform(room, 1 - room)
    )
    angle = draws.uniform(0, 2 * math.pi)
    small = SceneObject(
        act.actor.shape, color, width, still.x + radius * math.cos(angle), still.y + radius * math.sin(angle)
    )
    orbit = Orbit(still.x, still.y, draws.pick((1, -1)))
    return ClipObject(small, small, orbit=orbit), ClipObject(still, still)
