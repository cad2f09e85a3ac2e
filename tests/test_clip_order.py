"""Laws of pipelines/clip_order.py: every frame is drawn once, the ends first, and looks at what is nearest."""

import pytest
import torch

from tokenloom.pipelines.clip_order import (
    MAX_CONTEXT,
    NUM_KNOWN,
    drawing_order,
    known_shares,
    nearest,
    training_frames,
)

T = 17


@pytest.mark.parametrize("known", [[], [0], [0, 16], [3], list(range(5)), list(range(16)), [16], [2, 9, 10]], ids=str)
def test_every_frame_that_is_not_known_is_drawn_once(known):
    assert sorted([*known, *drawing_order(T, known)]) == list(range(T))


def test_the_ends_come_first_and_then_the_middle_of_the_widest_gap():
    assert drawing_order(T)[:9] == [0, 16, 8, 4, 12, 2, 6, 10, 14]
    assert drawing_order(T, [0, 16]) == drawing_order(T)[2:]
    assert drawing_order(T, range(5))[:4] == [16, 10, 7, 13]
    assert drawing_order(1) == [0] and drawing_order(2) == [0, 1]


def test_a_frame_looks_at_the_nearest_in_the_order_of_time():
    assert nearest(8, [16, 0]) == [0, 16]
    assert nearest(2, [0, 16, 8, 4, 12]) == [0, 4, 8, 12]
    assert nearest(6, [4, 8, 5], 2) == [4, 5]
    assert nearest(0, []) == []


def test_examples_of_a_batch_look_at_equally_many_frames_and_never_at_the_one_they_learn():
    counts = set()
    for seed in range(60):
        frames = training_frames(T, 5, torch.Generator().manual_seed(seed))
        counts.add(frames.shape[1] - 1)
        assert frames.shape[0] == 5 and 0 <= int(frames.min()) and int(frames.max()) < T
        for *known, frame in frames.tolist():
            assert known == sorted(set(known)) and frame not in known
    assert counts == set(range(MAX_CONTEXT + 1))


def test_most_examples_are_what_drawing_a_clip_meets():
    known: list[int] = []
    met = set()
    for frame in drawing_order(T):
        met.add((*nearest(frame, known), frame))
        known.append(frame)
    rows = [
        tuple(row) for seed in range(80) for row in training_frames(T, 8, torch.Generator().manual_seed(seed)).tolist()
    ]
    assert met <= set(rows)
    assert sum(row in met for row in rows) / len(rows) > 0.7


def test_the_stated_shares_are_shares_and_their_mean_is_what_the_plan_counts():
    assert sum(NUM_KNOWN) == sum(known_shares(2)) == pytest.approx(1)
    mean_known = sum(count * share for count, share in enumerate(known_shares(T)))
    drawn = [training_frames(T, 1, torch.Generator().manual_seed(seed)).shape[1] - 1 for seed in range(2000)]
    assert sum(drawn) / len(drawn) == pytest.approx(mean_known, abs=0.1)


def test_short_clips_have_fewer_frames_to_look_at():
    assert {training_frames(2, 3, torch.Generator().manual_seed(seed)).shape[1] for seed in range(40)} == {1, 2}
