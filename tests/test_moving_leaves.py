"""Laws of data/moving_leaves.py: a clip is a function of its generator, and what moves keeps what is on it."""

import math

import pytest
import torch
from torch import Tensor

from tokenloom.data import moving_leaves as module
from tokenloom.data.moving_leaves import moving_leaves

PLAIN = {"STILL": 1.0, "MAX_PIECES": 0, "CUT": 0.0, "LOUD": 0.0, "NOISY": 0.0}  # nothing ever happens


@pytest.fixture
def only(monkeypatch):
    """Set what may happen in clips; all else is off."""

    def set_only(**happens: object) -> None:
        for name, value in (PLAIN | happens).items():
            monkeypatch.setattr(module, name, value)

    return set_only


def drawn(count: int = 4, size: int = 32, num_frames: int = 6) -> list[Tensor]:
    return [moving_leaves(torch.Generator().manual_seed(seed), size, num_frames) for seed in range(count)]


def changes(clip: Tensor) -> list[bool]:
    """Whether each frame of a clip (3, T, S, S) differs from the one before."""
    return clip.int().diff(dim=1).ne(0).any(-1).any(-1).any(0).tolist()


def test_a_clip_is_a_function_of_its_generator_and_each_is_another():
    clips = drawn(8)
    assert all(clip.dtype == torch.uint8 and clip.shape == (3, 6, 32, 32) for clip in clips)
    assert all(torch.equal(one, other) for one, other in zip(drawn(8), clips, strict=True))
    assert len({clip.numpy().tobytes() for clip in clips}) == 8


@pytest.mark.parametrize(("size", "num_frames"), [(16, 1), (40, 9)])
def test_clips_have_any_size_and_length(size, num_frames):
    assert drawn(2, size, num_frames)[1].shape == (3, num_frames, size, size)


def test_some_stand_still_and_some_move_and_all_show_something():
    clips = drawn(30)
    moving = [any(changes(clip)) for clip in clips]
    assert 0 < sum(moving) < len(moving)
    assert sum(clip.float().std() > 1 for clip in clips) > 27, "hardly any is as loud as white throughout"


def test_where_nothing_happens_every_frame_is_the_first(only):
    only()
    assert not any(any(changes(clip)) for clip in drawn(8))


def test_pieces_that_stand_change_nothing_but_cover_the_ground(only):
    only()
    grounds = drawn(8)
    only(MAX_PIECES=5, STANDING=1.0, COMING=0.0)
    clips = drawn(8)
    assert not any(any(changes(clip)) for clip in clips)
    assert sum(not torch.equal(*pair) for pair in zip(clips, grounds, strict=True)) > 4


def test_a_piece_comes_or_goes_once(only):
    only(MAX_PIECES=1, STANDING=1.0, COMING=1.0)
    counts = [sum(changes(clip)) for clip in drawn(30)]
    assert set(counts) == {0, 1}


def test_a_cut_clip_is_cut_once(only):
    only(CUT=1.0)
    assert all(sum(changes(clip)) == 1 for clip in drawn(8))


def test_loud_clips_have_more_color(only):
    def colorful(clips: list[Tensor]) -> float:
        return sum(float((clip.amax(0).int() - clip.amin(0).int()).float().mean()) for clip in clips) / len(clips)

    only()
    quiet = colorful(drawn(8))
    only(LOUD=1.0)
    assert colorful(drawn(8)) > 1.5 * quiet


def test_noise_is_new_in_every_frame(only):
    only(NOISY=1.0)
    assert all(all(changes(clip)) for clip in drawn(4))


def test_a_passing_camera_moves_the_picture_as_a_whole(only, monkeypatch):
    """At two pixels a frame to the right, what was there is two pixels further left in the next."""
    only(STILL=0.0, TURN=0.0, ZOOM=0.0, VIEW=(1.0, 1.0))
    monkeypatch.setattr(module, "_velocity", lambda generator: torch.tensor([2 / 32, 0.0]))
    monkeypatch.setattr(module, "_turned", lambda points, angles: points.expand(len(angles), -1, -1, -1))
    for clip in drawn(4, num_frames=4):
        torch.testing.assert_close(clip[:, 1:, :, :-2].int(), clip[:, :-1, :, 2:].int(), atol=1, rtol=0)


def test_points_of_a_picture_give_it_and_shifted_ones_shift_it():
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    places = module._places(8)
    torch.testing.assert_close(module._sampled(picture, places), picture)
    shifted = module._sampled(picture, places + torch.tensor([1 / 8, 0.0]))
    torch.testing.assert_close(shifted[..., :-1], picture[..., 1:])


def test_points_are_turned_as_pictures_are():
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([0.0, math.pi / 2, math.pi])
    turned = module._sampled(picture, module._turned(module._places(8), angles))
    quarters = torch.stack([torch.rot90(picture[0], k, (1, 2)) for k in range(3)])
    torch.testing.assert_close(turned, quarters, atol=1e-5, rtol=0)
