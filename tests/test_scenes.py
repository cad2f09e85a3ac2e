"""Laws of the built-in world: the renderer against a plain one, lawful scenes, held-out combinations, captions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tokenloom.data.example_stream import example_seed
from tokenloom.data.scene_captions import (
    GROUPS,
    NUMBERS,
    PAIRS,
    PLACES,
    RELATIONS,
    SENTENCES,
    SENTENCES_WITH_BACKGROUND,
    Named,
    caption,
    noun_phrase,
)
from tokenloom.data.scene_layout import Draws, grid, place
from tokenloom.data.scenes import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT,
    HELD_OUT_KINDS,
    KINDS,
    SHAPES,
    Scene,
    SceneObject,
    _draw_scene,
    draw_example,
    prompts,
    render,
    scene_batch,
)

ALL_KINDS = (*KINDS, "full")
EVEN = dict.fromkeys(ALL_KINDS, 1.0)
RANGES = {"small": (0.16, 0.20), None: (0.22, 0.30), "large": (0.34, 0.42)}
SLACK = 1e-9


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(kind: str, count: int = 300, held_out: bool = False):
    generator = seeded()
    return [draw_example(generator, kind, held_out) for _ in range(count)]


# A renderer as plain as the page that describes it: every sample point of the whole 4x canvas, shapes as polygons.


def in_polygon(x, y, corners):
    """Even-odd rule."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def plain_inside(shape, x, y):
    """x right and y down, in units of half the box."""
    if shape == "star":
        turns = np.arange(10) * math.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.40)
        return in_polygon(x, y, np.stack([radii * np.sin(turns), -radii * np.cos(turns)], 1))
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 1000, endpoint=False)
        curve_x = np.sin(t) ** 3
        curve_y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        curve_y = 1 - 2 * (curve_y - curve_y.min()) / (curve_y.max() - curve_y.min())
        return in_polygon(x, y, np.stack([curve_x, curve_y], 1))
    if shape in ("square", "triangle", "diamond", "cross"):
        corners = {
            "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
            "triangle": [(0, -1), (1, 1), (-1, 1)],
            "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
            "cross": [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1)]
            + [(-3, -1), (-1, -1)],
        }[shape]
        return in_polygon(x, y, np.array(corners) / (3 if shape == "cross" else 1))
    disc = np.hypot(x, y) <= 1
    if shape == "ring":
        return disc & (np.hypot(x, y) >= 0.55)
    if shape == "crescent":
        return disc & ~(np.hypot(x - 0.55, y) <= 1)
    return disc


def plain_render(scene, size):
    points = (np.arange(4 * size) + 0.5) / (4 * size)
    canvas = np.empty((4 * size, 4 * size, 3))
    canvas[:] = BACKGROUNDS[scene.background]
    for item in scene.objects:
        x, y = (points[None, :] - item.x) / (item.width / 2), (points[:, None] - item.y) / (item.width / 2)
        canvas[plain_inside(item.shape, x, y)] = COLORS[item.color]
    return np.floor(canvas.reshape(size, 4, size, 4, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "background"), [(64, "white"), (33, "navy")])
def test_a_shape_is_what_a_plain_renderer_draws(shape, size, background):
    scene = Scene(
        (SceneObject(shape, "orange", 0.37, 0.2771, 0.3113), SceneObject(shape, "cyan", 0.171, 0.7301, 0.6907)),
        background,
    )
    difference = render(scene, size).astype(int) - plain_render(scene, size)
    if shape == "heart":  # there the plain one is a polygon of 1,000 corners: a sample on the edge may differ
        assert (difference != 0).any(axis=2).sum() <= 1
    else:
        assert not difference.any()


def test_a_picture_of_six_objects_is_what_a_plain_renderer_draws():
    scenes = [scene for _, scene in drawn("full", 60) if len(scene.objects) == 6][:3]
    for scene in scenes:
        without_hearts = replace(scene, objects=tuple(item for item in scene.objects if item.shape != "heart"))
        assert np.array_equal(render(without_hearts), plain_render(without_hearts, 64))


def test_drawing_is_exact_in_the_middle_of_a_pixel_grid():
    """Sample points on the axis of a star must not fall out of it by a rounding error of the notch at its foot."""
    star = render(Scene((SceneObject("star", "red", 0.25, 0.5 + 0.5 / 256, 0.5),), "white"), 64)
    assert tuple(star[32, 32]) == COLORS["red"]


@pytest.mark.parametrize("size", [8, 5000])
def test_a_picture_of_unreasonable_size_is_refused(size):
    with pytest.raises(ValueError, match="from 16 to 4096"):
        render(Scene((), "white"), size)


