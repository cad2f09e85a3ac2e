"""Pictures in and out: any file people send -> RGB as it is meant to be seen -> tensors -> PNG.

Files are hostile: bytes and pixels are bounded before anything is decoded, only formats whose decoders run inside this
process are opened, and whatever a decoder raises becomes one line that names the file. ICC profiles are not applied;
pixels are taken for sRGB.

N pictures, H W pixels. An image tensor is float32 in [-1, 1], channels first; a stored picture is uint8 in [0, 255].
"""

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from einops import rearrange
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from .files import write_atomically

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000  # 300 MB as RGB
WHITE = (255, 255, 255)
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "BMP", "DIB", "PPM", "TGA")
SUFFIXES = tuple(
    ".jpg .jpeg .jpe .mpo .png .apng .gif .webp .avif .tif .tiff .jp2 .jpf .jpx .j2k .bmp .dib".split()
) + (tuple(".ppm .pgm .pbm .pnm .tga".split()))
RESIZE_FILTER = Image.Resampling.BICUBIC  # Pillow widens it when shrinking, so it does not alias

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what to do to see the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class MediaError(ValueError):
    """A file that is broken, too large, or not what its name says; the message is one line that names it."""

    def __init__(self, name: str, reason: object):
        self.name = name if name.isprintable() else repr(name)
        self.reason = " ".join(str(reason).split()) or type(reason).__name__
        super().__init__(self.name, self.reason)  # both, so that it crosses from a worker process

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def read_bytes(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> bytes:
    """All bytes of a regular file.

    Raises:
        MediaError: it is missing, unreadable, no regular file, or larger than `max_bytes`.
    """
    with open_regular(path) as file:
        return _read_bounded(file, os.fspath(path), max_bytes)


@contextmanager
def open_regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A regular file, open for reading.

    Raises:
        MediaError: it is missing, unreadable or no regular file.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MediaError(name, "not a regular file")
            yield file
    except OSError as error:
        raise MediaError(name, error.strerror or error) from error


def is_animated(path: str | os.PathLike) -> bool:
    """Whether a picture file holds several frames; False where that cannot be seen, as in a broken file."""
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_formats()) as image:
                return getattr(image, "is_animated", False)
    except Exception:  # decoders raise anything; whoever reads the file will say what is wrong with it
        return False


def read_image(
    source: str | os.PathLike | bytes | BinaryIO,
    *,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    name: str | None = None,
) -> Image.Image:
    """A picture as it is meant to be seen, RGB uint8, at its own size.

    EXIF orientation is applied; transparency is composited on `background`; of an animation the first frame is taken;
    16 bits per channel are scaled to 8, not clipped. `name` stands in messages where the source has no path.

    Raises:
        MediaError: unreadable, truncated, of another kind, or beyond a limit; pixels are counted before decoding.
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        data = read_bytes(source, max_bytes)
    elif isinstance(source, bytes):
        name = name or "picture"
        data = _read_bounded(io.BytesIO(source), name, max_bytes)
    else:
        name = name or str(getattr(source, "name", "picture"))
        data = _read_bounded(source, name, max_bytes)

    if not data:
        raise MediaError(name, "the file is empty")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        raise MediaError(name, "HEIF pictures are not supported; convert it to JPEG, PNG or AVIF")
    try:
        # Pillow warns about large pictures, odd EXIF and the like; the limits here are ours, and stderr is the user's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                _check_pixels(image, name, max_pixels)
                image.load()
                return _flatten(_upright(image), background)
    except MediaError:
        raise
    except UnidentifiedImageError:
        raise MediaError(name, f"not a picture of a known format ({', '.join(_formats())})") from None
    except Image.DecompressionBombError as error:
        raise MediaError(name, error) from error
    except Exception as error:  # decoders raise anything: OSError, struct.error, KeyError, SyntaxError, ...
        raise MediaError(name, f"broken picture ({' '.join(str(error).split()) or type(error).__name__})") from error


def fit(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square of an RGB picture, resized to `size` x `size` with `RESIZE_FILTER`.

    Raises:
        ValueError: that is no picture, or beyond `MAX_PIXELS`.
    """
    if not 0 < size * size <= MAX_PIXELS:
        raise ValueError(f"a square must have 1 to {MAX_PIXELS:,} pixels, got {size} x {size}; take another side")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), RESIZE_FILTER, box=(left, top, left + side, top + side))


