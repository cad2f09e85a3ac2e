"""A detector for scenes: which shapes does a picture show, in which colors, sizes and places?

It judges generated pictures as well as drawn ones, so it takes blurred edges, noise and shifts of tone, but names
nothing that it does not recognize. Steps: background from the border; each pixel as a blend of the background and the
color that fits it best; connected regions; color from the core of a region; place and width from its area and
centroid under the hypothesis of each shape, which is drawn there and compared (intersection over union).

S is the side of the picture, N its pixels in question, K the 8 colors. Lengths are fractions of S; y grows down.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .regions import grow, label_regions
from .scene_captions import PLACES, Named, Request
from .scene_layout import MAX_PLAIN
from .scene_render import BACKGROUNDS, COLORS, SHAPES, coverage
from .scenes import KINDS

Floats = NDArray[np.float32]

SMALLEST = 16  # side in pixels; below 32 the gaps between objects close
SMALL_BELOW, LARGE_FROM = 0.21, 0.32  # widths half-way between the three ranges
BACKGROUND_REACH = 30.0  # RGB distance up to which a background is recognized; gray and sand are 42 apart
COLOR_REACH = 42.0  # the same for objects; orange and yellow are 75 apart
CORE_PIXELS = 5  # a region with fewer inner pixels is judged by all of its pixels
SPECK = 0.0015  # regions of less area are overlooked; the smallest object has 0.0069
LEAST_LIKENESS = 0.90  # cosine between coverage seen and drawn, from which a shape is recognized
PLACE_SLACK = 0.04  # how far a centre may lie outside its cell of the 3 x 3 grid

COLOR_NAMES = tuple(COLORS)
PALETTE = np.array([COLORS[name] for name in COLOR_NAMES], np.float32)  # (K, 3)


@dataclass(frozen=True)
class Found:
    shape: str | None  # None: a region that is none of the nine shapes
    color: str | None  # None: none of the eight colors
    size_class: str  # "small", "plain" or "large"
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Detection:
    objects: list[Found]
    background: str | None


def find_background(pixels: Floats) -> tuple[Floats, str | None]:
    """Color (3,) of the border, where no object reaches, and its name."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    color = np.median(border, axis=0)
    distances = {name: float(np.linalg.norm(color - np.array(rgb))) for name, rgb in BACKGROUNDS.items()}
    name = min(distances, key=lambda name: distances[name])
    return color, name if distances[name] <= BACKGROUND_REACH else None


def blends(pixels: Floats, background: Floats, least: float) -> tuple[Floats, Floats]:
    """Pixels (N, 3) as background + alpha * (color - background): alpha and squared misfit of each color, (N, K).

    Alpha is held between `least` and 1.1: what is known to be inside an object is no faint trace of it.
    """
    offsets, directions = pixels - background, PALETTE - background
    products, norms = offsets @ directions.T, np.maximum(np.square(directions).sum(axis=1), 1)
    alpha = np.clip(products / norms, least, 1.1)
    misfit = np.square(offsets).sum(axis=1, keepdims=True) + alpha * (alpha * norms - 2 * products)
    return alpha, misfit


@lru_cache(maxsize=1)
def shape_moments() -> dict[str, tuple[float, float, float]]:
    """Of each shape in a box of width 1 around the origin: area and centroid (x, y)."""
    size = 256
    moments = {}
    for shape in SHAPES:
        _, _, counts = coverage(shape, 0.5, 0.5, 1.0, size)
        mass = counts / counts.sum()
        centres = (np.arange(size) + 0.5) / size - 0.5
        moments[shape] = counts.mean() / 16, float(mass.sum(axis=0) @ centres), float(mass.sum(axis=1) @ centres)
    return moments


def soften(picture: NDArray[np.generic]) -> Floats:
    """(H, W) -> (H + 2, W + 2): binomial blur over 3 x 3 pixels, zeros outside."""
    height, width = picture.shape
    padded = np.zeros((height + 4, width + 4), np.float32)
    padded[2:-2, 2:-2] = picture
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (across[:-2] + 2 * across[1:-1] + across[2:]) / 16


def match_shape(alpha: Floats) -> tuple[str | None, float, float, float]:
    """Shape, x, y and width of the region whose coverage is alpha (S, S), zero elsewhere.

    The best overlap decides, both sides softened so that it weighs the form more than how crisp the edges are.
    """
    size = len(alpha)
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    columns, rows = alpha.sum(axis=0), alpha.sum(axis=1)
    total = max(float(columns.sum()), 1.0)
    mean_x, mean_y = float(columns @ centres) / total, float(rows @ centres) / total
    visible = np.clip(alpha, 0, 1)
    soft = soften(visible)
    area = max(float(soft.sum()), 1.0)
    best_overlap, likeness = 0.0, 0.0
    best: tuple[str | None, float, float, float] = (None, mean_x, mean_y, math.sqrt(total) / size)
    for shape, (share, centroid_x, centroid_y) in shape_moments().items():
        width = math.sqrt(total / share) / size
        x, y = mean_x - centroid_x * width, mean_y - centroid_y * width
        box_rows, box_columns, counts = coverage(shape, x, y, width, size)
        drawn = soften(counts) / 16
        window = soft[box_rows.start : box_rows.stop + 2, box_columns.start : box_columns.stop + 2]
        common = float(np.minimum(window, drawn).sum())
        overlap = common / (area + float(drawn.sum()) - common)
        if overlap > best_overlap:
            best, best_overlap = (shape, x, y, width), overlap
            likeness = float(
                (visible[box_rows, box_columns] * counts).sum() / np.linalg.norm(counts.astype(np.float32))
            )
    if likeness < LEAST_LIKENESS * float(np.linalg.norm(visible)):
        return None, *best[1:]
    return best


