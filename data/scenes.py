"""A small drawn world of captioned pictures (scenes) that never runs out and whose captions can be checked exactly.

One to six flat shapes on a plain background. The kinds of caption are those of GenEval (Ghosh et al. 2023,
arXiv:2310.11513); a seventh, for training only, says everything. Some combinations are held out: training never draws
them, so that prompts with them ask for something new.

Lengths and positions are fractions of the side S; x grows to the right, y down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .example_stream import example_draws
from .scene_captions import PLACES, RELATIONS, Named, Request, caption, first
from .scene_layout import MAX_LARGE, MAX_PLAIN, WIDTHS, Draws, place, place_related
from .scene_render import BACKGROUNDS, COLORS, SHAPES, Scene, SceneObject, render

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "HELD_OUT",
    "HELD_OUT_KINDS",
    "KINDS",
    "SHAPES",
    "Named",
    "Request",
    "Scene",
    "SceneObject",
    "draw_example",
    "is_held_out",
    "prompts",
    "render",
    "scene_batch",
]

KINDS = ("single", "two", "counting", "colors", "position", "binding")
HELD_OUT_KINDS = ("counting", "colors", "position", "binding")
HELD_OUT = {
    "star": "red",
    "heart": "orange",
    "crescent": "yellow",
    "diamond": "green",
    "triangle": "cyan",
    "ring": "blue",
    "square": "purple",
    "cross": "pink",
}  # shape -> the color that it never has in training
HELD_OUT_GROUP = Named(5, "circle", "red")
HELD_OUT_RELATION = frozenset(("star", "heart"))

SIZE_SAID, BACKGROUND_SAID, COLOR_SAID = 0.25, 0.3, 0.5  # how often captions say what they may leave open
EXTRA_SAID = 0.125  # how often evaluation prompts say a size, and a background


SHAPE_NAMES = tuple(SHAPES)
FREE_COLORS = {shape: tuple(color for color in COLORS if color != HELD_OUT.get(shape)) for shape in SHAPES}


def is_held_out(objects: Sequence[SceneObject]) -> bool:
    """Whether a training scene must not show these objects (the held-out relation is a matter of captions)."""
    group = sum((item.shape, item.color) == (HELD_OUT_GROUP.shape, HELD_OUT_GROUP.color) for item in objects)
    return group == HELD_OUT_GROUP.count or any(HELD_OUT.get(item.shape) == item.color for item in objects)


def draw_pair(draws: Draws, held_out: bool) -> tuple[str, str]:
    """Shape and color, of those that are held out or of the others."""
    if held_out:
        return draws.pick(tuple(HELD_OUT.items()))
    shape = draws.pick(SHAPE_NAMES)
    return shape, draws.pick(FREE_COLORS[shape])


def _draw_binding(draws: Draws, held_out: bool) -> tuple[Named, ...]:
    """Two objects that differ in shape and in color; held out: at least one of the two pairs is."""
    while True:
        one, other = draw_pair(draws, held_out), draw_pair(draws, held_out and draws.chance(0.5))
        if one[0] != other[0] and one[1] != other[1]:
            pairs = (one, other) if draws.chance(0.5) else (other, one)
            return tuple(Named(1, shape, color) for shape, color in pairs)


def _draw_counting(draws: Draws, held_out: bool) -> tuple[Named, ...]:
    if held_out:
        return (HELD_OUT_GROUP,)
    while True:
        shape = draws.pick(SHAPE_NAMES)
        color = draws.pick(FREE_COLORS[shape]) if draws.chance(COLOR_SAID) else None
        group = Named(2 + draws.below(5), shape, color)
        if group != HELD_OUT_GROUP:
            return (group,)


def _draw_position(draws: Draws, held_out: bool) -> tuple[Named, ...]:
    while True:
        pair = draws.two(sorted(HELD_OUT_RELATION) if held_out else SHAPE_NAMES)
        if held_out or HELD_OUT_RELATION != set(pair):
            break
    said = draws.chance(COLOR_SAID)
    return tuple(Named(1, shape, draws.pick(FREE_COLORS[shape]) if said else None) for shape in pair)


def _draw_full(draws: Draws) -> tuple[Named, ...]:
    """One to six objects; never a star with a heart, for their places would tell the held-out relation."""
    count = 1 + draws.below(6)
    while True:
        pairs = [draw_pair(draws, held_out=False) for _ in range(count)]
        group = sum(pair == (HELD_OUT_GROUP.shape, HELD_OUT_GROUP.color) for pair in pairs)
        if group != HELD_OUT_GROUP.count and not HELD_OUT_RELATION <= {shape for shape, _ in pairs}:
            return tuple(Named(1, shape, color) for shape, color in pairs)


def _draw_named(draws: Draws, kind: str, held_out: bool) -> tuple[Named, ...]:
    if kind == "single":
        return (Named(1, draws.pick(SHAPE_NAMES)),)
    if kind == "two":
        return tuple(Named(1, shape) for shape in draws.two(SHAPE_NAMES))
    if kind == "counting":
        return _draw_counting(draws, held_out)
    if kind == "colors":
        shape, color = draw_pair(draws, held_out)
        return (Named(1, shape, color),)
    if kind == "position":
        return _draw_position(draws, held_out)
    if kind == "binding":
        return _draw_binding(draws, held_out)
    return _draw_full(draws)


def _draw_sizes(draws: Draws, named: tuple[Named, ...], probability: float) -> tuple[Named, ...]:
    """Say "small" or "large" of some, where there is room for it."""
    total = sum(item.count for item in named)
    sizes = ("small", "large") if total <= MAX_LARGE else ("small",)
    return tuple(replace(item, size=draws.pick(sizes)) if draws.chance(probability) else item for item in named)


def _draw_request(draws: Draws, kind: str, held_out: bool, plain: bool) -> tuple[Request, str | None]:
    """Request without words, and the background if it is said. Plain: as in evaluation."""
    named = _draw_named(draws, kind, held_out)
    relation = draws.pick(tuple(RELATIONS)) if kind == "position" else None
    if kind == "full":
        size_said = 1.0 if len(named) > MAX_PLAIN else 0.5
    else:
        size_said = EXTRA_SAID if plain else SIZE_SAID
    named = _draw_sizes(draws, named, size_said)
    said = draws.chance(EXTRA_SAID if plain else BACKGROUND_SAID)
    background = draws.pick(tuple(BACKGROUNDS)) if said else None
    return Request(kind, "", named, relation, background or "white"), background


def _draw_scene(draws: Draws, request: Request, held_out: bool) -> Scene:
    """A scene as asked; what is left open is drawn at random, for each object by itself."""
    wanted = [item for item in request.named for _ in range(item.count)]
    crowded = len(wanted) > MAX_PLAIN
    widths = [draws.uniform(*WIDTHS["small" if crowded else item.size]) for item in wanted]
    if request.relation is not None:
        centres = place_related(draws, widths, request.relation)
    else:
        centres = place(draws, widths)
    while True:
        objects = tuple(
            SceneObject(item.shape, item.color or draws.pick(FREE_COLORS[item.shape]), width, x, y)
            for item, width, (x, y) in zip(wanted, widths, centres, strict=True)
        )
        if held_out or not is_held_out(objects):
            return Scene(objects, request.background)


def _say(draws: Draws, request: Request, background: str | None, scene: Scene) -> Request:
    """The request in words; a caption that says everything takes the places from the scene."""
    if request.kind == "full":
        pairs = zip(request.named, scene.objects, strict=True)
        named = tuple(replace(item, place=PLACES[3 * int(3 * shown.y) + int(3 * shown.x)]) for item, shown in pairs)
        request = replace(request, named=named)
    text = caption(request.named, request.relation, background, draws.pick)
    return replace(request, text=text)


def _check_kind(kind: str, kinds: Sequence[str], held_out: bool) -> None:
    if held_out and kind not in HELD_OUT_KINDS:
        raise ValueError(f"held-out combinations exist for {', '.join(HELD_OUT_KINDS)}; {kind!r} has none")
    if kind not in kinds:
        raise ValueError(f"the kind of a scene must be one of {', '.join(kinds)}, got {kind!r}")


def draw_example(generator: torch.Generator, kind: str, held_out: bool = False) -> tuple[Request, Scene]:
    """A caption and a scene that shows it; `held_out` draws only held-out combinations, otherwise never one.

    Raises:
        ValueError: the kind is unknown, or no combination of it is held out.
    """
    _check_kind(kind, (*KINDS, "full"), held_out)
    return _draw_example(Draws(generator), kind, held_out)


def _draw_example(draws: Draws, kind: str, held_out: bool) -> tuple[Request, Scene]:
    request, background = _draw_request(draws, kind, held_out, plain=False)
    scene = _draw_scene(draws, request, held_out)
    return _say(draws, request, background, scene), scene


def scene_batch(
    seed: int, index: int, count: int, size: int = 64, *, mixture: Mapping[str, float]
) -> tuple[Tensor, list[Request]]:
    """Pictures (N, S, S, 3) uint8 and their requests; example i depends on `seed` and `index + i` alone.

    `mixture` gives each kind its weight.
    """
    for kind in mixture:
        _check_kind(kind, (*KINDS, "full"), held_out=False)
    pictures, requests = np.empty((count, size, size, 3), np.uint8), []
    for i, (kind, draws) in enumerate(example_draws(seed, index, count, mixture)):
        request, scene = _draw_example(draws, kind, held_out=False)
        pictures[i] = render(scene, size)
        requests.append(request)
    return torch.from_numpy(pictures), requests


def prompts(kind: str, count: int, seed: int, held_out: bool = False) -> list[Request]:
    """Short prompts for evaluation, of one of the six kinds; `held_out`: each names a held-out combination."""
    _check_kind(kind, KINDS, held_out)
    generator = torch.Generator().manual_seed(seed)
    requests = []
    for _ in range(count):
        request, background = _draw_request(Draws(generator), kind, held_out, plain=True)
        requests.append(replace(request, text=caption(request.named, request.relation, background, first)))
    return requests
