"""Pictures of the built-in world: nine flat shapes on a plain background.

S is the side of the square picture in pixels. Lengths and positions are fractions of S; x grows to the right, y down.
A shape is a test of points in its box, [-1, 1] x [-1, 1]: u (1, W) runs right, v (H, 1) down.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

COLORS = {
    "red": (215, 38, 38),
    "orange": (245, 130, 32),
    "yellow": (245, 205, 40),
    "green": (40, 155, 70),
    "cyan": (50, 190, 205),
    "blue": (45, 80, 220),
    "purple": (135, 55, 175),
    "pink": (240, 130, 185),
}
BACKGROUNDS = {"white": (255, 255, 255), "gray": (200, 200, 200), "sand": (236, 220, 190), "navy": (20, 26, 60)}

SUPERSAMPLING = 4  # sample points per pixel and axis


@dataclass(frozen=True)
class SceneObject:
    shape: str
    color: str
    width: float  # of the square box
    x: float  # of the centre
    y: float


@dataclass(frozen=True)
class Scene:
    objects: tuple[SceneObject, ...]
    background: str


def _star_profile(v: Floats) -> tuple[Floats, Floats]:
    """Of a star with 5 points and inner radius 0.40: reach of its right half, and of the notch between the legs."""
    angles = np.arange(6) * math.pi / 5
    radii = np.where(np.arange(6) % 2, 0.40, 1.0)
    x, y = radii * np.sin(angles), -radii * np.cos(angles)  # top, notch, arm, notch, leg, lowest notch
    reach = np.interp(v, y[:5], x[:5], left=-1, right=-1)
    return reach, np.interp(v, y[[5, 4]], x[[5, 4]], left=0)


def _star(u: Floats, v: Floats) -> Mask:
    reach, notch = _star_profile(v)
    return (abs(u) <= reach) & (abs(u) >= notch)


@lru_cache(maxsize=1)
def _heart_box() -> tuple[float, float]:
    """Lowest and highest y of the heart curve."""
    y = _heart_curve(np.linspace(0, math.pi, 100_001))
    return float(y.min()), float(y.max())


def _heart_curve(t: Floats) -> Floats:
    return 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)


def _heart(u: Floats, v: Floats) -> Mask:
    """x = 16 sin^3 t is solved for t; the column then reaches from y(pi - t) up to y(t)."""
    low, high = _heart_box()
    t = np.arcsin(np.cbrt(np.minimum(abs(u), 1)))
    y = high - (v + 1) / 2 * (high - low)
    return (y <= _heart_curve(t)) & (y >= _heart_curve(math.pi - t)) & (abs(u) <= 1)


SHAPES: dict[str, Callable[[Floats, Floats], Mask]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: (abs(u) <= 1) & (abs(v) <= 1),
    "triangle": lambda u, v: (2 * abs(u) <= v + 1) & (v <= 1),
    "star": _star,
    "diamond": lambda u, v: abs(u) + abs(v) <= 1,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 1 / 3) & (np.maximum(abs(u), abs(v)) <= 1),
    "heart": _heart,
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.55**2),
    "crescent": lambda u, v: (u**2 + v**2 <= 1) & ((u - 0.55) ** 2 + v**2 > 1),
}


def coverage(shape: str, x: float, y: float, width: float, size: int) -> tuple[slice, slice, NDArray[np.uint8]]:
    """Rows, columns and, for each pixel there, how many of its 4 x 4 sample points lie inside (0 to 16).

    A box that leaves the canvas is cut off there.
    """
    spans, points = [], []
    for centre in (y, x):
        low = min(max(0, math.floor((centre - width / 2) * size)), size)
        high = max(min(size, math.ceil((centre + width / 2) * size)), low)
        spans.append(slice(low, high))
        samples = np.arange(low * SUPERSAMPLING, high * SUPERSAMPLING) + 0.5
        points.append((samples / (SUPERSAMPLING * size) - centre) / (width / 2))
    mask = SHAPES[shape](points[1][None, :], points[0][:, None]).view(np.uint8)
    by_row = mask[0::4] + mask[1::4] + mask[2::4] + mask[3::4]  # strided sums in uint8: 3 times as fast as a reduction
    counts = by_row[:, 0::4] + by_row[:, 1::4] + by_row[:, 2::4] + by_row[:, 3::4]
    return spans[0], spans[1], counts


def check_side(size: int) -> None:
    if not 16 <= size <= 4096:
        raise ValueError(f"the side of a scene must be from 16 to 4096 pixels, got {size}; draw at 64 and resize")


def render(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """Picture (S, S, 3) uint8: drawn at 4x and averaged over 4 x 4 blocks, rounded half up.

    Boxes never overlap, so a pixel is background + sum of coverage * (color - background), in exact sixteenths.
    """
    check_side(size)
    background = np.array(BACKGROUNDS[scene.background], np.int32)
    samples = SUPERSAMPLING**2
    canvas = np.empty((size, size, 3), np.int32)
    canvas[:] = background * samples
    for item in scene.objects:
        rows, columns, counts = coverage(item.shape, item.x, item.y, item.width, size)
        canvas[rows, columns] += counts[..., None] * (np.array(COLORS[item.color], np.int32) - background)
    return ((canvas + samples // 2) // samples).astype(np.uint8)
