"""Clips of the built-in world: each object from what it is at the first frame to what it is at the last.

Place, width and color (in RGB) change at constant speed; an orbit turns once. T is 17 frames, at 8 a second: one, then
four groups of four. S is the side in pixels; lengths are fractions of S; x grows to the right, y down.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scene_render import BACKGROUNDS, COLORS, SUPERSAMPLING, SceneObject, check_side, coverage

Floats = NDArray[np.float64]

NUM_FRAMES = 17
FRAMES_PER_SECOND = 8
MIDDLE = NUM_FRAMES // 2  # the frame at which objects appear and disappear

TIMES: Floats = np.arange(NUM_FRAMES) / (NUM_FRAMES - 1)  # (T,), from 0 to 1
SAMPLES = SUPERSAMPLING**2


@dataclass(frozen=True)
class Orbit:
    """One turn around a point."""

    x: float
    y: float
    sense: int  # 1: clockwise, as y points down; -1: the other way


@dataclass(frozen=True)
class ClipObject:
    first: SceneObject
    last: SceneObject
    shown: range = range(NUM_FRAMES)  # the frames in which it is there
    orbit: Orbit | None = None  # then `last` is `first` again

    def path(self) -> Floats:
        """Columns x, y and width at every frame: (T, 3)."""
        start, end = (np.array([item.x, item.y, item.width]) for item in (self.first, self.last))
        if self.orbit is None:
            return start + TIMES[:, None] * (end - start)
        return around(start, self.orbit, TIMES)


@dataclass(frozen=True)
class Clip:
    objects: tuple[ClipObject, ...]
    background: str


def color_path(start: str, end: str) -> NDArray[np.int16]:
    """RGB at every frame (T, 3), linear between two colors."""
    one, other = np.array(COLORS[start]), np.array(COLORS[end])
    return np.rint(one + TIMES[:, None] * (other - one)).astype(np.int16)


def around(start: Floats, orbit: Orbit, times: Floats) -> Floats:
    """Where what has (x, y, width) `start` is after each share of the turn: (N,) -> (N, 3)."""
    angles = orbit.sense * 2 * math.pi * times
    right, down = start[0] - orbit.x, start[1] - orbit.y
    x = orbit.x + np.cos(angles) * right - np.sin(angles) * down
    y = orbit.y + np.sin(angles) * right + np.cos(angles) * down
    return np.stack([x, y, np.full_like(x, start[2])], axis=1)


def render_clip(clip: Clip, size: int = 64) -> NDArray[np.uint8]:
    """Frames (T, S, S, 3) uint8, each as `render` draws the scene of its moment.

    What stands still is drawn once. A sample is at most 255, so sums of 16 fit in 16 bits.
    """
    check_side(size)
    background = np.array(BACKGROUNDS[clip.background], np.int16)
    canvas = np.empty((NUM_FRAMES, size, size, 3), np.int16)
    canvas[:] = background * SAMPLES
    for item in clip.objects:
        path, offsets = item.path(), color_path(item.first.color, item.last.color) - background
        frames = list(item.shown)
        if (path == path[0]).all():
            x, y, width = path[0].tolist()
            rows, columns, counts = coverage(item.first.shape, x, y, width, size)
            canvas[frames[0] : frames[-1] + 1, rows, columns] += (
                counts.astype(np.int16)[None, :, :, None] * offsets[frames, None, None]
            )
            continue
        for frame in frames:
            x, y, width = path[frame].tolist()
            rows, columns, counts = coverage(item.first.shape, x, y, width, size)
            canvas[frame, rows, columns] += counts.astype(np.int16)[..., None] * offsets[frame]
    return ((canvas + SAMPLES // 2) // SAMPLES).astype(np.uint8)
