"""Laws of reading video: a frame is where its time says, upright, the same however one asks; a bad file is one line."""

import io
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import needs_packs
from tokenloom.data import video
from tokenloom.data.media import MediaError
from tokenloom.data.open_video import open_video
from tokenloom.data.video import probe_video, read_video

RED, GREEN, BLUE = (215, 38, 38), (40, 155, 70), (45, 80, 220)


def encoded(
    pictures,
    times=None,
    *,
    codec="ffv1",
    pixels="bgr0",
    container="matroska",
    base=Fraction(1, 1000),
    rate=Fraction(10),
    options=None,
    prepare=lambda stream: None,
) -> bytes:
    """A video of RGB arrays (H, W, 3), the n-th shown at `times`[n] (in `base`); `rate` a second if none are given."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.gop_size = 12
        stream.time_base = stream.codec_context.time_base = base
        prepare(stream)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts = times[number] if times else int(number / rate / base)
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def gray(shade: int, size=(24, 32)) -> np.ndarray:
    return np.full((*size, 3), shade, np.uint8)


def shades(source, **options) -> list[int]:
    """The shade of each frame of a video that has one per frame."""
    frames = torch.cat(list(read_video(source, **options)), dim=1)
    assert frames.dtype == torch.uint8 and frames.ndim == 4
    values = frames.flatten(2)
    assert int((values.amax(2) - values.amin(2)).max()) <= 2
    return values[0, :, 0].tolist()


def close(frame: torch.Tensor, color, tolerance=4) -> bool:
    """Whether pixels (3, ...) are of one color, up to rounding and the chroma of a video."""
    return bool((frame.flatten(1).float().mean(1) - torch.tensor(color).float()).abs().max() <= tolerance)


UNEVEN = [0, 40, 50, 300, 310, 900, 1000, 1700]  # milliseconds


@pytest.mark.parametrize("fps", [1, 8, 10, 29.97, Fraction(100, 3)])
def test_resampling_shows_what_is_on_the_screen_at_that_time(fps):
    """A clip whose shade tells when a frame came: the k-th frame must be the last that came by k / fps."""
    clip = encoded([gray(time // 10 + 20) for time in UNEVEN], UNEVEN)
    found = shades(clip, fps=fps)
    step = 1000 / Fraction(fps).limit_denominator(1000)
    expected = [max(t for t in UNEVEN if t <= k * step + 1) // 10 + 20 for k in range(len(found))]
    assert found == expected
    end = 1700 + 100  # the last frame stays for one beat of the stated rate
    assert len(found) == -int(-(end - 1) // step)


def test_frames_of_the_file_are_kept_whatever_their_times():
    assert shades(encoded([gray(time // 10 + 20) for time in UNEVEN], UNEVEN)) == [time // 10 + 20 for time in UNEVEN]


@pytest.mark.parametrize("rate", [8, 24, 25, 30, 60, Fraction(30000, 1001)])
def test_a_steady_clip_at_its_own_rate_is_itself_although_matroska_rounds_times(rate):
    times = [round(1000 * number / rate) + 33 for number in range(40)]  # it need not begin at 0
    clip = encoded([gray(20 + 5 * n) for n in range(40)], times, rate=Fraction(rate))
    assert shades(clip, fps=rate) == [20 + 5 * n for n in range(40)]


def test_twice_the_rate_shows_each_frame_twice_and_half_the_rate_every_second():
    clip = encoded([gray(20 + 5 * n) for n in range(12)])
    assert shades(clip, fps=20) == [20 + 5 * (n // 2) for n in range(24)]
    assert shades(clip, fps=5) == [20 + 10 * n for n in range(6)]


def with_b_frames(stream) -> None:
    stream.max_b_frames = 2


@pytest.mark.parametrize(
    ("codec", "container"),
    [("mpeg4", "mp4"), ("mpeg4", "avi"), ("libx264", "avi"), ("libx264", "matroska"), ("mpeg2video", "mpeg")],
)
@pytest.mark.parametrize("fps", [None, 8])
def test_a_part_of_a_clip_is_that_part_of_the_whole(codec, container, fps):
    rate = 25 if container == "mpeg" else 10
    base = Fraction(1, 1000 if container == "matroska" else rate)
    options = {"base": base, "rate": Fraction(rate), "prepare": with_b_frames}
    pictures = [gray(16 + 3 * n) for n in range(70)]
    clip = encoded(pictures, codec=codec, pixels="yuv420p", container=container, **options)
    whole = torch.cat(list(read_video(clip, fps=fps)), dim=1)
    assert fps or whole.shape[1] == 70
    for start, stop in ((0, 20), (20, 40), (35, None), (45, 50)):  # frames
        part = read_video(clip, fps=fps, start=Fraction(start, rate), stop=stop and Fraction(stop, rate))
        if fps is None:
            assert torch.equal(torch.cat(list(part), dim=1), whole[:, start:stop])
        elif start % (rate / fps) == 0:
            first, last = (time and -(-time * fps // rate) for time in (start, stop))
            assert torch.equal(torch.cat(list(part), dim=1), whole[:, first:last])


@pytest.mark.parametrize("fps", [None, 7])
def test_the_size_of_blocks_does_not_change_frames(fps, monkeypatch):
    clip = encoded([gray(20 + 5 * n) for n in range(23)])
    whole = torch.cat(list(read_video(clip, fps=fps, block=1000)), dim=1)
    for block in (1, 2, 7, 23):
        blocks = list(read_video(clip, fps=fps, block=block))
        assert {b.shape[1] for b in blocks[:-1]} <= {block} and all(b.is_contiguous() for b in blocks)
        assert torch.equal(torch.cat(blocks, dim=1), whole)
    monkeypatch.setattr(video, "MAX_BLOCK_BYTES", 3 * 24 * 32 * 2)
    assert {b.shape[1] for b in read_video(clip)} <= {1, 2}


def test_paths_bytes_and_open_files_give_the_same_and_a_given_file_stays_open(tmp_path):
    clip = encoded([gray(20), gray(90)])
    (tmp_path / "a.mkv").write_bytes(clip)
    with open(tmp_path / "a.mkv", "rb") as file:
        assert shades(str(tmp_path / "a.mkv")) == shades(clip) == shades(file) == shades(file) == [20, 90]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a list of open files")
def test_the_file_is_closed_however_one_leaves(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(encoded([gray(20 + n) for n in range(9)]))

    def is_open() -> bool:
        return any(os.path.exists(f) and os.path.samefile(f, path) for f in Path("/proc/self/fd").iterdir())

    blocks = read_video(path, block=1)
    assert not is_open()
    next(blocks)
    assert is_open()
    blocks.close()
    assert not is_open()
    for _ in read_video(path, block=1):
        break
    assert not is_open()
    list(read_video(path))
    assert not is_open()


def test_leaving_early_does_not_hang_after_torchvision_was_imported(tmp_path):
    """PyAV #1849: with frame threads, it could, for ever."""
    pictures = [gray(20 + n, (180, 320)) for n in range(60)]
    clip = encoded(pictures, codec="libx264", pixels="yuv420p", prepare=with_b_frames)
    (tmp_path / "a.mkv").write_bytes(clip)
    code = (
        "import sys, torchvision\n"
        "from tokenloom.data.video import read_video\n"
        "for _ in range(20):\n"
        "    for block in read_video(sys.argv[1], block=2): break\n"
        "blocks = read_video(sys.argv[1], block=2)\n"
        "next(blocks)\n"
        "print('left')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.mkv")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stdout) == (0, "left\n"), result.stderr