# Lawful scenes.


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_objects_keep_their_sizes_the_margin_and_the_gap(kind, held_out):
    if held_out and kind not in HELD_OUT_KINDS:
        return
    for request, scene in drawn(kind, held_out=held_out):
        wanted = [item for item in request.named for _ in range(item.count)]
        assert 1 <= len(scene.objects) == len(wanted) <= 6
        assert scene.background == request.background
        for i, (item, asked) in enumerate(zip(scene.objects, wanted, strict=True)):
            low, high = RANGES["small" if len(wanted) > 4 else asked.size]
            assert low <= item.width <= high
            assert asked.size != "large" or len(wanted) <= 2
            assert item.shape == asked.shape and asked.color in (None, item.color)
            assert min(item.x, item.y) - item.width / 2 >= 0.03 - SLACK
            assert max(item.x, item.y) + item.width / 2 <= 0.97 + SLACK
            for other in scene.objects[:i]:
                distance = max(abs(item.x - other.x), abs(item.y - other.y))
                assert distance - (item.width + other.width) / 2 >= 0.04 - SLACK


def test_related_objects_differ_on_the_named_axis_and_hardly_on_the_other():
    seen = set()
    for request, scene in drawn("position", 600) + drawn("position", 100, held_out=True):
        one, other = scene.objects
        right, down = one.x - other.x, one.y - other.y
        along, across = {
            "left of": (-right, down),
            "right of": (right, down),
            "above": (-down, right),
            "below": (down, right),
        }[request.relation]
        assert along >= 0.22 - SLACK and abs(across) < 0.12
        seen.add(request.relation)
    assert seen == set(RELATIONS)


def test_a_caption_that_says_everything_names_the_place_of_each_object():
    for request, scene in drawn("full"):
        for asked, item in zip(request.named, scene.objects, strict=True):
            row, column = divmod(PLACES.index(asked.place), 3)
            assert (int(3 * item.y), int(3 * item.x)) == (row, column)
            assert asked.color == item.color and asked.place in request.text


@pytest.mark.parametrize("widths", [(0.42, 0.42), (0.30,) * 4, (0.20,) * 6, (0.42,)])
def test_the_last_resort_of_placement_is_lawful_and_rarely_needed(widths):
    needed = 0
    for centres in [grid(len(widths))] + [place(Draws(seeded(seed)), widths) for seed in range(50)]:
        needed += centres == grid(len(widths))
        for i, (x, y) in enumerate(centres):
            assert 0.03 - SLACK <= min(x, y) - widths[i] / 2 and max(x, y) + widths[i] / 2 <= 0.97 + SLACK
            for j in range(i):
                distance = max(abs(x - centres[j][0]), abs(y - centres[j][1]))
                assert distance >= (widths[i] + widths[j]) / 2 + 0.04 - SLACK
    assert needed == 1


# Held out.


def red_circles(scene):
    return sum(item.shape == "circle" and item.color == "red" for item in scene.objects)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_training_never_shows_a_held_out_combination(kind):
    assert len(HELD_OUT) == 8
    for _, scene in drawn(kind, 1000):
        assert all(HELD_OUT.get(item.shape) != item.color for item in scene.objects)
        assert red_circles(scene) != 5
        shapes = {item.shape for item in scene.objects}
        assert kind not in ("position", "full") or not {"star", "heart"} <= shapes


def test_five_circles_of_free_color_are_never_all_red():
    """Chance would take 30,000 draws to try it, so here the first five colors drawn are red."""
    request = next(r for r, _ in drawn("counting", 1000) if r.named[0] == Named(5, "circle", None, r.named[0].size))
    colors = iter(["red"] * 5 + ["red"] * 4 + ["blue"])

    class Rigged(Draws):
        def pick(self, options):
            return next(colors)

    scene = _draw_scene(Rigged(seeded()), request, held_out=False)
    assert [item.color for item in scene.objects] == ["red"] * 4 + ["blue"]


def is_new(request):
    pairs = [(item.shape, item.color) for item in request.named]
    if request.kind == "counting":
        return request.named[0].count == 5 and pairs == [("circle", "red")]
    if request.kind == "position":
        return {shape for shape, _ in pairs} == {"star", "heart"}
    return any(HELD_OUT.get(shape) == color for shape, color in pairs)


@pytest.mark.parametrize("kind", HELD_OUT_KINDS)
def test_held_out_prompts_are_new_and_the_others_are_not(kind):
    assert all(map(is_new, prompts(kind, 200, seed=1, held_out=True)))
    assert not any(map(is_new, prompts(kind, 200, seed=1)))
    assert all(is_new(request) for request, _ in drawn(kind, 200, held_out=True))


