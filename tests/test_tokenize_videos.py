"""Laws of tokenizing clips: exact, the same bytes whoever works and wherever it was killed, and back as it was."""

import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.conftest import needs_packs
from tests.test_shards import Fate, Killed
from tests.test_tokenize_files import ColorTokenizer, contents_of
from tokenloom.data.find_files import find_files
from tokenloom.data.shard_format import MANIFEST
from tokenloom.data.shard_reader import ShardReader, verify
from tokenloom.data.video import probe_video, read_video
from tokenloom.pipelines.detokenize_files import detokenize
from tokenloom.pipelines.media_encoders import decode_clip, encode_clip
from tokenloom.pipelines.tokenize_files import tokenize_videos
from tokenloom.pipelines.workers import here, processes
from tokenloom.tokenizers.frames import FramesTokenizer
from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

EXACT = FramesTokenizer(ColorTokenizer())  # an id for every pixel of every frame: nothing is lost


def pixels(seed: int, frames: int, height: int = 6, width: int = 10) -> np.ndarray:
    """Uint8 (T, H, W, 3), flat colors of 2 x 2 pixels that change with every frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, height // 2, width // 2, 3), dtype=np.uint8)
    return coarse.repeat(2, axis=1).repeat(2, axis=2)


def clip(seed: int, frames: int, fps: int = 10, codec: str = "ffv1", kind: str = "matroska") -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format=kind, options={"fflags": "bitexact"}) as container:  # Matroska draws a number
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = 10, 6
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for frame in pixels(seed, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight clips of seven contents, one of them broken."""
    root = tmp_path_factory.mktemp("clips")
    (root / "deep").mkdir()
    for number in range(6):
        (root / f"{number}.mkv").write_bytes(clip(number, frames=3 + 9 * number))
    shutil.copy(root / "3.mkv", root / "deep" / "again.mkv")
    (root / "broken.mkv").write_bytes(clip(7, frames=5)[:100])
    return root


def videos(paths, out, tokenizer=EXACT, **options):
    return tokenize_videos(find_files(paths, "video"), out, tokenizer, show_progress=False, **options)


def test_clips_become_the_ids_of_their_frames(folder, tmp_path, capsys):
    summary = videos([folder], tmp_path)
    assert (summary.tokenized, summary.files, list(summary.failed)) == (6, 7, ["broken.mkv"])
    assert len([line for line in capsys.readouterr().err.splitlines() if "broken.mkv" in line]) == 1
    reader = ShardReader(tmp_path / "video")
    assert reader.files["deep/again.mkv"] == reader.files["3.mkv"]
    for number in range(6):
        content = reader.files[f"{number}.mkv"]
        assert reader.media(content) == {"frames": 3 + 9 * number, "size": [6, 10], "fps": 10.0}
        shown = EXACT.decode(reader.ids(content)[None])[0].permute(1, 2, 3, 0)
        np.testing.assert_array_equal(((shown + 1) * 127.5).round().byte(), pixels(number, 3 + 9 * number))
    assert verify(tmp_path) == []


