"""Laws of data/write_video.py: what is written is read back, at its length, rate and size; all of it or nothing."""

import math
import os
import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from einops import rearrange

from tokenloom.data.media import from_uint8
from tokenloom.data.video import probe_video, read_video
from tokenloom.data.write_video import strip, write_video

ROOT = Path(__file__).resolve().parent.parent


def clip(num_frames=17, height=32, width=48) -> torch.Tensor:
    """A red square that crosses a smooth ground: (3, T, H, W)."""
    rows, columns = torch.meshgrid(torch.linspace(0, 60, height), torch.linspace(0, 60, width), indexing="ij")
    ground = torch.stack([rows + 60, columns + 90, rows + columns + 40])
    frames = ground.repeat(num_frames, 1, 1, 1)
    for number in range(num_frames):
        left = number * (width - 12) // num_frames
        frames[number, :, 8:20, left : left + 12] = torch.tensor([215.0, 38, 38]).view(3, 1, 1)
    return rearrange(frames, "T C H W -> C T H W").to(torch.uint8)


def psnr(one, other) -> float:
    return float(-10 * torch.log10(((one.float() - other.float()) ** 2).mean() / 255**2))


@pytest.mark.parametrize("fps", [8, 29.97, Fraction(30000, 1001), 60, 2.5])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_what_is_written_is_read_back_at_its_length_rate_and_size(tmp_path, fps, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".gif" and fps > 50:
        with pytest.raises(ValueError, match="for gif at most 50"):
            write_video(path, clip(), fps)
        return
    write_video(path, clip(), fps)
    for rate in (None, fps):
        frames = torch.cat(list(read_video(path, fps=rate)), dim=1)
        assert frames.shape == clip().shape
        assert psnr(frames, clip()) > (40 if suffix == ".gif" else 28)  # mp4 has half the colors, and they run
    info = probe_video(path)
    assert abs(float(info.seconds) - 17 / fps) < 0.02 and info.num_frames == 17
    if suffix == ".mp4":
        assert abs(info.fps - Fraction(fps)) < 0.01


def test_a_gif_of_few_colors_is_exact(tmp_path):
    frames = torch.full((3, 9, 20, 30), 255, dtype=torch.uint8)
    for number in range(9):
        frames[:, number, 3:9, number : number + 6] = torch.tensor([45, 80, 20 * number]).view(3, 1, 1)
    write_video(tmp_path / "a.gif", frames, 8)
    assert torch.equal(torch.cat(list(read_video(tmp_path / "a.gif")), dim=1), frames)


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (17, 64)])
def test_an_odd_side_grows_by_repeating_its_edge(tmp_path, size):
    frames = torch.randint(60, 200, (3, 1, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    frames = torch.nn.functional.avg_pool2d(frames.float(), 5, 1, 2, count_include_pad=False).to(torch.uint8)
    write_video(tmp_path / "a.mp4", frames.repeat(1, 3, 1, 1), 8)
    (found,) = read_video(tmp_path / "a.mp4")
    height, width = size
    assert tuple(found.shape) == (3, 3, height + height % 2, width + width % 2)
    assert psnr(found[:, :1, :height, :width], frames) > 28
    assert (found[:, :, -1].int() - found[:, :, height - 1].int()).abs().max() < 12
    write_video(tmp_path / "a.gif", frames, 8)
    assert next(read_video(tmp_path / "a.gif")).shape == frames.shape


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_blocks_floats_and_whole_clips_give_the_same_bytes(tmp_path, suffix):
    whole = clip()
    ways = [whole, iter(whole.split(1, dim=1)), whole.split(5, dim=1), from_uint8(whole)]
    written = []
    for number, frames in enumerate(ways):
        write_video(tmp_path / "new" / f"{number}{suffix}", frames, 8)
        written.append((tmp_path / "new" / f"{number}{suffix}").read_bytes())
    assert len(set(written)) == 1


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_what_memory_held(tmp_path):
    """x264 reads memory that nobody wrote, for tiny frames and with its default settings."""
    code = (
        "import sys\n"
        "from tests.test_write_video import clip\n"
        "from tokenloom.data.write_video import write_video\n"
        "write_video(sys.argv[1], clip(), 8)\n"
    )
    for fill in ("1", "200"):  # of fresh memory, by the C library
        command = [sys.executable, "-c", code, str(tmp_path / f"{fill}.mp4")]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "MALLOC_PERTURB_": fill})
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "200.mp4").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_blocks_are_let_go_once_they_are_written(tmp_path, suffix):
    """So a video of any length passes in flat memory."""

    def blocks():
        given = []
        for _ in range(20):
            block = clip(2)
            given.append(weakref.ref(block))
            yield block
            del block
            assert sum(reference() is not None for reference in given) <= 2

    write_video(tmp_path / f"a{suffix}", blocks(), 8)
    assert probe_video(tmp_path / f"a{suffix}").num_frames == 40


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_video(path, clip(3), 8)
    before = path.read_bytes()

    def broken():
        yield clip(9)
        raise RuntimeError("the model has gone")

    with pytest.raises(RuntimeError, match="the model has gone"):
        write_video(path, broken(), 8)
    with pytest.raises(ValueError, match=r"one size.*after \(32, 48\)"):
        write_video(path, [clip(3), clip(3, width=50)], 8)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_what_cannot_be_written_is_told(tmp_path):
    for path, frames, fps, message in (
        ("a.avi", clip(), 8, "written as .mp4 or .gif, got 'a.avi'"),
        ("a.mp4", clip(), 0, "fps must be more than 0"),
        ("a.mp4", clip(), math.inf, "fps must be more than 0"),
        ("a.mp4", clip(), math.nan, "fps must be more than 0"),
        ("a.mp4", [], 8, "at least one frame"),
        ("a.mp4", clip()[:, :0], 8, "at least one frame"),
        ("a.mp4", clip().permute(1, 0, 2, 3), 8, "must be .3, T, H, W."),
        ("a.mp4", clip().long(), 8, "uint8 or float"),
        ("a.mp4", clip()[:, :, :0], 8, "must be .3, T, H, W."),
    ):
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / path, frames, fps)
    assert not os.listdir(tmp_path)


def test_players_need_not_guess_the_colors(tmp_path):
    write_video(tmp_path / "a.mp4", clip(2), 8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.colorspace, stream.color_range) == (1, 1)  # BT.709, limited


def test_a_strip_shows_each_frame_once():
    frames = clip(5)
    picture = np.asarray(strip(frames))
    assert picture.shape == (32 + 4, 5 * 50 + 2, 3)
    for number in range(5):
        cell = picture[2:34, 2 + 50 * number : 50 + 50 * number]
        assert np.array_equal(cell, rearrange(frames[:, number], "C H W -> H W C"))
    assert np.array_equal(picture, np.asarray(strip(from_uint8(frames))))
    assert strip(frames, columns=3).size == (3 * 50 + 2, 2 * 34 + 2)
    with pytest.raises(ValueError, match="must be"):
        strip(frames[0])
