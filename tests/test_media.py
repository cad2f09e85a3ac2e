"""Laws of data/media.py: every kind of file is seen as meant or refused in one line; tensors and PNG mirror it."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import needs_packs
from tokenloom.data.media import (
    SUFFIXES,
    MediaError,
    fit,
    image_grid,
    read_bytes,
    read_image,
    to_pil,
    to_tensor,
    to_uint8,
    write_png,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def photo(width: int = 24, height: int = 16) -> Image.Image:
    """A picture without symmetry: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 10, y * 15, np.full_like(x, 40)], -1).astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    stored = {  # how a camera stores the upright picture under each tag
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](photo())
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels_of(read_image(saved(stored, exif=exif))), pixels_of(photo()))


def test_a_mangled_exif_block_does_not_cost_the_picture():
    data = saved(photo(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels_of(read_image(data)), pixels_of(photo()))


def test_transparency_is_composited_on_the_chosen_background():
    half = Image.new("RGBA", (4, 4), (*RED, 128))
    assert read_image(saved(half), background=BLUE).getpixel((0, 0)) == (128, 0, 127)
    gray = Image.new("LA", (4, 4), (200, 0))
    assert read_image(saved(gray), background=GREEN).getpixel((0, 0)) == GREEN
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert read_image(saved(palette)).getpixel((0, 0)) == GREEN
    assert read_image(saved(palette, transparency=1), background=BLUE).getpixel((0, 0)) == BLUE
    key = Image.new("RGB", (4, 4), RED)
    assert read_image(saved(key, transparency=RED), background=BLUE).getpixel((0, 0)) == BLUE


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(2, 0)  # (2, 256)
    expected = np.arange(256)
    for format in ("PNG", "TIFF", "PPM"):
        gray = pixels_of(read_image(saved(Image.fromarray(ramp), format)))[0]
        np.testing.assert_array_equal(gray, np.stack([expected] * 3, -1), err_msg=format)


def test_sixteen_bit_color_is_scaled():
    row = b"\0" + struct.pack(">6H", 65535, 32768, 0, 0, 65535, 300)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    image = read_image(data)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 128, 0), (0, 255, 1)]


def test_sixteen_bit_gray_with_a_transparent_value():
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0))
    data += png_chunk(b"tRNS", struct.pack(">H", 300))
    data += png_chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">2H", 300, 65535))) + png_chunk(b"IEND", b"")
    image = read_image(data, background=BLUE)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [BLUE, (255, 255, 255)]


def test_floats_and_wide_integers_keep_their_order_and_do_not_saturate():
    unit = np.array([[0.0, 0.5, 1.0]], np.float32)
    wide = np.array([[-7, 500_000, 1_000_007]], np.int32)
    for values in (unit, unit * 1000 - 3, wide):
        row = pixels_of(read_image(saved(Image.fromarray(values), "TIFF")))[0, :, 0]
        np.testing.assert_array_equal(row, [0, 128, 255])
    flat = Image.fromarray(np.full((2, 2), 9e8, np.float32))
    assert read_image(saved(flat, "TIFF")).getpixel((0, 0)) == (0, 0, 0)
    with pytest.raises(MediaError, match="not finite"):
        read_image(saved(Image.fromarray(np.array([[np.nan]], np.float32)), "TIFF"))


def test_cmyk_gray_and_one_bit_become_rgb():
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = read_image(saved(cyan, "TIFF")).getpixel((0, 0))
    assert red < 30 and green > 150 and blue > 200
    assert read_image(saved(Image.new("1", (8, 8), 1))).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(saved(Image.new("L", (8, 8), 77))).getpixel((0, 0)) == (77, 77, 77)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert read_image(data).getpixel((4, 4)) == RED


def test_too_many_pixels_are_refused_from_the_header():
    # 4 GB of pixels in 57 bytes: if anything were decoded first, this would be "truncated" or out of memory.
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    bomb += png_chunk(b"IDAT", b"")
    for data, limit in ((bomb, 100), (bomb, 10**10), (saved(photo()), 383)):
        with pytest.raises(MediaError, match=r"^bomb\.png: .*pixels") as caught:
            read_image(data, name="bomb.png", max_pixels=limit)
        assert "\n" not in str(caught.value)
    assert read_image(saved(photo()), max_pixels=384).size == (24, 16)