@pytest.mark.parametrize("kind", ["single", "two", "full"])
def test_kinds_without_held_out_combinations_say_so(kind):
    with pytest.raises(ValueError, match="has none"):
        draw_example(seeded(), kind, held_out=True)
    with pytest.raises(ValueError, match="has none"):
        prompts(kind, 1, seed=0, held_out=True)


# Captions.


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_caption_says_all_that_is_asked_in_lower_case_without_a_stop(kind):
    for request, _ in drawn(kind):
        words = request.text.replace(",", " ").replace(":", " ").split()
        assert request.text == request.text.lower().strip() and not request.text.endswith(".")
        assert "  " not in request.text and "{" not in request.text
        for item in request.named:
            phrase = noun_phrase(item, article="")
            assert phrase in request.text
            assert item.count == 1 or NUMBERS[item.count] in words
        assert (request.background in words) == ("background" in words)
        assert "background" in words or request.background == "white"


@pytest.mark.parametrize(
    ("named", "relation", "background", "text"),
    [
        ([Named(1, "star")], None, None, "a star"),
        ([Named(1, "star"), Named(1, "ring")], None, None, "a star and a ring"),
        ([Named(4, "circle")], None, None, "four circles"),
        ([Named(2, "cross")], None, None, "two crosses"),
        ([Named(1, "heart", "orange")], None, None, "an orange heart"),
        (
            [Named(1, "cross", "red"), Named(1, "square", "blue")],
            "left of",
            None,
            "a red cross to the left of a blue square",
        ),
        ([Named(1, "ring", "pink", "large")], None, "navy", "a large pink ring on a navy background"),
        ([Named(3, "diamond", "orange", "small")], None, None, "three small orange diamonds"),
    ],
)
def test_the_plain_paraphrase(named, relation, background, text):
    assert caption(named, relation, background) == text


def last_of_relations(options):
    return options[-1] if options in RELATIONS.values() else options[0]


def test_a_relation_said_backwards_keeps_its_sense():
    named = [Named(1, "cross", "red"), Named(1, "square", "blue")]
    texts = [caption(named, relation, pick=last_of_relations) for relation in RELATIONS]
    words = ("to its left", "to its right", "above it", "below it")
    assert texts == [f"a blue square with a red cross {word}" for word in words]


def test_captions_vary():
    generator = seeded()
    draws = Draws(generator)
    two = {caption([Named(1, "star"), Named(1, "ring")], pick=draws.pick) for _ in range(2000)}
    assert len(two) > len(set(PAIRS)) * (len(set(SENTENCES)) - 1)
    group = {caption([Named(3, "star")], None, "sand", draws.pick) for _ in range(2000)}
    assert len(group) == len(set(GROUPS)) * len(set(SENTENCES_WITH_BACKGROUND))


# Streams.


def test_an_example_depends_on_its_seed_and_index_alone():
    pictures, requests = scene_batch(7, 0, 12, mixture=EVEN)
    assert pictures.shape == (12, 64, 64, 3) and pictures.dtype == torch.uint8
    torch.rand(3)  # the global generator plays no part
    for start, count in ((0, 5), (5, 7), (11, 1)):
        part, part_requests = scene_batch(7, start, count, mixture=EVEN)
        assert torch.equal(part, pictures[start : start + count])
        assert part_requests == requests[start : start + count]
    assert scene_batch(8, 0, 12, mixture=EVEN)[1] != requests


def test_no_two_of_many_examples_share_a_state():
    """torch keeps 32 bits of a seed: hashing (seed, index) would repeat hundreds of scenes in two million."""
    states = {example_seed(3, index) for index in range(100_000)}
    assert len(states) == 100_000 and max(states) < 2**32


def test_the_mixture_gives_each_kind_its_share():
    _, requests = scene_batch(0, 0, 400, size=16, mixture={"single": 3, "two": 1, "full": 0})
    kinds = [request.kind for request in requests]
    assert kinds.count("single") + kinds.count("two") == 400
    assert 0.68 < kinds.count("single") / 400 < 0.82


@pytest.mark.parametrize("mixture", [{}, {"single": 0}, {"single": -1, "two": 2}, {"single": math.nan}, {"scene": 1}])
def test_a_mixture_that_is_none_is_refused(mixture):
    with pytest.raises(ValueError, match="mixture|kind"):
        scene_batch(0, 0, 1, mixture=mixture)


def test_an_index_outside_of_the_stream_is_refused():
    for index in (-1, 2**32):
        with pytest.raises(ValueError, match="2\\*\\*32"):
            scene_batch(0, index, 1, mixture=EVEN)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_repeat_with_their_seed_only(kind):
    assert prompts(kind, 40, seed=5) == prompts(kind, 40, seed=5) != prompts(kind, 40, seed=6)
    assert {request.kind for request in prompts(kind, 5, seed=5)} == {kind}
