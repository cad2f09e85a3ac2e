"""Laws of the built-in clips: frames are scenes, paths are lawful, held-out combinations never show, streams repeat."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from tokenloom.data.clip_layout import apart
from tokenloom.data.clip_render import NUM_FRAMES, Clip, ClipObject, Orbit, color_path, render_clip
from tokenloom.data.scene_clips import CLIP_KINDS, clip_batch, clip_prompts, draw_clip
from tokenloom.data.scenes import BACKGROUNDS, COLORS, FREE_COLORS, HELD_OUT, Scene, SceneObject, render

SLACK = 1e-9
WIDTHS = {"small": (0.16, 0.20), None: (0.22, 0.30), "large": (0.34, 0.42)}
each_kind = pytest.mark.parametrize("kind", CLIP_KINDS)


def drawn(kind, count=200, held_out=False):
    generator = torch.Generator().manual_seed(0)
    return [draw_clip(generator, kind, held_out) for _ in range(count)]


def scene_at(clip, frame):
    """The scene of one moment, of objects that keep their color."""
    shown = [item for item in clip.objects if frame in item.shown]
    states = [item.path()[frame].tolist() for item in shown]
    objects = [replace(item.first, x=x, y=y, width=w) for item, (x, y, w) in zip(shown, states, strict=True)]
    return Scene(tuple(objects), clip.background)


# What is drawn.


@pytest.mark.parametrize("size", [64, 33])
@pytest.mark.parametrize("kind", [kind for kind in CLIP_KINDS if kind != "turns"])
def test_each_frame_is_the_picture_of_its_scene(kind, size):
    for _, clip in drawn(kind, 12):
        if any(item.first.color != item.last.color for item in clip.objects):
            continue
        frames = render_clip(clip, size)
        assert frames.shape == (17, size, size, 3) and frames.dtype == np.uint8
        for frame in range(17):
            assert np.array_equal(frames[frame], render(scene_at(clip, frame), size))


def test_a_turn_begins_and_ends_in_its_colors_and_is_half_way_in_the_middle():
    for _, clip in drawn("turns", 12):
        (item,), frames = clip.objects, render_clip(clip)
        assert np.array_equal(frames[0], render(Scene((item.first,), clip.background)))
        assert np.array_equal(frames[-1], render(Scene((item.last,), clip.background)))
        middle = (frames[0].astype(int) + frames[-1]) / 2
        assert abs(frames[8] - middle).max() <= 1


def test_an_orbit_is_one_turn_at_constant_speed():
    start = SceneObject("star", "blue", 0.18, 0.5, 0.2)
    path = ClipObject(start, start, orbit=Orbit(0.5, 0.5, 1)).path()
    assert path[4, :2] == pytest.approx([0.8, 0.5])  # a quarter, clockwise: from the top to the right
    assert path[8, :2] == pytest.approx([0.5, 0.8]) and path[16] == pytest.approx(path[0])
    assert np.hypot(*np.diff(path[:, :2], axis=0).T) == pytest.approx(2 * 0.3 * math.sin(math.pi / 16))


def test_a_clip_of_unreasonable_size_is_refused():
    with pytest.raises(ValueError, match="from 16 to 4096"):
        render_clip(Clip((), "white"), 8)


# Lawful paths.


@pytest.mark.parametrize("held_out", [False, True])
@each_kind
def test_boxes_keep_the_margin_and_the_gap_at_every_frame(kind, held_out):
    for request, clip in drawn(kind, held_out=held_out):
        assert clip.background == request.background
        for item in clip.objects:
            x, y, width = item.path().T
            assert len(x) == 17 and min(width) >= 0.16 - SLACK
            assert min((x - width / 2).min(), (y - width / 2).min()) >= 0.03 - SLACK
            assert max((x + width / 2).max(), (y + width / 2).max()) <= 0.97 + SLACK
        for one, other in combinations(clip.objects, 2):
            for (x, y, width), (x2, y2, width2) in zip(one.path(), other.path(), strict=True):
                assert max(abs(x - x2), abs(y - y2)) - (width + width2) / 2 >= 0.04 - SLACK


def test_objects_that_meet_on_their_way_are_not_apart():
    left = SceneObject("ring", "red", 0.2, 0.2, 0.5)
    right = replace(left, x=0.8)
    assert not apart(ClipObject(left, right), ClipObject(right, left))
    assert apart(ClipObject(left, left), ClipObject(right, right))


@each_kind
def test_objects_do_what_the_acts_say(kind):
    for request, clip in drawn(kind):
        things = [item for act in request.acts for item in act.things]
        assert [item.first.shape for item in clip.objects] == [item.shape for item in things]
        assert len({item.shape for item in things}) == len(things)
        for act, item in zip(request.acts, clip.objects, strict=len(request.acts) == len(clip.objects)):
            first, last = item.first, item.last
            low, high = WIDTHS["small" if act.motion == "circles" else act.actor.size]
            assert low <= first.width <= high and act.actor.color in (None, first.color)
            assert last.color == (act.color or first.color) and (act.color is None) == (first.color == last.color)
            right, down = last.x - first.x, last.y - first.y
            along = {"left": -right, "right": right, "up": -down, "down": down, None: 0}[act.direction]
            assert (0.35 - SLACK <= along <= 0.5 + SLACK) if act.direction else along == 0
            assert math.hypot(right, down) == pytest.approx(along)
            factor = {"grows": 1.8, "shrinks": 1 / 1.8}.get(act.motion, 1)
            assert last.width / first.width == pytest.approx(factor)
            shown = {"appears": range(8, 17), "disappears": range(8)}.get(act.motion, range(17))
            assert item.shown == shown
            assert (item.orbit is None) == (act.motion != "circles")
        if kind == "circles":
            small, still = clip.objects
            assert still.first == still.last and still.orbit is None
            assert (still.first.shape, still.first.color) == (
                request.acts[0].around.shape,
                request.acts[0].around.color,
            )
            assert (small.orbit.x, small.orbit.y) == (still.first.x, still.first.y)


def test_all_motions_directions_senses_sizes_and_backgrounds_come():
    clips = [example for kind in CLIP_KINDS for example in drawn(kind)]
    acts = [act for request, _ in clips for act in request.acts]
    assert {act.direction for act in acts} == {"left", "right", "up", "down", None}
    assert {item.orbit.sense for _, clip in clips for item in clip.objects if item.orbit} == {1, -1}
    assert {act.actor.size for act in acts} == {"small", None, "large"}
    assert {clip.background for _, clip in clips} == set(BACKGROUNDS)
    pairs = {act.motion for request, _ in clips if request.kind == "two" for act in request.acts}
    assert pairs == set(CLIP_KINDS) - {"circles", "two"}


# Held out.


@each_kind
def test_training_never_shows_a_held_out_combination_at_any_moment(kind):
    for _, clip in drawn(kind, 1000):
        for item in clip.objects:
            if item.first.shape in HELD_OUT:
                held = np.array(COLORS[HELD_OUT[item.first.shape]])
                nearest = np.linalg.norm(color_path(item.first.color, item.last.color) - held, axis=1).min()
                assert nearest > 60


def test_a_turn_may_pass_a_color_that_is_not_held_out_for_its_shape():
    """Red hearts do not turn yellow, for they would be orange half-way; red rings pass orange, too, and may."""
    turns = {(clip.objects[0].first, clip.objects[0].last) for _, clip in drawn("turns", 3000)}
    seen = {(first.shape, first.color, last.color) for first, last in turns}
    assert ("heart", "red", "yellow") not in seen and ("square", "red", "blue") not in seen
    assert ("ring", "red", "yellow") in seen and ("cross", "red", "blue") in seen


def names_held_out(request):
    things = [item for act in request.acts for item in act.things]
    pairs = {(item.shape, item.color) for item in things} | {(act.actor.shape, act.color) for act in request.acts}
    return any(HELD_OUT.get(shape) == color for shape, color in pairs if color)


@each_kind
def test_held_out_prompts_are_new_and_the_others_are_not(kind):
    assert all(map(names_held_out, clip_prompts(kind, 200, seed=1, held_out=True)))
    assert not any(map(names_held_out, clip_prompts(kind, 200, seed=1)))
    assert all(names_held_out(request) for request, _ in drawn(kind, held_out=True))


@each_kind
def test_prompts_repeat_with_their_seed_only(kind):
    assert clip_prompts(kind, 40, seed=5) == clip_prompts(kind, 40, seed=5) != clip_prompts(kind, 40, seed=6)
    assert {request.kind for request in clip_prompts(kind, 5, seed=5)} == {kind}


def test_prompts_leave_open_colors_that_can_be_drawn():
    """What goes unsaid at the start of a turn must leave a turn."""
    open_turns = {
        (act.actor.shape, act.color)
        for request in clip_prompts("turns", 2000, seed=0)
        for act in request.acts
        if act.actor.color is None
    }
    assert len(open_turns) == sum(map(len, FREE_COLORS.values()))


# Streams.


def test_an_example_depends_on_its_seed_and_index_alone():
    clips, requests = clip_batch(7, 0, 12, 32)
    assert clips.shape == (12, NUM_FRAMES, 32, 32, 3) and clips.dtype == torch.uint8
    torch.rand(3)  # the global generator plays no part
    for start, count in ((0, 5), (5, 7), (11, 1)):
        part, part_requests = clip_batch(7, start, count, 32)
        assert torch.equal(part, clips[start : start + count])
        assert part_requests == requests[start : start + count]
    assert clip_batch(8, 0, 12, 32)[1] != requests


def test_every_kind_comes_as_often_as_the_others_unless_a_mixture_is_given():
    kinds = [request.kind for request in clip_batch(0, 0, 400, size=16)[1]]
    assert all(25 <= kinds.count(kind) <= 80 for kind in CLIP_KINDS)
    kinds = [request.kind for request in clip_batch(0, 0, 200, size=16, mixture={"grows": 3, "two": 1, "turns": 0})[1]]
    assert kinds.count("grows") + kinds.count("two") == 200 and 125 <= kinds.count("grows") <= 175


def test_kinds_that_are_none_are_refused():
    for ask in (
        lambda: clip_batch(0, 0, 1, mixture={"flies": 1}),
        lambda: clip_prompts("flies", 1, seed=0),
        lambda: draw_clip(torch.Generator(), "flies"),
    ):
        with pytest.raises(ValueError, match="kind of a clip"):
            ask()
