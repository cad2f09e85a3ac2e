"""Laws of pipelines/clip_sources.py: pieces of clips whose frames follow each other, from (seed, number) alone."""

from itertools import islice

import pytest
import torch

from tests.conftest import needs_packs
from tests.test_clip_frames import RATE, clip, write_tar
from tokenloom.data.clip_frames import ClipFrames
from tokenloom.data.clip_parser import parse_clip
from tokenloom.data.media import MediaError
from tokenloom.pipelines.clip_sources import ClipFileSource, open_clip_source
from tokenloom.pipelines.picture_sources import HELD_OUT, VALIDATION_NUMBER


@pytest.fixture
def folder(tmp_path):
    """Two clips that get lighter by 5 and by 7 a frame, one that is too short, one that is broken."""
    for name, data in {"a": clip(30), "b": clip(20, shades=7), "short": clip(4), "broken": b"no clip"}.items():
        (tmp_path / f"{name}.mkv").write_bytes(data)
        (tmp_path / f"{name}.txt").write_text(f"clip {name}")
    return tmp_path


def source(folder, num_frames=6, size=16, seed=0) -> ClipFileSource:
    return ClipFileSource(ClipFrames(folder, 1 / RATE), num_frames, size, seed)


def test_frames_follow_each_other_at_the_rate_and_captions_are_the_clips(folder):
    clips, captions = source(folder)(0, 12)
    assert clips.dtype == torch.uint8 and clips.shape == (12, 3, 6, 16, 16)
    assert set(captions) == {"clip a", "clip b"}
    for pixels, caption in zip(clips.int(), captions, strict=True):
        step = {"clip a": 5, "clip b": 7}[caption]
        assert (pixels.diff(dim=1) == step).all() and ((pixels - 20) % step == 0).all()
    assert len(clips[:, 0, 0, 0, 0].unique()) > 6  # beginning at many moments


def test_half_the_rate_takes_every_other_frame(folder):
    clips, _ = open_clip_source([str(folder)], 3, 16, RATE / 2, 0)(0, 4)
    assert set(clips[:, 0, :, 0, 0].int().diff(dim=1).flatten().tolist()) <= {10, 14}


def test_a_batch_depends_on_its_number_alone(folder):
    straight, jumping = source(folder), source(folder)
    batches = [straight(number, 3)[0] for number in range(4)]
    assert all(torch.equal(jumping(number, 3)[0], batches[number]) for number in (3, 1, 2, 0))
    assert not torch.equal(source(folder, seed=1)(0, 3)[0], batches[0])


def test_leaves_are_new_in_every_batch_and_mix_with_clips_of_files(folder):
    drawn = open_clip_source(["leaves"], 6, 16, RATE, 0)
    clips, captions = drawn(3, 4)
    assert clips.dtype == torch.uint8 and clips.shape == (4, 3, 6, 16, 16) and captions == [""] * 4
    assert torch.equal(open_clip_source(["leaves"], 6, 16, RATE, 0)(3, 4)[0], clips)
    assert len({clip.numpy().tobytes() for number in range(3) for clip in drawn(number, 4)[0]}) == 12
    assert list(drawn.captions()) == []
    mixed, captions = open_clip_source([str(folder), "leaves:3"], 6, 16, RATE, 0)(0, 8)
    assert mixed.shape == (8, 3, 6, 16, 16) and [bool(caption) for caption in captions] == [True] * 2 + [False] * 6


def test_every_frame_of_a_clip_is_cut_to_the_same_square(tmp_path):
    """Of a clip that stands still every frame is the same, wherever the square lies."""
    (tmp_path / "still.mkv").write_bytes(clip(10, shades=0))
    assert (source(tmp_path)(0, 3)[0] == 20).all()


def test_clips_for_validation_are_never_trained_on(tmp_path):
    path = write_tar(tmp_path / "clips.tar", {f"{n:02d}.mkv": clip(2, shades=n) for n in range(HELD_OUT)})
    held_apart = source(path, num_frames=2)
    assert (held_apart(VALIDATION_NUMBER, 8)[0].int().diff(dim=2) == HELD_OUT - 1).all()
    assert (held_apart(0, 60)[0].int().diff(dim=2) != HELD_OUT - 1).all()


def test_a_clip_that_breaks_off_is_replaced_and_told_once(folder, caplog):
    class BreaksOff(ClipFrames):
        def __getitem__(self, index):
            if index in self.clips[1][10:]:
                raise MediaError("b.mkv", "the clip breaks off")
            return super().__getitem__(index)

    drawn = ClipFileSource(BreaksOff(folder, 1 / RATE), 6, 16, 0)
    assert set(drawn(0, 30)[1]) == {"clip a", "clip b"}
    assert [record.message for record in caplog.records] == ["skipped b.mkv: the clip breaks off"]
    assert drawn.draw.bad == {1: "b.mkv: the clip breaks off"}


def test_clips_that_are_all_too_short_are_an_error(folder):
    with pytest.raises(ValueError, match="at least 31 frames, the longest has 30; raise the rate"):
        source(folder, num_frames=31)


def test_captions_stand_for_all_clips(folder):
    assert list(open_clip_source([f"{folder}:2"], 6, 16, RATE, 0).captions()) == ["clip a", "clip b"]


@needs_packs
def test_real_clips_move(packs):
    clips, captions = open_clip_source([str(packs / "video" / "clips_real_train.tar")], 9, 32, 12, 0)(0, 4)
    assert all(captions) and (clips.int().diff(dim=2).abs().float().mean((1, 2, 3, 4)) > 0).all()


def test_scenes_move_and_a_batch_depends_on_its_number_alone():
    scenes = open_clip_source(["scenes:2"], 17, 32, RATE, 3)
    clips, captions = scenes(5, 4)
    assert clips.dtype == torch.uint8 and clips.shape == (4, 3, 17, 32, 32)
    assert all((clip[:, :1] != clip).any() for clip in clips)
    scenes(6, 4)
    again, same = scenes(5, 4)
    assert torch.equal(again, clips) and same == captions
    assert all(parse_clip(caption) for caption in islice(scenes.captions(), 50))
    with pytest.raises(ValueError, match="clips of scenes have 17 frames, got 9"):
        open_clip_source(["scenes"], 9, 32, RATE, 3)