def find_color(pixels: Floats, core: Floats, background: Floats) -> tuple[str | None, Floats]:
    """Name of a region's color, and the color (3,) to measure its coverage by.

    Edge pixels blend into the background and may pass for another color, so the inner ones decide where there are any.
    """
    thick = len(core) >= CORE_PIXELS
    _, misfit = blends(core, background, 0.85) if thick else blends(pixels, background, 0.3)
    typical = np.median(misfit, axis=0)
    nearest = int(typical.argmin())
    alike = float((misfit.argmin(axis=1) == nearest).mean())
    known = typical[nearest] <= COLOR_REACH**2 and alike >= 0.7
    measured = PALETTE[nearest] if known else np.median(pixels, axis=0)
    return COLOR_NAMES[nearest] if known else None, measured


def detect(image: ArrayLike) -> Detection:
    """The objects and the background of a picture (S, S, 3) uint8."""
    picture = np.asarray(image)
    size = len(picture) if picture.ndim else 0
    if picture.shape != (size, size, 3) or picture.dtype != np.uint8 or size < SMALLEST:
        raise ValueError(
            f"a scene must be (S, S, 3) uint8 with S of at least {SMALLEST}, got {picture.shape} {picture.dtype}; "
            "permute, convert or enlarge it"
        )
    pixels = picture.astype(np.float32)
    background, background_name = find_background(pixels)
    distinct = np.square(pixels - background).sum(axis=2) > 30**2
    alpha, misfit = blends(pixels[distinct], background, 0.0)
    mask = np.zeros((size, size), bool)
    mask[distinct] = np.take_along_axis(alpha, misfit.argmin(axis=1)[:, None], axis=1)[:, 0] > 0.5
    labels, count = label_regions(mask)
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    territory = grow(grow(labels))
    objects = []
    for label in range(1, count + 1):
        if areas[label] < SPECK * size**2:
            continue
        region = labels == label
        color, rgb = find_color(pixels[region], pixels[region & inner], background)
        direction = rgb - background
        coverage_map = (pixels - background) @ (direction / max(np.square(direction).sum(), 1))
        coverage_map = np.where(territory == label, np.clip(coverage_map, -0.2, 1.2), 0)
        shape, x, y, width = match_shape(coverage_map)
        size_class = "small" if width < SMALL_BELOW else "plain" if width < LARGE_FROM else "large"
        objects.append(Found(shape, color, size_class, x, y, width))
    return Detection(objects, background_name)


def _fits(wanted: Named, found: Found, crowded: bool) -> bool:
    """Whether an object is what a noun phrase names; in a crowd all are small, said or not."""
    if found.shape != wanted.shape or wanted.color not in (None, found.color):
        return False
    if not crowded and wanted.size not in (None, found.size_class):
        return False
    if wanted.place is None:
        return True
    row, column = divmod(PLACES.index(wanted.place), 3)
    return max(abs(found.x - (column + 0.5) / 3), abs(found.y - (row + 0.5) / 3)) <= 1 / 6 + PLACE_SLACK


def _related(one: Found, other: Found, relation: str) -> bool:
    """Whether one stands so to the other, more than in any other direction."""
    right, down = one.x - other.x, one.y - other.y
    reach = {"left of": -right, "right of": right, "above": -down, "below": down}[relation]
    return reach > 0 and reach == max(abs(right), abs(down))


def check(request: Request, image: ArrayLike) -> bool:
    """Whether the picture (S, S, 3) uint8 shows exactly what is asked, and nothing else."""
    detection = detect(image)
    wanted = [item for item in request.named for _ in range(item.count)]
    if detection.background != request.background or len(detection.objects) != len(wanted):
        return False
    crowded = len(wanted) > MAX_PLAIN
    return any(
        all(_fits(item, found, crowded) for item, found in zip(wanted, order, strict=True))
        and (request.relation is None or _related(order[0], order[1], request.relation))
        for order in permutations(detection.objects)
    )


def shares(requests: Sequence[Request], passed: Sequence[bool]) -> dict[str, float]:
    """Verdicts -> share of true ones: of each kind present, and "overall".

    Overall is the plain mean of those of the six kinds that are present; the kind "full" never counts in it.
    """
    return shares_by_kind([request.kind for request in requests], passed, KINDS)


def shares_by_kind(kinds: Sequence[str], passed: Sequence[bool], counted: Sequence[str]) -> dict[str, float]:
    """Verdicts -> share of true ones: of each kind present, and "overall", the plain mean of those that are counted."""
    verdicts: dict[str, list[bool]] = {}
    for kind, verdict in zip(kinds, passed, strict=True):
        verdicts.setdefault(kind, []).append(verdict)
    of_kind = {kind: sum(results) / len(results) for kind, results in verdicts.items()}
    present = [of_kind[kind] for kind in counted if kind in of_kind]
    return of_kind | {"overall": sum(present) / len(present)} if present else of_kind