def test_a_large_picture_within_the_limit_does_not_warn(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # Pillow warns from here, and refuses from twice this
    assert read_image(saved(photo())).size == (24, 16)


def test_too_many_bytes_are_refused(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(saved(photo()))
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(MediaError, match="50 bytes"):
            read_image(source, max_bytes=50)


def test_the_name_is_in_the_message_and_the_message_is_one_line(tmp_path):
    sources = {
        "missing.png": None,
        "empty.png": b"",
        "text.jpg": b"hello\nworld",
        "line\nbreak.png": b"\x89PNG\r\n\x1a\n",
        "cut.png": saved(photo())[:-30],
        "cut.jpg": saved(photo(200, 200), "JPEG")[:1500],
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, data in sources.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(MediaError) as caught:
            read_image(path)
        message = str(caught.value)
        assert name.splitlines()[0] in message and "\n" not in message
    with pytest.raises(MediaError, match="HEIF.*convert"):
        read_image(tmp_path / "phone.heic")
    with pytest.raises(MediaError, match="regular file|directory"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediaError, match="regular file"):
        read_bytes(tmp_path / "pipe.png")


@settings(max_examples=60, deadline=None)
@given(format=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]), data=st.data())
def test_a_damaged_file_gives_a_picture_or_a_media_error(format, data):
    damaged = bytearray(saved(photo(), format))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(damaged)))
    try:
        image = read_image(bytes(damaged[:end]), max_pixels=10**6)
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert image.mode == "RGB"


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), size=st.integers(1, 24))
def test_fit_gives_a_square_of_any_picture(width, height, size):
    assert fit(photo(width, height), size).size == (size, size)


def test_fit_keeps_the_centre_and_leaves_a_fitting_picture_alone():
    np.testing.assert_array_equal(pixels_of(fit(photo(16, 16), 16)), pixels_of(photo(16, 16)))
    np.testing.assert_array_equal(pixels_of(fit(photo(24, 16), 16)), pixels_of(photo(24, 16))[:, 4:20])


def test_fit_does_not_alias():
    y, x = np.mgrid[:64, :64]
    checks = Image.fromarray(np.where((x + y) % 2, 255, 0).astype(np.uint8)).convert("RGB")
    middle = pixels_of(fit(checks, 16))[4:12, 4:12]
    assert (np.abs(middle.astype(int) - 127) < 12).all()


def test_tensors_and_pictures_mirror_each_other():
    every = torch.arange(256, dtype=torch.uint8)
    pixels = torch.stack([every, every.flip(0), every.roll(50)])  # (3, 256)
    image = Image.fromarray(rearrange(pixels, "C W -> 1 W C").numpy())
    tensor = to_tensor(image)
    assert tensor.shape == (3, 1, 256) and tensor.dtype == torch.float32
    assert tensor.min() == -1 and tensor.max() == 1
    assert (to_uint8(tensor)[:, 0] == pixels).all()
    np.testing.assert_array_equal(pixels_of(to_pil(tensor)), pixels_of(image))
    assert (to_uint8(torch.tensor([-3.0, 3.0])) == torch.tensor([0, 255])).all()
    with pytest.raises(ValueError, match="finite"):
        to_uint8(torch.tensor([float("nan")]))


def test_a_grid_shows_every_picture_once_in_reading_order():
    images = torch.linspace(-1, 0.5, 5).view(5, 1, 1, 1).expand(5, 3, 4, 6)
    grid = pixels_of(image_grid(images, columns=3, gap=1))
    assert grid.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    cells = [grid[1 + 5 * row + 2, 1 + 7 * column + 3, 0] for row in range(2) for column in range(3)]
    assert cells == [*to_uint8(images)[:, 0, 0, 0].tolist(), 255]
    with pytest.raises(ValueError, match="grid"):
        image_grid(images[:0], columns=3)


def test_png_bytes_depend_on_the_pixels_alone(tmp_path):
    tagged = photo()
    tagged.info.update(icc_profile=b"profile", dpi=(300, 300))
    write_png(tmp_path / "a.png", tagged)
    write_png(tmp_path / "new" / "b.png", to_tensor(photo()))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()
    np.testing.assert_array_equal(pixels_of(read_image(tmp_path / "a.png")), pixels_of(photo()))


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", photo())
    before = (tmp_path / "a.png").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_png(tmp_path / "a.png", photo(8, 8))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@needs_packs
def test_pictures_as_people_send_them_are_read(packs):
    files = sorted((packs / "reallife" / "image").iterdir())
    assert len(files) > 20 and {path.suffix for path in files} <= {*SUFFIXES}
    for path in files:
        image = read_image(path, max_pixels=20_000_000)
        assert image.mode == "RGB" and min(image.size) > 0
    upright = [fit(read_image(packs / f"reallife/image/portrait_{n}_exif.jpg"), 64) for n in (1, 6, 8)]
    for other in upright[1:]:  # the same photo stored turned; only the digit drawn on it differs
        assert np.abs(pixels_of(upright[0]).astype(int) - pixels_of(other)).mean() < 6
    deep = pixels_of(read_image(packs / "reallife/image/kodim15_rgb48.png")).astype(int)
    plain = read_image(packs / "reallife/image/kodim15_progressive.jpg").resize((384, 256), Image.Resampling.BOX)
    assert np.abs(deep - pixels_of(plain)).mean() < 8