def four_corners(height=48, width=64) -> np.ndarray:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = 250
    picture[: height // 2, : width // 2], picture[height // 2 :, : width // 2] = RED, GREEN
    picture[: height // 2, width // 2 :] = BLUE
    return picture


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_rotated_clip_is_read_upright(turns):
    """Stored turned clockwise, with a flag that says so: it is seen as it was."""
    stored = np.ascontiguousarray(np.rot90(four_corners(), -turns))
    clip = encoded(
        [stored] * 3,
        codec="libx264",
        pixels="yuv444p",
        container="mp4",
        base=Fraction(1, 10),
        prepare=lambda stream: stream.set_display_rotation(90 * turns),
    )
    (block,) = read_video(clip)
    assert tuple(block.shape) == (3, 3, 48, 64)
    assert (probe_video(clip).height, probe_video(clip).width) == (48, 64)
    corners = block[:, 0, 4:20, 4:28], block[:, 0, 28:44, 4:28], block[:, 0, 4:20, 36:60]
    assert all(close(corner, color, 8) for corner, color in zip(corners, (RED, GREEN, BLUE), strict=True))


def test_pixels_become_square():
    def wide(stream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)

    how = {"codec": "libx264", "pixels": "yuv444p", "container": "mp4", "base": Fraction(1, 10)}
    (block,) = read_video(encoded([four_corners()], prepare=wide, **how))
    assert tuple(block.shape) == (3, 1, 48, 96)
    assert close(block[:, 0, :20, :40], RED, 8) and close(block[:, 0, :20, 56:], BLUE, 8)


@pytest.mark.parametrize("shape", [(48, 64), (33, 65), (65, 33), (1, 1), (7, 90)])
@pytest.mark.parametrize("size", [16, (24, 40), (41, 17)])
def test_a_size_is_filled_from_the_centre(shape, size):
    picture = np.zeros((*shape, 3), np.uint8)
    picture[:, shape[1] // 2 :] = 255
    (block,) = read_video(encoded([picture]), size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert tuple(block.shape) == (3, 1, height, width)
    if shape[1] > 1:
        columns = block[0, 0].float().mean(0)
        assert (
            columns[0] < 30
            and columns[-1] > 225
            and abs(int((columns < 128).sum()) - width / 2) <= 1 + width / shape[1]
        )


def test_odd_sizes_are_kept():
    picture = four_corners(33, 47)
    (block,) = read_video(encoded([picture]))
    assert np.array_equal(block[:, 0].permute(1, 2, 0), picture)
    (block,) = read_video(encoded([picture], codec="libvpx-vp9", pixels="yuv420p", container="webm"))
    assert tuple(block.shape) == (3, 1, 33, 47)


@pytest.mark.parametrize(
    ("codec", "pixels", "container"),
    [
        ("libvpx-vp9", "yuva420p", "webm"),
        ("libvpx", "yuva420p", "webm"),
        ("png", "rgba", "mov"),
        ("ffv1", "bgra", "matroska"),
    ],
)
def test_transparency_lies_on_the_background(codec, pixels, container):
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:, 16:] = (*RED, 255)
    options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    clip = encoded([picture] * 3, codec=codec, pixels=pixels, container=container, options=options)
    for background in ((255, 255, 255), BLUE):
        frames = torch.cat(list(read_video(clip, background=background)), dim=1)
        assert frames.shape[1] == 3
        for number in range(3):
            assert close(frames[:, number, 4:-4, 2:12], background, 8) and close(frames[:, number, 4:-4, 20:30], RED, 8)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p12le", "gbrp10le"])
def test_more_than_eight_bits_keep_their_scale(pixels):
    (block,) = read_video(encoded([four_corners()], pixels=pixels))
    assert close(block[:, 0, :20, :28], RED) and close(block[:, 0, 30:, 40:], (250, 250, 250), 2)


@pytest.mark.parametrize("height", [480, 720])
@pytest.mark.parametrize("tagged", [False, True])
def test_colors_are_those_that_players_show(height, tagged):
    """What is not tagged is BT.601 in small frames and BT.709 in large ones; tags are believed."""
    matrix = 5 if (height < 720) != tagged else 1
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv444p"
        if tagged:
            stream.codec_context.colorspace = matrix
        picture = np.empty((height, 64, 3), np.uint8)
        picture[:] = RED
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix)
        frame.colorspace = matrix if tagged else 2
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (block,) = read_video(file.getvalue())
    assert close(block[:, 0], RED, 3)


def animation(format: str, durations) -> bytes:
    pictures = [Image.new("RGB", (20, 12), (20 + 30 * n, 0, 0)) for n in range(len(durations))]
    file = io.BytesIO()
    options = {"lossless": True} if format == "WEBP" else {}
    pictures[0].save(file, format, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_animations_are_clips(format):
    clip = animation(format, [100, 300, 50, 250, 100])
    reds = [int(b[0, 0, 0, 0]) for b in read_video(clip, fps=20, block=1)]
    assert reds == [20] * 2 + [50] * 6 + [80] + [110] * 5 + [140] * 2
    assert [int(b[0, 0, 0, 0]) for b in read_video(clip, block=1, start=0.4, stop=0.7)] == [80, 110]
    info = probe_video(clip)
    assert (info.height, info.width, info.num_frames, info.seconds) == (12, 20, 5, Fraction(4, 5))


@pytest.mark.parametrize(("milliseconds", "shown"), [(0, 100), (10, 100), (11, 11), (16, 16), (40, 40)])
def test_frames_of_animated_webp_last_as_long_as_browsers_show_them(milliseconds, shown):
    info = probe_video(animation("WEBP", [milliseconds] * 4))
    assert (info.fps, info.seconds) == (Fraction(1000, shown), Fraction(4 * shown, 1000))


def test_a_damaged_webp_has_the_rate_of_its_frames_that_are_whole():
    clip = bytearray(animation("WEBP", [100] * 6))
    frames = [match.start() for match in re.finditer(b"ANMF", clip)]
    for start, rate in ((frames[3], 10), (frames[0], 10)):
        clip[start + 37 : start + 48] = b"\xff" * 11  # behind the headers of the frame
        with open_video(io.BytesIO(clip), keep_decodable=True) as opened:
            assert opened.fps == rate
    with open_video(io.BytesIO(clip)) as opened, pytest.raises(MediaError, match="damaged at 0.00 s"):
        opened.seconds()


def test_an_animation_is_drawn_on_the_background():
    frames = [Image.new("RGBA", (8, 8), (255, 0, 0, 0)), Image.new("RGBA", (8, 8), (*GREEN, 255))]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    (block,) = read_video(file.getvalue(), background=BLUE)
    assert close(block[:, 0], BLUE, 0) and close(block[:, 1], GREEN, 1)


def test_a_clip_without_sound_and_one_with():
    silent = encoded([gray(20)] * 5)
    assert not probe_video(silent).has_audio and probe_video(silent).fps == 10
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        out.mux(stream.encode(sound))
        out.mux(stream.encode())
    for ask in (probe_video, lambda source: next(read_video(source))):
        with pytest.raises(MediaError, match="clip: no video stream"):
            ask(file.getvalue())


# ---------------------------------------------------------------------------------------------------------- bad files


def test_a_bad_file_is_one_line_that_names_it(tmp_path):
    whole = encoded(
        [gray(20 + n) for n in range(30)], codec="mpeg4", pixels="yuv420p", container="mp4", base=Fraction(1, 10)
    )
    sources = {
        "missing.mp4": None,
        "empty.mp4": b"",
        "text.mp4": b"hello\nworld" * 99,
        "playlist.mp4": f"#EXTM3U\n#EXTINF:3,\nfile:{tmp_path}/good.mp4\n#EXT-X-ENDLIST\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile {tmp_path}/good.mp4\n".encode(),
        "picture.mp4": b"\x89PNG\r\n\x1a\n" + bytes(99),
        "noise.mkv": np.random.default_rng(0).bytes(5000),
        "cut.mp4": whole[: len(whole) // 2],
        "cut.webp": animation("WEBP", [100] * 5)[:-9],
        "head.webp": animation("WEBP", [100] * 5)[:16],
        "line\nbreak.mp4": b"x",
    }
    (tmp_path / "good.mp4").write_bytes(whole)
    for name, data in sources.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for keep in (False, True)[: 1 if name == "cut.webp" else 2]:  # its first frames are whole
            with pytest.raises(MediaError) as caught:
                list(read_video(tmp_path / name, keep_decodable=keep))
            assert name.splitlines()[0] in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(MediaError, match=r"cut\.mp4: cut off: [\d,]+ of [\d,]+ bytes are there"):
        next(read_video(tmp_path / "cut.mp4"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_a_name_is_never_an_address(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="regular file"):
        next(read_video(tmp_path / "pipe.mp4"))
    monkeypatch.chdir(tmp_path)
    Path("concat:a|b.mkv").write_bytes(encoded([gray(20)]))
    assert shades("concat:a|b.mkv") == [20]


@pytest.mark.parametrize(
    ("codec", "container"),
    [("ffv1", "matroska"), ("mjpeg", "avi"), ("mpeg4", "avi"), ("libvpx", "webm"), ("gif", "gif")],
)
def test_of_a_cut_off_file_the_whole_frames_are_kept_if_asked(codec, container):
    pixels = {"ffv1": "bgr0", "mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    base = Fraction(1, 1000) if container in ("matroska", "webm") else Fraction(1, 100 if codec == "gif" else 10)
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 32, 3), dtype=np.uint8)
    clip = encoded(list(noise), codec=codec, pixels=pixels, container=container, base=base)
    whole = torch.cat(list(read_video(clip)), dim=1)
    cut = clip[: len(clip) * 2 // 3]
    with pytest.raises(MediaError, match="clip: cut off"):
        next(read_video(cut))
    kept = torch.cat(list(read_video(cut, keep_decodable=True)), dim=1)
    assert 2 <= kept.shape[1] < 20 and torch.equal(kept, whole[:, : kept.shape[1]])
    held = torch.cat(list(read_video(cut, keep_decodable=True, fps=10)), dim=1)
    assert torch.equal(held, kept)


def damaged(clip: bytes, number: int, content: bytes | None = None) -> bytes:
    """A clip whose packet of that number holds zeros, or `content` in its second half."""
    with av.open(io.BytesIO(clip)) as container:
        packet = bytes([packet for packet in container.demux(video=0)][number])
    half = packet[: len(packet) // 2]
    other = bytes(len(packet)) if content is None else half + content[: len(packet) - len(half)]
    assert len(other) == len(packet) and clip.count(packet) == 1
    return clip.replace(packet, other)


def test_a_damaged_place_is_told_when_it_is_met_and_passed_over_if_asked():
    clip = encoded([gray(20 + 5 * n) for n in range(20)], codec="mjpeg", pixels="yuvj420p")
    bad, all_shades = damaged(clip, 10), shades(clip)
    blocks = []
    with pytest.raises(MediaError, match="clip: damaged"):
        blocks.extend(read_video(bad, block=2))
    assert len(blocks) == 5
    assert shades(bad, keep_decodable=True) == all_shades[:10] + all_shades[11:]
    assert shades(bad, keep_decodable=True, fps=10) == all_shades[:10] + all_shades[9:10] + all_shades[11:]


def test_a_frame_that_the_decoder_had_to_make_up_is_damaged():
    """H.264 decoders fill what is missing in a frame from others, and flag it."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    clip = encoded(list(noise), codec="libx264", pixels="yuv420p", options={"g": "1"})
    bad = damaged(clip, 5, np.random.default_rng(1).bytes(100_000))
    whole = torch.cat(list(read_video(clip)), dim=1)
    with pytest.raises(MediaError, match="clip: damaged at 0.50 s"):
        list(read_video(bad))
    kept = torch.cat(list(read_video(bad, keep_decodable=True)), dim=1)
    assert torch.equal(kept, torch.cat([whole[:, :5], whole[:, 6:]], dim=1))
    after = torch.cat(list(read_video(bad, start=0.6)), dim=1)
    assert torch.equal(after, whole[:, 6:])


def test_a_clock_that_leaps_is_refused_not_filled_with_frames():
    with pytest.raises(MediaError, match="s between two frames"):
        list(read_video(encoded([gray(20), gray(30)], [0, 4_000_000]), fps=30))


def test_a_last_frame_is_not_held_for_ever():
    clip = animation("GIF", [100, 200])
    place = clip.rindex(b"\x21\xf9\x04") + 4  # its delay, in hundredths of a second
    clip = clip[:place] + b"\xff\xff" + clip[place + 2 :]
    blocks = read_video(clip, fps=Fraction(1, 100))
    assert sum(block.shape[1] for block in blocks) == 7  # 655.35 s and a bit are fine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenloom.data.container_clip.MAX_HOLD", Fraction(300))
        assert sum(block.shape[1] for block in read_video(clip, fps=Fraction(1, 100))) == 4


def test_large_frames_are_refused_before_decoding(monkeypatch):
    clip = encoded([gray(20, (400, 500))])
    monkeypatch.setattr("tokenloom.data.clip.MAX_CLIP_PIXELS", 400 * 500 - 1)
    for ask in (probe_video, lambda source: next(read_video(source))):
        with pytest.raises(MediaError, match="clip: 500 x 400 pixels"):
            ask(clip)
    with pytest.raises(MediaError, match="clip: .*pixels"):
        next(read_video(animation("GIF", [100])[:6] + b"\xff\xff\xff\xff" + animation("GIF", [100])[10:]))


def test_a_thin_line_is_not_blown_up():
    with pytest.raises(MediaError, match="clip: .* long and thin"):
        next(read_video(encoded([gray(20, (2, 4000))]), size=256))


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"fps": 1001},
        {"fps": -5},
        {"start": -1},
        {"start": 2, "stop": 2},
        {"size": 0},
        {"size": (4, 0)},
        {"block": 0},
    ],
)
def test_a_wrong_option_is_told_at_the_call(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* must be"):
        read_video("no such file", **wrong)


def test_a_time_after_the_end_is_an_error():
    with pytest.raises(MediaError, match="clip: no frame"):
        next(read_video(encoded([gray(20)] * 5), start=7, fps=8))


@needs_packs
def test_clips_as_people_send_them_are_read(packs):
    files = sorted((packs / "reallife" / "video").iterdir())
    assert len(files) > 15
    for path in [*files, packs / "reallife/image/animated_iss.webp", packs / "reallife/image/animated_chi.gif"]:
        if path.name == "elf_audio_only.mp4":
            with pytest.raises(MediaError, match=r"audio_only\.mp4: no video stream"):
                probe_video(path)
            continue
        info = probe_video(path)
        blocks = list(read_video(path, fps=6, size=48, stop=3, block=5))
        assert {tuple(block.shape[2:]) for block in blocks} == {(48, 48)}
        length = min(3, info.seconds)
        assert abs(sum(block.shape[1] for block in blocks) - float(length * 6)) <= 1, path.name
        assert next(read_video(path, block=1)).shape[2:] == (info.height, info.width)
    turned, plain = (
        next(read_video(packs / f"reallife/video/rotated_{n}.mov", size=64))[:, 0].float() for n in (90, 0)
    )
    assert probe_video(packs / "reallife/video/rotated_90.mov").height == 568
    assert (turned - plain).abs().mean() > 5  # two clips, not one turned by us


@needs_packs
def test_a_rate_that_varies_is_resampled_by_time(packs):
    """elf_vfr shows every fifth frame of a 30 fps clip for 2 s, then all of them."""
    frames = torch.cat(list(read_video(packs / "reallife/video/elf_vfr.mp4", fps=30, size=32)), dim=1)
    assert frames.shape[1] == 120
    same = [torch.equal(frames[:, n], frames[:, n + 1]) for n in range(119)]
    assert [n for n in range(59) if not same[n]] == [4, 9, 14, 19, 24, 29, 34, 39, 44, 49, 54]
    assert sum(same[60:]) <= 2


@pytest.mark.parametrize("height", [360, 720])
def test_a_clip_with_transparency_has_the_colors_of_one_without(height):
    found = []
    for pixels, planes in (("yuv420p", (120, 90, 200)), ("yuva420p", (120, 90, 200, 255))):
        file = io.BytesIO()
        with av.open(file, "w", format="webm") as out:
            stream = out.add_stream("libvpx-vp9", rate=8, options={"deadline": "realtime", "cpu-used": "8"})
            stream.width, stream.height, stream.pix_fmt = 64, height, pixels
            frame = av.VideoFrame(64, height, pixels)
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
        (block,) = read_video(file.getvalue())
        found.append(block)
    assert close(found[1][:, 0], found[0][:, 0].flatten(1).float().mean(1).tolist(), 2)


def test_pixels_that_are_not_square_cannot_make_a_clip_huge():
    def wide(stream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(200)

    how = {"codec": "libx264", "pixels": "yuv444p", "container": "mp4", "base": Fraction(1, 10)}
    clip = encoded([gray(99, (256, 320))], prepare=wide, **how)
    for read in (lambda: list(read_video(clip)), lambda: probe_video(clip)):
        with pytest.raises(MediaError, match="a frame may have 1 to"):
            read()
