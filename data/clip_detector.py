"""A detector for clips: do the first frame, the last frame and the path between them agree with the caption?

Every second frame is looked at with the detector of pictures, which must find the objects that are there at that
moment, and no others. What an object is at its first and its last sighting tells the path that it must have taken, and
each sighting must lie on that path. A turning object has no named color on its way, so there its pixels are measured
where the first frame shows it, and painted over before the detector looks for the others.

T is 17 frames, S their side in pixels; lengths are fractions of S, y grows down.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .clip_captions import Act, ClipRequest
from .clip_layout import DISTANCE, FACTOR
from .clip_render import MIDDLE, NUM_FRAMES, TIMES, Orbit, around, color_path
from .scene_captions import Named
from .scene_clips import CLIP_KINDS
from .scene_detector import COLOR_REACH, Found, detect, find_background, shares_by_kind
from .scene_layout import GAP
from .scene_render import coverage

Floats = NDArray[np.float64]

LOOKS = tuple(range(0, NUM_FRAMES, 2))
PATH_SLACK = 0.05  # how far x, y and width may lie from the path
END_SLACK = 0.06  # beyond the distances that are drawn
FACTORS = (FACTOR / 1.2, FACTOR * 1.2)  # least and most that an object may grow by
PALEST = 0.7  # share of its own color that the inside of a turning object keeps
SUDDEN, GROWTH = ("appears", "disappears"), ("grows", "shrinks")

Sightings = dict[int, Found]  # frame -> what one object was there


def clip_check(request: ClipRequest, frames: ArrayLike) -> bool:
    """Whether the clip (T, S, S, 3) uint8 shows exactly what is asked, and nothing else, from the first frame on."""
    clip = np.asarray(frames)
    if clip.ndim != 4 or len(clip) != NUM_FRAMES:
        raise ValueError(f"a clip must be ({NUM_FRAMES}, S, S, 3) uint8, got {clip.shape}; cut it or fill it up")
    seen = _sight(request, clip)
    return seen is not None and all(_agrees(act, seen) for act in request.acts)


def clip_shares(requests: Sequence[ClipRequest], passed: Sequence[bool]) -> dict[str, float]:
    """Verdicts -> share of true ones: of each kind present, and "overall", their plain mean."""
    return shares_by_kind([request.kind for request in requests], passed, CLIP_KINDS)


def _sight(request: ClipRequest, clip: NDArray[np.uint8]) -> dict[str, Sightings] | None:
    """By shape, where and how each object was seen; None if a look finds other objects or another background."""
    sudden = any(act.motion in SUDDEN for act in request.acts)
    seen: dict[str, Sightings] = {item.shape: {} for act in request.acts for item in act.things}
    for frame in LOOKS:
        if sudden and frame == MIDDLE:  # a frame early or late is no fault
            continue
        picture, wanted = clip[frame], []
        for act in request.acts:
            if act.motion == "turns" and 0 < frame < NUM_FRAMES - 1:
                start = seen[act.actor.shape][0]
                if not _is_turning(act, start, picture, frame):
                    return None
                picture = _painted_over(picture, start)
            elif _is_there(act, frame):
                wanted += [item.shape for item in act.things]
        detection = detect(picture)
        found = {item.shape: item for item in detection.objects if item.shape}
        if detection.background != request.background or len(detection.objects) != len(wanted):
            return None
        if found.keys() != set(wanted):
            return None
        for shape, item in found.items():
            seen[shape][frame] = item
    return seen


def _is_there(act: Act, frame: int) -> bool:
    return act.motion not in SUDDEN or (frame > MIDDLE) == (act.motion == "appears")


def _is_turning(act: Act, start: Found, picture: NDArray[np.uint8], frame: int) -> bool:
    """Whether the pixels inside the object have the color that is due, on the way from its first to its last.

    As in pictures, a color that pales into the background, as that of a thin shape does, is still that color.
    """
    if start.shape is None or start.color is None or act.color is None:
        return False
    rows, columns, counts = coverage(start.shape, start.x, start.y, start.width, len(picture))
    background, _ = find_background(picture.astype(np.float32))
    color = np.median(picture[rows, columns][counts == counts.max()], axis=0) - background
    due = color_path(start.color, act.color)[frame] - background
    alpha = np.clip(color @ due / max(due @ due, 1), PALEST, 1.1)
    return bool(np.linalg.norm(color - alpha * due) <= COLOR_REACH)


def _painted_over(picture: NDArray[np.uint8], item: Found) -> NDArray[np.uint8]:
    """The picture without the object: its box, half a gap wider on each side, in the color of the background."""
    rows, columns, _ = coverage("square", item.x, item.y, item.width + GAP, len(picture))
    background, _ = find_background(picture.astype(np.float32))
    painted = picture.copy()
    painted[rows, columns] = np.rint(background)
    return painted


def _agrees(act: Act, seen: dict[str, Sightings]) -> bool:
    """Whether the object of an act is as named, and does what the act says."""
    sightings = seen[act.actor.shape]
    first, last = sightings[min(sightings)], sightings[max(sightings)]
    colors = {item.color for item in sightings.values()}
    colored = last.color == act.color != first.color if act.color else len(colors) == 1
    if not colored or not _is_named(act.actor, first) or not _arrives(act, _state(first), _state(last)):
        return False
    if act.around is None:
        return _strays(sightings, _line(act, first, last)) <= PATH_SLACK
    still = seen[act.around.shape]
    centre = still[0]
    orbits = [Orbit(centre.x, centre.y, sense) for sense in (1, -1)]
    return (
        all(_is_named(act.around, item) for item in still.values())
        and _strays(still, _line(act, centre, centre)) <= PATH_SLACK
        and min(_strays(sightings, around(_state(first), orbit, TIMES)) for orbit in orbits) <= PATH_SLACK
    )


def _is_named(wanted: Named, found: Found) -> bool:
    return wanted.color in (None, found.color) and found.color is not None and wanted.size in (None, found.size_class)


def _state(item: Found) -> Floats:
    """x, y and width."""
    return np.array([item.x, item.y, item.width])


def _arrives(act: Act, first: Floats, last: Floats) -> bool:
    """Whether what the act changes has changed by as much as it should."""
    right, down, _ = last - first
    if act.direction is not None:
        way = {"left": -right, "right": right, "up": -down, "down": down}[act.direction]
        return DISTANCE[0] - END_SLACK <= way <= DISTANCE[1] + END_SLACK
    if act.motion in GROWTH:
        factor = last[2] / first[2] if act.motion == "grows" else first[2] / last[2]
        return FACTORS[0] <= factor <= FACTORS[1]
    return True


def _line(act: Act, first: Found, last: Found) -> Floats:
    """States (T, 3) that an object must have taken from its first on, if nothing changed but what the act changes."""
    changing = np.array([act.direction in ("left", "right"), act.direction in ("up", "down"), act.motion in GROWTH])
    return _state(first) + TIMES[:, None] * np.where(changing, _state(last) - _state(first), 0)


def _strays(sightings: Sightings, path: Floats) -> float:
    """How far, at most, an object was seen from the path (T, 3) of its states."""
    return max(float(np.abs(_state(item) - path[frame]).max()) for frame, item in sightings.items())
