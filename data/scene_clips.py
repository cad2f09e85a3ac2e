"""Clips of the built-in world: one or two objects that move, grow, shrink, turn, appear, disappear or circle another.

17 frames at 8 a second, with captions that can be checked exactly. What is held out in pictures is held out here, at
every moment of a clip: also on the way from one color to another.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from .clip_captions import DIRECTIONS, MOTIONS, Act, ClipRequest, clip_caption
from .clip_layout import place_acts
from .clip_render import NUM_FRAMES, Clip, color_path, render_clip
from .example_stream import example_draws
from .scene_captions import Named, first
from .scene_layout import Draws
from .scene_render import BACKGROUNDS, COLORS
from .scenes import (
    BACKGROUND_SAID,
    COLOR_SAID,
    EXTRA_SAID,
    FREE_COLORS,
    HELD_OUT,
    SHAPE_NAMES,
    SIZE_SAID,
    draw_pair,
)

CLIP_KINDS = (*MOTIONS, "two")  # two: two objects, each with its own motion
EVEN_KINDS = MappingProxyType(dict.fromkeys(CLIP_KINDS, 1.0))
PAIR_MOTIONS = tuple(motion for motion in MOTIONS if motion != "circles")  # an orbit takes the whole canvas
CLEARANCE = 60  # in RGB, of a turning object from its held-out color; the detector names a color up to 42 away


def _clear_turns(shape: str) -> tuple[tuple[str, str], ...]:
    """First and last color of the turns that training may show: a heart from red to yellow would be orange half-way."""
    free = FREE_COLORS[shape]
    turns = [(start, end) for start in free for end in free if start != end]
    if shape not in HELD_OUT:
        return tuple(turns)
    held = np.array(COLORS[HELD_OUT[shape]])
    return tuple(turn for turn in turns if np.linalg.norm(color_path(*turn) - held, axis=1).min() > CLEARANCE)


CLEAR_TURNS = {shape: _clear_turns(shape) for shape in SHAPE_NAMES}


def _draw_act(draws: Draws, motion: str, held_out: bool) -> Act:
    """An act without sizes; the last color of a turn and that of the still object are always said.

    A star and a heart may share a clip, as they may share a picture: no words tell how they stand to each other.
    """
    shape, color = draw_pair(draws, held_out)
    said = held_out or draws.chance(COLOR_SAID)
    if motion == "turns":
        return _draw_turn(draws, shape, said, held_out)
    actor = Named(1, shape, color if said else None)
    if motion == "moves":
        return Act(actor, motion, direction=draws.pick(DIRECTIONS))
    if motion != "circles":
        return Act(actor, motion)
    while True:
        other, other_color = draw_pair(draws, held_out and draws.chance(0.5))
        if other != shape:
            break
    still = Named(1, other, other_color)
    if held_out and draws.chance(0.5):  # either of the two may be the held-out one
        actor, still = still, actor
    return Act(actor, motion, around=still)


def _draw_turn(draws: Draws, shape: str, said: bool, held_out: bool) -> Act:
    """Held out: the first color or the last is the one that the shape never has."""
    if held_out:
        pair = (HELD_OUT[shape], draws.pick(FREE_COLORS[shape]))
        start, end = pair if draws.chance(0.5) else pair[::-1]
    else:
        start, end = draws.pick(CLEAR_TURNS[shape])
    return Act(Named(1, shape, start if said else None), "turns", color=end)


def _draw_acts(draws: Draws, kind: str, held_out: bool) -> tuple[Act, ...]:
    """One act, or two with different shapes; held out: at least one of the two is."""
    if kind != "two":
        return (_draw_act(draws, kind, held_out),)
    while True:
        one = _draw_act(draws, draws.pick(PAIR_MOTIONS), held_out)
        other = _draw_act(draws, draws.pick(PAIR_MOTIONS), held_out and draws.chance(0.5))
        if one.actor.shape != other.actor.shape:
            return (one, other) if draws.chance(0.5) else (other, one)


def _draw_size(draws: Draws, act: Act, alone: bool, probability: float) -> Act:
    """Say the size at the first frame, where the motion leaves room for it: nothing leaves the widths of the world."""
    room = {"grows": ("small",), "shrinks": ("large",), "circles": ("small",)}.get(act.motion, ("small", "large"))
    sizes = tuple(size for size in room if alone or size == "small")
    if sizes and draws.chance(probability):
        return replace(act, actor=replace(act.actor, size=draws.pick(sizes)))
    return act


def _draw_request(draws: Draws, kind: str, held_out: bool, plain: bool) -> tuple[ClipRequest, str | None]:
    """Request without words, and the background if it is said. Plain: as in evaluation."""
    acts = _draw_acts(draws, kind, held_out)
    size_said = EXTRA_SAID if plain else SIZE_SAID
    acts = tuple(_draw_size(draws, act, len(acts) == 1, size_said) for act in acts)
    said = draws.chance(EXTRA_SAID if plain else BACKGROUND_SAID)
    background = draws.pick(tuple(BACKGROUNDS)) if said else None
    return ClipRequest("", acts, background or "white"), background


def _first_color(draws: Draws, act: Act) -> str:
    """Of the actor: as said, or any that training may show."""
    shape = act.actor.shape
    if act.actor.color is not None:
        return act.actor.color
    if act.motion != "turns":
        return draws.pick(FREE_COLORS[shape])
    return draws.pick([start for start, end in CLEAR_TURNS[shape] if end == act.color])


def draw_clip(generator: torch.Generator, kind: str, held_out: bool = False) -> tuple[ClipRequest, Clip]:
    """A caption and a clip that shows it; `held_out` draws only held-out combinations, otherwise never one."""
    _check_kind(kind)
    return _draw_clip(Draws(generator), kind, held_out)


def _draw_clip(draws: Draws, kind: str, held_out: bool) -> tuple[ClipRequest, Clip]:
    request, background = _draw_request(draws, kind, held_out, plain=False)
    objects = place_acts(draws, request.acts, [_first_color(draws, act) for act in request.acts])
    request = replace(request, text=clip_caption(request.acts, background, draws.pick))
    return request, Clip(objects, request.background)


def _check_kind(kind: str) -> None:
    if kind not in CLIP_KINDS:
        raise ValueError(f"the kind of a clip must be one of {', '.join(CLIP_KINDS)}, got {kind!r}")


def clip_batch(
    seed: int, index: int, count: int, size: int = 64, *, mixture: Mapping[str, float] = EVEN_KINDS
) -> tuple[Tensor, list[ClipRequest]]:
    """Clips (N, T, S, S, 3) uint8 and their requests; example i depends on `seed` and `index + i` alone.

    `mixture` gives each kind its weight.
    """
    for kind in mixture:
        _check_kind(kind)
    clips, requests = np.empty((count, NUM_FRAMES, size, size, 3), np.uint8), []
    for i, (kind, draws) in enumerate(example_draws(seed, index, count, mixture)):
        request, clip = _draw_clip(draws, kind, held_out=False)
        clips[i] = render_clip(clip, size)
        requests.append(request)
    return torch.from_numpy(clips), requests


def clip_prompts(kind: str, count: int, seed: int, held_out: bool = False) -> list[ClipRequest]:
    """Short prompts for evaluation, of one kind; `held_out`: each names a held-out combination, otherwise none does."""
    _check_kind(kind)
    generator = torch.Generator().manual_seed(seed)
    requests = []
    for _ in range(count):
        request, background = _draw_request(Draws(generator), kind, held_out, plain=True)
        requests.append(replace(request, text=clip_caption(request.acts, background, first)))
    return requests