def test_the_bytes_are_the_same_for_any_number_of_workers(folder, tmp_path):
    tokenizer = VideoTokenizer(VideoTokenizerConfig(widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    for name, crew in {"here": here, "1": processes(1), "2": processes(2), "3": processes(3)}.items():
        videos([folder], tmp_path / name, tokenizer, crew=crew)
    expected = contents_of(tmp_path / "here")
    assert len(expected) == 2
    assert all(contents_of(tmp_path / name) == expected for name in "123")


def test_the_rate_and_the_square_are_part_of_what_the_ids_are(folder, tmp_path):
    videos([folder / "2.mkv"], tmp_path, fps=5, size=4)
    reader = ShardReader(tmp_path / "video")
    assert reader.manifest["preprocessing"] == {
        "background": [255, 255, 255],
        "square": 4,
        "filter": "bicubic",
        "fps": 5,
    }
    (content,) = reader.contents
    assert reader.media(content) == {"frames": 11, "size": [4, 4], "fps": 5.0} and reader.shape(content) == (11, 4, 4)
    for change in ({"fps": 6, "size": 4}, {"fps": 5, "size": None}, {"fps": 5, "size": 4, "background": (0, 0, 0)}):
        with pytest.raises(ValueError, match="preprocessing"):
            videos([folder / "2.mkv"], tmp_path, **change)


def test_one_corrupt_clip_among_a_hundred_is_skipped(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for number in range(100):
        data = clip(number, frames=2)
        (tmp_path / "in" / f"{number:02}.mkv").write_bytes(data[: len(data) // 4] if number == 42 else data)
    summary = videos([tmp_path / "in"], tmp_path / "out", crew=processes(2))
    assert (summary.files, list(summary.failed)) == (99, ["42.mkv"])
    assert capsys.readouterr().err.count("\n") == 1
    assert len(list((tmp_path / "out" / "video").glob("shard-*"))) == 7  # 16 contents each


def test_a_clip_that_changes_while_it_is_read_is_not_stored_under_its_old_sum(tmp_path):
    path = tmp_path / "in.mkv"
    path.write_bytes(clip(0, frames=40))

    class Meddler(ColorTokenizer):
        def encode(self, images):
            path.write_bytes(clip(1, frames=3))
            return super().encode(images)

    summary = videos([path], tmp_path / "out", FramesTokenizer(Meddler()))
    assert (summary.files, summary.failed) == (0, {"in.mkv": "changed while it was being read; run again"})


@pytest.mark.parametrize("length", [1, 3, 8, 17])
def test_a_clip_in_any_blocks_goes_there_and_back(length):
    frames = torch.from_numpy(pixels(5, 17)).permute(3, 0, 1, 2)
    ids, size = encode_clip(iter(frames.split(length, dim=1)), EXACT)
    assert size == (17, 6, 10) and ids.shape == (17, 6, 10)
    blocks = list(decode_clip(torch.from_numpy(ids).long().split(5), size, EXACT))
    assert torch.equal(torch.cat(blocks, dim=1), frames) and blocks[0].dtype == torch.uint8


def test_what_was_padded_is_cropped_on_the_way_back():
    tokenizer = VideoTokenizer(VideoTokenizerConfig(widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    frames = torch.from_numpy(pixels(5, 7)).permute(3, 0, 1, 2)
    ids, size = encode_clip(iter([frames]), tokenizer)
    assert ids.shape == tokenizer.grid((7, 6, 10)) == (3, 1, 2)
    back = torch.cat(list(decode_clip(torch.from_numpy(ids).long().split(1), size, tokenizer)), dim=1)
    assert back.shape == (3, 7, 6, 10)


def test_mp4_to_tokens_to_mp4_keeps_length_rate_and_size(tmp_path):
    (tmp_path / "in.mp4").write_bytes(clip(0, frames=23, fps=Fraction(30000, 1001), codec="libx264", kind="mp4"))
    shutil.copy(tmp_path / "in.mp4", tmp_path / "copy.mp4")
    videos([tmp_path / "in.mp4", tmp_path / "copy.mp4"], tmp_path / "out")
    summary = detokenize(tmp_path / "out" / "video", tmp_path / "back", EXACT, show_progress=False)
    assert (summary.files, summary.failed) == (2, {})
    assert sorted(contents_of(tmp_path / "back")) == ["copy.mp4", "in.mp4"]
    assert probe_video(tmp_path / "back" / "in.mp4") == probe_video(tmp_path / "in.mp4")
    before, after = (torch.cat(list(read_video(tmp_path / where / "in.mp4")), dim=1).float() for where in (".", "back"))
    assert before.shape == after.shape == (3, 23, 6, 10)
    assert (before - after).abs().mean() < 20  # of 255: what H.264 takes from noise; 85 where nothing is alike


def test_a_size_or_rate_that_the_ids_cannot_have_is_refused(folder, tmp_path):
    videos([folder / "0.mkv"], tmp_path)
    from tests.test_tokenize_files import stranger

    whole = {"frames": 3, "size": [6, 10], "fps": 10.0}
    for wrong in (
        {"frames": None},
        {"frames": 4},
        {"frames": 10**9},
        {"size": [6]},
        {"size": "6"},
        {"fps": 0},
        {"fps": "10"},
        {"fps": 1e400},
    ):
        stranger(
            tmp_path / "video", lambda m, wrong=wrong: next(iter(m["contents"].values()))["media"].update(whole | wrong)
        )
        summary = detokenize(tmp_path / "video", tmp_path / "back", EXACT, show_progress=False)
        assert list(summary.failed) == ["0.mkv"], wrong
    assert not list((tmp_path / "back").glob("*"))


# ---------------------------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize(("crew", "every"), [(here, 1), (processes(2), 9)], ids=["one worker", "two workers"])
def test_a_fault_before_or_after_any_write_or_rename_changes_no_byte(folder, tmp_path, monkeypatch, crew, every):
    """Processes write nothing, so with two of them a fault at every ninth step will do."""
    monkeypatch.setattr("tokenloom.pipelines.tokenize_files.SHARD_CLIPS", 1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    few = [folder / name for name in ("0.mkv", "1.mkv", "broken.mkv")]
    videos(few, tmp_path / "reference")
    expected = contents_of(tmp_path / "reference")
    assert len(expected) == 2 + 1
    end, killed = 0, True
    while killed:
        out = tmp_path / f"out{end}"
        with pytest.MonkeyPatch.context() as patch:
            Fate(end, patch)
            try:
                videos(few, out, crew=crew)
            except Killed:
                end += every
            else:
                killed = False
        videos(few, out)
        assert contents_of(out) == expected, f"killed at step {end}"
    assert end >= 20


KILLED = """
import sys, time
from pathlib import Path
from tests.test_tokenize_files import ColorTokenizer
from tests.test_tokenize_videos import FramesTokenizer, videos
from tokenloom.pipelines import tokenize_files
from tokenloom.pipelines.workers import here, processes

folder, out, workers, done = sys.argv[1:]

class Slow(ColorTokenizer):
    def encode(self, images):
        while len(list(Path(out, "video").glob("shard-*"))) >= int(done):
            time.sleep(0.01)  # until the kill comes
        return super().encode(images)

tokenize_files.SHARD_CLIPS = 2
videos([folder], out, FramesTokenizer(Slow()), crew=processes(2) if workers == "2" else here)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_three_real_kills_change_no_byte(folder, tmp_path, monkeypatch, workers):
    monkeypatch.setattr("tokenloom.pipelines.tokenize_files.SHARD_CLIPS", 2)
    videos([folder], tmp_path / "reference")
    out = tmp_path / "out"
    for done in (0, 1, 2):  # shards that are there when the kill comes
        command = [sys.executable, "-c", KILLED, str(folder), str(out), workers, str(done)]
        with subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE) as process:
            while not (out / "video").is_dir() or len(list((out / "video").glob("shard-*"))) < done:
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.005)
            time.sleep(0.1)
            process.kill()
        assert not (out / "video" / MANIFEST).exists()
    summary = videos([folder], out)
    assert summary.reused >= 4
    assert contents_of(out) == contents_of(tmp_path / "reference")


@needs_packs
def test_real_clips_of_every_container_go_there_and_back(packs, tmp_path):
    found = [path for path in sorted((packs / "reallife" / "video").iterdir()) if path.stat().st_size < 150_000]
    summary = videos(found, tmp_path / "out", fps=5, size=32)
    assert summary.files > 5
    back = detokenize(tmp_path / "out" / "video", tmp_path / "back", EXACT, show_progress=False)
    assert (back.files, back.failed) == (summary.files, {})