def to_tensor(image: Image.Image) -> Tensor:
    """RGB picture -> float32 (3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB")))  # uint8 (H, W, 3)
    return from_uint8(rearrange(pixels, "H W C -> C H W"))


def from_uint8(images: Tensor) -> Tensor:
    """Stored images of any shape, uint8 in [0, 255] -> float32 in [-1, 1]: `to_uint8` undone."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float images of any shape -> uint8 in [0, 255]; values outside [-1, 1], as decoders give, are clamped.

    Raises:
        ValueError: a value is not finite.
    """
    if not torch.isfinite(images).all():
        raise ValueError("images must be finite, got nan or inf; the model that made them has diverged")
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """Float (3, H, W) in [-1, 1] -> RGB picture: `to_tensor` undone."""
    return Image.fromarray(rearrange(to_uint8(image), "C H W -> H W C").cpu().contiguous().numpy())


def image_grid(images: Tensor, columns: int, gap: int = 2) -> Image.Image:
    """Float (N, 3, H, W) in [-1, 1] -> one picture, `columns` wide, row by row, on white with `gap` pixels between."""
    if images.ndim != 4 or not len(images) or columns < 1:
        raise ValueError(f"a grid needs images (N, 3, H, W) and a column, got {tuple(images.shape)} and {columns}")
    columns = min(columns, len(images))
    empty = images.new_ones(-len(images) % columns, *images.shape[1:])
    cells = F.pad(torch.cat([images, empty]), (gap, 0, gap, 0), value=1.0)
    sheet = rearrange(cells, "(r c) C H W -> C (r H) (c W)", c=columns)
    return to_pil(F.pad(sheet, (0, gap, 0, gap), value=1.0))


def write_png(path: str | os.PathLike, image: Tensor | Image.Image) -> None:
    """Write a float (3, H, W) tensor in [-1, 1] or a picture as PNG, atomically; same pixels, same bytes.

    Only the pixels are stored: metadata would make the bytes depend on where the picture came from.
    """
    picture = to_pil(image) if isinstance(image, Tensor) else Image.fromarray(np.asarray(image.convert("RGB")))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    write_atomically(Path(path), buffer.getvalue())


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a named pipe would wait for its writer


def _read_bounded(file: BinaryIO, name: str, max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise MediaError(name, f"a file may have {max_bytes:,} bytes, this one has more; shrink it or raise max_bytes")
    return data


def _formats() -> list[str]:
    Image.init()  # registers every format once; Pillow before 11.3 has no AVIF
    return [name for name in FORMATS if name in Image.OPEN]


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise MediaError(
            name, f"{width} x {height} pixels are more than {max_pixels:,}; shrink the picture or raise max_pixels"
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # a mangled EXIF block says nothing about the pixels, which are decoded by now
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any mode of Pillow -> RGB on `background`."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _scale_deep_gray(image)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _scale_deep_gray(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or float -> 8 bits. Pillow's own convert clips at 255, which turns them white.

    Full scale is 65,535 for integers and 1 for floats. Values outside of that have no agreed scale (32-bit and
    scientific pictures), so their smallest becomes black and their largest white.
    """
    values = np.asarray(image, dtype=np.float32)  # (H, W)
    if not np.isfinite(values).all():
        raise ValueError("pixels are not finite")
    low, high = 0.0, 1.0 if image.mode == "F" else 65535.0
    if values.min() < low or values.max() > high:
        low, high = values.min(), values.max()
    gray = np.rint((values - low) * (255 / ((high - low) or 1.0)))
    scaled = Image.fromarray(gray.astype(np.uint8))
    key = image.info.get("transparency")  # 16-bit gray PNG: the gray value that means "see through"
    if isinstance(key, int):
        scaled.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return scaled
