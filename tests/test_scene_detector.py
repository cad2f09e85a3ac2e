"""Laws of the detector: what is drawn is found, also blurred and noisy; what was not asked for is never accepted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tokenloom.data.regions import grow, label_regions
from tokenloom.data.scene_detector import check, detect, shares
from tokenloom.data.scenes import (
    BACKGROUNDS,
    COLORS,
    KINDS,
    SHAPES,
    Named,
    Request,
    Scene,
    SceneObject,
    draw_example,
    prompts,
    render,
    scene_batch,
)

ALL_KINDS = (*KINDS, "full")


def examples(kind, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [draw_example(generator, kind) for _ in range(count)]


def request_of(*named, kind="single", relation=None, background="white"):
    return Request(kind, "", named, relation, background)


def one(shape="circle", color="red", width=0.26, x=0.5, y=0.5):
    return SceneObject(shape, color, width, x, y)


def blurred(picture, generator):
    """Two passes of a 3 x 3 kernel (a Gaussian of 0.7 pixels) and noise of 6 of 255."""
    smooth = picture.astype(np.float64)
    for axis in (0, 1, 0, 1):
        smooth = (np.roll(smooth, 1, axis) + 6 * smooth + np.roll(smooth, -1, axis)) / 8
    return np.clip(smooth + generator.normal(0, 6, picture.shape), 0, 255).round().astype(np.uint8)


# What is drawn is found.


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_drawn_scenes_show_what_they_say(kind):
    passed = [check(request, render(scene)) for request, scene in examples(kind, 100)]
    assert sum(passed) >= 99


@pytest.mark.parametrize("size", [32, 48, 128, 256])
def test_the_side_does_not_matter(size):
    drawn = [example for kind in ALL_KINDS for example in examples(kind, 6, seed=size)]
    assert all(check(request, render(scene, size)) for request, scene in drawn)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_blur_and_noise_do_not_matter(kind):
    noise = np.random.default_rng(0)
    passed = [check(request, blurred(render(scene), noise)) for request, scene in examples(kind, 60, seed=1)]
    assert sum(passed) >= 0.95 * 60


def test_a_darker_picture_does_not_matter():
    drawn = [example for kind in KINDS for example in examples(kind, 10, seed=2)]
    passed = [check(request, (render(scene) * 0.95).astype(np.uint8)) for request, scene in drawn]
    assert sum(passed) >= 0.95 * len(drawn)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_found_in_each_color_where_it_stands(shape, background):
    for color in COLORS:
        for width, size_class in ((0.165, "small"), (0.225, "plain"), (0.297, "plain"), (0.343, "large")):
            item = SceneObject(shape, color, width, 0.433, 0.5617)
            detection = detect(render(Scene((item,), background)))
            assert detection.background == background
            (found,) = detection.objects
            assert (found.shape, found.color, found.size_class) == (shape, color, size_class)
            assert (found.x, found.y, found.width) == pytest.approx((item.x, item.y, item.width), abs=0.006)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("shape", ["square", "ring", "crescent", "cross"])
def test_neighbors_of_one_color_stay_two(shape, size):
    for shift in np.linspace(0, 0.05, 8):
        pair = (one(shape, "blue", 0.2, 0.3 + shift, 0.4), one(shape, "blue", 0.2, 0.54 + shift, 0.4))
        found = detect(render(Scene(pair, "white"), size)).objects
        assert [item.shape for item in found] == [shape, shape]


# What was not asked for is not accepted.


def drop_an_object(request, scene):
    return render(replace(scene, objects=scene.objects[:-1]))


def add_an_object(request, scene):
    for y in np.linspace(0.12, 0.88, 20):
        for x in np.linspace(0.12, 0.88, 20):
            if all(max(abs(x - item.x), abs(y - item.y)) > item.width / 2 + 0.12 for item in scene.objects):
                return render(replace(scene, objects=(*scene.objects, replace(scene.objects[0], x=x, y=y, width=0.16))))
    return None


def change_a_shape(request, scene):
    names = list(SHAPES)
    first = scene.objects[0]
    other = replace(first, shape=names[(names.index(first.shape) + 4) % 9])
    return render(replace(scene, objects=(other, *scene.objects[1:])))


def change_the_background(request, scene):
    names = list(BACKGROUNDS)
    return render(replace(scene, background=names[(names.index(scene.background) + 1) % 4]))


def turn_the_hue(request, scene):
    """The colors of the objects change into one another; white, gray and the like stay."""
    if not any(item.color for item in request.named):
        return None
    names = list(COLORS)
    turned = tuple(replace(item, color=names[(names.index(item.color) + 1) % 8]) for item in scene.objects)
    return render(replace(scene, objects=turned))


def shift_the_color(request, scene):
    """Half-way to the opposite color, which is none of the eight."""
    if not any(item.color for item in request.named):
        return None
    picture = render(scene).astype(int)
    background = np.array(BACKGROUNDS[scene.background])
    opposite = picture[..., [2, 0, 1]]
    return np.where((picture != background).any(axis=2, keepdims=True), (picture + opposite) // 2, picture).astype(
        np.uint8
    )


def swap_the_places(request, scene):
    if request.relation is None:
        return None
    one_, other = scene.objects
    return render(replace(scene, objects=(replace(one_, x=other.x, y=other.y), replace(other, x=one_.x, y=one_.y))))


def turn_the_relation(request, scene):
    """Left and right become above and below."""
    return None if request.relation is None else np.ascontiguousarray(render(scene).transpose(1, 0, 2))


def swap_the_colors(request, scene):
    if request.kind != "binding":
        return None
    one_, other = scene.objects
    return render(replace(scene, objects=(replace(one_, color=other.color), replace(other, color=one_.color))))


def cut_an_object(request, scene):
    """The right half of the first object is gone."""
    picture, item = render(scene), scene.objects[0]
    rows = slice(int((item.y - item.width / 2) * 64), int((item.y + item.width / 2) * 64) + 1)
    columns = slice(round((item.x - item.width * 0.12) * 64), int((item.x + item.width / 2) * 64) + 1)
    picture[rows, columns] = BACKGROUNDS[scene.background]
    return picture


def spill(request, scene):
    """Something that is no shape at all lies in a corner."""
    picture = render(scene)
    picture[:2, :16] = COLORS["blue"]
    picture[:12, :2] = COLORS["blue"]
    return picture


def wrong_size(request, scene):
    if len(scene.objects) > 2 or not any(item.size for item in request.named):
        return None
    other = {"small": 0.28, None: 0.17, "large": 0.25}
    wanted = [item for item in request.named for _ in range(item.count)]
    resized = [replace(item, width=other[asked.size]) for item, asked in zip(scene.objects, wanted, strict=True)]
    return render(replace(scene, objects=tuple(resized)))


DAMAGES = [
    drop_an_object,
    add_an_object,
    change_a_shape,
    change_the_background,
    turn_the_hue,
    shift_the_color,
    swap_the_places,
    turn_the_relation,
    swap_the_colors,
    cut_an_object,
    spill,
    wrong_size,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_scene_is_not_accepted(damage):
    pictures = []
    for kind in KINDS:
        for request, scene in examples(kind, 30, seed=3):
            picture = damage(request, scene)
            if picture is not None:
                pictures.append((request, picture))
    accepted = sum(check(request, picture) for request, picture in pictures)
    assert len(pictures) >= 20
    assert accepted <= 0.05 * len(pictures)


@pytest.mark.parametrize("background", [(255, 0, 0), (128, 128, 128), (228, 210, 195), (0, 0, 0)])
def test_other_backgrounds_have_no_name(background):
    picture = np.full((64, 64, 3), background, np.uint8)
    detection = detect(picture)
    assert detection.objects == []
    assert detection.background == ("sand" if background == (228, 210, 195) else None)


def points():
    y, x = np.mgrid[0:64, 0:64] - 31.5
    return x, y


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: (abs(x) < 14) & (abs(y) < 5),  # a bar
        lambda x, y: (abs(x) < 12) & (abs(y) < 12) & ((x < -3) | (y > 3)),  # an L
        lambda x, y: (np.hypot(x, y) < 14) & (y < 0),  # half a circle
        lambda x, y: (np.hypot(x, y) < 14) & (np.hypot(x + 8, y) > 14),  # a crescent the wrong way round
        lambda x, y: (abs(x) < 12) & (abs(y) < 12) & (np.maximum(abs(x), abs(y)) > 6),  # a frame
        lambda x, y: (abs(x) < (12 - y) / 2) & (abs(y) < 12),  # a triangle on its tip
    ],
)
def test_other_forms_have_no_name(form):
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[form(*points())] = COLORS["green"]
    (found,) = detect(picture).objects
    assert found.shape is None and found.color == "green"
    assert not check(request_of(Named(1, "circle")), picture)


def test_an_object_of_two_colors_has_no_color():
    picture = render(Scene((one("circle", "red", 0.4),), "white"))
    x, _ = points()
    picture[(x > 0) & (picture != 255).any(axis=2)] = COLORS["green"]
    (found,) = detect(picture).objects
    assert found.color is None


# How an answer is judged.


def test_what_goes_unsaid_is_free():
    picture = render(Scene((one("circle", "red", 0.4),), "white"))
    for named in (Named(1, "circle"), Named(1, "circle", "red"), Named(1, "circle", None, "large")):
        assert check(request_of(named), picture)
    for named in (Named(1, "circle", "blue"), Named(1, "circle", None, "small"), Named(2, "circle"), Named(1, "ring")):
        assert not check(request_of(named), picture)


def test_the_size_of_a_crowd_is_not_judged():
    five = tuple(
        one("star", "blue", 0.28, x, y) for x, y in [(0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8), (0.5, 0.5)]
    )
    assert check(request_of(Named(5, "star", "blue", "small"), kind="counting"), render(Scene(five, "white")))
    four = render(Scene(five[:4], "white"))
    assert check(request_of(Named(4, "star", "blue"), kind="counting"), four)
    assert not check(request_of(Named(4, "star", "blue", "small"), kind="counting"), four)


@pytest.mark.parametrize(
    ("relation", "x", "y"), [("left of", 0.25, 0.45), ("right of", 0.8, 0.5), ("above", 0.5, 0.2), ("below", 0.5, 0.8)]
)
def test_a_relation_is_the_main_direction(relation, x, y):
    picture = render(Scene((one("star", "blue", 0.22, x, y), one("ring", "red", 0.22)), "white"))
    for asked in ("left of", "right of", "above", "below"):
        named = (Named(1, "star"), Named(1, "ring"))
        assert check(request_of(*named, kind="position", relation=asked), picture) == (asked == relation)
    assert not check(request_of(*named[::-1], kind="position", relation=relation), picture)


def test_the_score_is_the_share_of_each_kind_and_overall_their_plain_mean():
    requests = [request_of(Named(1, "circle")) for _ in range(4)]
    requests += [request_of(Named(1, "circle"), kind="colors"), request_of(Named(1, "circle"), kind="full")]
    scores = shares(requests, [True, True, True, False, True, False])
    assert scores == {"single": 0.75, "colors": 1.0, "full": 0.0, "overall": 0.875}


def test_scenes_of_a_stream_show_what_is_asked_and_nothing_else():
    pictures, requests = scene_batch(0, 0, 60, mixture=dict.fromkeys(KINDS, 1.0))
    assert all(map(check, requests, pictures))
    assert sum(map(check, prompts("colors", 60, seed=0), pictures)) < 12


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((64, 32, 3), np.uint8),
        np.zeros((64, 64), np.uint8),
        np.zeros((3, 64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.uint8(0),
    ],
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="a scene must be"):
        detect(picture)


def test_any_picture_gets_an_answer():
    """Noise, coarse noise, stripes: no warning, and what is found lies in the picture."""
    random = np.random.default_rng(0)
    for _ in range(6):
        for scale in (1, 2, 8, 16):
            coarse = random.integers(0, 256, (64 // scale, 64 // scale, 3), np.uint8)
            stripes = random.integers(0, 256, (64, 1, 3), np.uint8).repeat(64, axis=1)
            for picture in (coarse.repeat(scale, axis=0).repeat(scale, axis=1), stripes):
                for found in detect(picture).objects:
                    assert 0 <= found.x <= 1 and 0 <= found.y <= 1 and 0 < found.width < 2


# Regions.


def flood(mask):
    """Labels by the plainest way there is."""
    labels, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start] == 0:
            count += 1
            waiting = [start]
            while waiting:
                y, x = waiting.pop()
                if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and labels[y, x] == 0:
                    labels[y, x] = count
                    waiting += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return labels, count


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_regions_are_those_of_a_flood(share):
    random = np.random.default_rng(0)
    for shape in ((1, 7), (9, 1), (12, 17), (30, 30)):
        mask = random.random(shape) < share
        labels, count = label_regions(mask)
        expected, expected_count = flood(mask)
        assert count == expected_count
        assert len(set(zip(labels[mask].tolist(), expected[mask].tolist(), strict=True))) == count
        assert not labels[~mask].any()


def test_growing_keeps_what_is_there():
    labels = np.zeros((5, 7), np.int32)
    labels[2, 1], labels[2, 4] = 1, 2
    grown = grow(labels)
    assert (grown[1:4, 0:3] == 1).all() and (grown[1:4, 3:6] == 2).all()
    assert (grown != 0).sum() == 18
    assert (grow(grown)[2, :3] == 1).all() and (grow(grown)[2, 3:] == 2).all()
