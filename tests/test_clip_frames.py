"""Laws of data/clip_frames.py: a frame is what a player shows at that time, however one comes to it."""

import io
import pickle
import tarfile
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.conftest import needs_packs
from tokenloom.data import clip_frames
from tokenloom.data.clip_frames import ClipFrames, clip_length, pictures_at
from tokenloom.data.folders import NothingFoundError
from tokenloom.data.media import MediaError
from tokenloom.pipelines.picture_sources import FileSource, open_files, whole

RATE = 10  # frames per second


def clip(num_frames=30, size=(32, 24), codec="ffv1", pixels="bgr0", container="matroska", shades=5) -> bytes:
    """A clip whose frame n is gray of 5 n + 20: lossless where `codec` is."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.gop_size = 12
        for number in range(num_frames):
            gray = np.full((size[1], size[0], 3), 20 + shades * number % 230, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format=pixels)))
        out.mux(stream.encode())
    return file.getvalue()


def shade(picture) -> int:
    values = np.asarray(picture)
    assert values.min() == values.max()
    return int(values[0, 0, 0])


def write_tar(path, files: dict[str, bytes]):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_a_frame_stays_on_the_screen_until_the_next(tmp_path):
    times = [Fraction(n, 100) for n in range(0, 300, 7)]
    shown = [shade(picture) for picture in pictures_at(clip(), times, "clip")]
    assert shown == [20 + 5 * int(time * RATE) for time in times]


@pytest.mark.parametrize("stride", [0.1, 0.3, 0.5])
def test_a_time_that_is_not_exact_in_binary_finds_its_frame(tmp_path, stride):
    (tmp_path / "a.mkv").write_bytes(clip())
    frames = ClipFrames(tmp_path, stride)
    assert [shade(frame.image) for frame in frames] == [20 + 5 * round(n * stride * RATE) for n in range(len(frames))]
    assert len(frames) == round(3 / stride)


@pytest.mark.parametrize(("codec", "container"), [("mpeg4", "mp4"), ("mpeg4", "avi"), ("mpeg2video", "mpeg")])
def test_seeking_and_decoding_from_the_start_give_the_same_pixels(codec, container):
    data = clip(60, codec=codec, pixels="yuv420p", container=container)
    times = [Fraction(n, 5) for n in range(25)]
    pictures = pictures_at(data, times, "clip")
    for first in (1, 7, 20, 24):
        late = pictures_at(data, times[first:], "clip")
        assert [p.tobytes() for p in late] == [p.tobytes() for p in pictures[first:]]


def test_every_clip_knows_its_frames_and_they_are_as_large_as_asked(tmp_path):
    (tmp_path / "a.mkv").write_bytes(clip(30))
    (tmp_path / "b.mkv").write_bytes(clip(7))
    frames = ClipFrames(tmp_path, 0.1, max_side=16)
    assert frames.clips == [range(30), range(30, 37)]
    assert frames[31].image.size == (16, 12) and frames[31].key.startswith("b.mkv@")


def test_folders_and_tars_give_the_same_frames_in_any_order(tmp_path, monkeypatch):
    files = {"a.mkv": clip(12), "a.txt": b"getting lighter\n", "a.json": b'{"rate": 10}', "b.mkv": clip(7, shades=9)}
    tar = ClipFrames(write_tar(tmp_path / "clips.tar", files))
    (tmp_path / "folder").mkdir()
    for name, data in files.items():
        (tmp_path / "folder" / name).write_bytes(data)
    folder = ClipFrames(tmp_path / "folder")
    monkeypatch.setattr(clip_frames, "CACHE_BYTES", 1)  # nothing stays
    monkeypatch.setattr(clip_frames, "SPAN", 1)
    order = [4, 0, 3, 1, 2, -1, 0]
    assert [tar[i].image.tobytes() for i in order] == [folder[i].image.tobytes() for i in order]
    assert [tar[i].key for i in range(len(tar))] == ["a@0s", "a@0.5s", "a@1s", "b@0s", "b@0.5s"]
    assert [tar.caption(i) for i in range(5)] == ["getting lighter"] * 3 + [None] * 2
    assert tar[1].extra == {"rate": 10, "time": 0.5}
    with pytest.raises(IndexError):
        tar[5]
    assert pickle.loads(pickle.dumps(folder))[4].image.tobytes() == tar[4].image.tobytes()


def test_a_span_is_decoded_once(tmp_path, monkeypatch):
    (tmp_path / "a.mkv").write_bytes(clip())
    frames, calls = ClipFrames(tmp_path), []
    monkeypatch.setattr(clip_frames, "pictures_at", lambda *a: calls.append(a) or pictures_at(*a))
    for index in (5, 0, 3):
        frames[index]
    assert len(calls) == 1


def test_large_frames_are_kept_small():
    (picture,) = pictures_at(clip(1, size=(960, 64)), [Fraction(0)], "clip")
    assert picture.size == (480, 32)


def test_a_broken_clip_is_named_counted_and_costs_only_itself(tmp_path):
    whole_clip = clip(30, codec="mpeg4", pixels="yuv420p", container="mp4")
    (tmp_path / "good.mp4").write_bytes(whole_clip)
    (tmp_path / "cut.mp4").write_bytes(whole_clip[: len(whole_clip) // 2])  # its index, at the end, is gone
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:3,\nfile:{tmp_path}/good.mp4\n#EXT-X-ENDLIST\n")
    frames = ClipFrames(tmp_path)
    assert len(frames) == 6
    assert sorted(error.name.rpartition("/")[2] for error in frames.failed) == ["cut.mp4", "empty.mp4", "playlist.mp4"]


def test_a_clip_that_breaks_later_is_an_error_on_access_each_time(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(clip(40))
    frames = ClipFrames(tmp_path)
    fresh = pickle.dumps(frames)
    path.write_bytes(clip(16))  # shorter than its header was
    assert shade(frames[3].image) == 20 + 5 * 15
    path.unlink()
    other = pickle.loads(fresh)
    for _ in range(2):
        with pytest.raises(MediaError, match=r"a\.mkv: No such file"):
            other[3]
    with pytest.raises(MediaError, match=r"a\.mkv: no picture at 3 s"):
        frames[6]


def test_too_many_pixels_or_frames_are_refused_before_decoding(tmp_path, monkeypatch):
    (tmp_path / "a.mkv").write_bytes(clip())
    with pytest.raises(ValueError, match="take a larger stride"):
        ClipFrames(tmp_path, stride=1e-5)
    monkeypatch.setattr("tokenloom.data.clip.MAX_CLIP_PIXELS", 32 * 24 - 1)
    with pytest.raises(MediaError, match="clip: "):
        clip_length(clip(), "clip")


def test_a_stride_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="stride must be at least 1e-06 seconds"):
        ClipFrames(tmp_path, stride=0)


def test_a_folder_of_clips_is_a_source_of_training_pictures(tmp_path):
    with pytest.raises(ValueError, match="no pictures found .* nor clips"):
        open_files(tmp_path)
    (tmp_path / "a.mkv").write_bytes(clip())
    (tmp_path / "a.txt").write_text("getting lighter")
    source = FileSource(open_files(tmp_path), 16, 0, whole)
    pictures, captions = source(3, 8)
    assert pictures.shape == (8, 3, 16, 16) and captions == ["getting lighter"] * 8
    assert {int(p[0, 0, 0]) for p in pictures} <= {20 + 5 * n for n in range(0, 30, 5)}
    with pytest.raises(NothingFoundError):
        ClipFrames(write_tar(tmp_path / "empty.tar", {"a.txt": b""}))


@needs_packs
def test_the_packs_give_upright_pictures_of_every_kind_of_clip(packs):
    failed = ClipFrames(packs / "reallife" / "video").failed
    assert [error.name.rpartition("/")[2] for error in failed] == ["elf_audio_only.mp4"]
    frames = ClipFrames(packs / "video" / "clips_real_train.tar")
    assert len(frames) > 300 and not frames.failed
    assert frames[0].caption and max(frames[0].image.size) <= 480
    turned = pictures_at((packs / "reallife/video/rotated_90.mov").read_bytes(), [Fraction(0)], "turned")[0]
    assert turned.width < turned.height
