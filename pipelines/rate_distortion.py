"""An image tokenizer beside JPEG, WebP and AVIF at the same bits per pixel: PSNR and SSIM, picture by picture.

A tokenizer spends log2(codebook) bits on each code, or as many as the file takes that its entropy model makes of them.
The formats are Pillow's: JPEG (libjpeg) with optimized Huffman tables, 4:2:0 and 4:4:4, whichever has the higher PSNR;
WebP (libwebp) and AVIF (libavif, where Pillow has it) as they are usually written. Their bits are those of the whole
stream, header and tables included, without metadata. Between the two qualities whose sizes lie around ours, figures
are interpolated in bits per pixel. All are judged as 8-bit RGB.

H W pixels, h w grid of codes.
"""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from PIL import Image, features
from torch import Tensor

from ..data.media import to_pil, to_tensor
from ..models.image_metrics import psnr, ssim
from ..tokenizers.protocol import MediaTokenizer
from .picture_codec import PictureCodec

QUALITIES = (1, 100)
Coder = Callable[[Image.Image], tuple[float, Image.Image]]  # RGB picture -> bits in all, and what comes back


@dataclass(frozen=True)
class Rate:
    bits_per_pixel: float
    psnr: float  # dB
    ssim: float


@dataclass(frozen=True)
class Comparison:
    """Ours, and others at our bits, or at their nearest where they cannot spend so few or so many."""

    ours: Rate
    jpeg: Rate
    subsampling: str  # of that JPEG
    others: dict[str, Rate]  # of `OTHERS`, by name


def rate(image: Image.Image, decoded: Image.Image, bits: float) -> Rate:
    """What `decoded` is worth as `image`, for this many bits in all."""
    target, found = to_tensor(image).unsqueeze(0), to_tensor(decoded).unsqueeze(0)  # (1, 3, H, W)
    return Rate(bits / (image.width * image.height), float(psnr(found, target)), float(ssim(found, target)))


def stream_of(image: Image.Image, quality: int, format: str, **how: object) -> bytes:
    """An RGB picture in one of Pillow's formats, without metadata."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(buffer, format, quality=quality, **how)
    return buffer.getvalue()


Encode = Callable[[Image.Image, int], bytes]  # an RGB picture and a quality -> a stream
JPEG: Mapping[str, Encode] = {
    "4:2:0": partial(stream_of, format="JPEG", optimize=True, subsampling=2),
    "4:4:4": partial(stream_of, format="JPEG", optimize=True, subsampling=0),
}
OTHERS: Mapping[str, Encode] = {
    "WebP": partial(stream_of, format="WEBP"),
    **({"AVIF": partial(stream_of, format="AVIF")} if features.check("avif") else {}),
}


def format_at(image: Image.Image, bits_per_pixel: float, encode: Encode) -> tuple[Rate, Image.Image]:
    """A format's figures at `bits_per_pixel`, and its picture at the quality just below.

    At fewer bits than its lowest quality takes, these are those of the lowest; the same holds for the highest.
    """

    @cache
    def stream(quality: int) -> bytes:
        return encode(image, quality)

    @cache
    def judged(quality: int) -> tuple[Rate, Image.Image]:
        decoded = Image.open(io.BytesIO(stream(quality))).convert("RGB")
        return rate(image, decoded, 8 * len(stream(quality))), decoded

    budget = bits_per_pixel * image.width * image.height / 8  # bytes
    low, high = QUALITIES
    for end in (low, high):
        if (len(stream(end)) >= budget) == (end == low):
            return judged(end)
    while high - low > 1:  # the stream of `low` fits the budget, that of `high` does not
        middle = (low + high) // 2
        low, high = (middle, high) if len(stream(middle)) <= budget else (low, middle)
    below, above = judged(low)[0], judged(high)[0]
    share = (bits_per_pixel - below.bits_per_pixel) / (above.bits_per_pixel - below.bits_per_pixel)
    figures = [x + share * (y - x) for x, y in ((below.psnr, above.psnr), (below.ssim, above.ssim))]
    return Rate(bits_per_pixel, *figures), judged(low)[1]


def by_codes(
    tokenizer: MediaTokenizer, device: str | torch.device = "cpu", encode: Callable[[Tensor], Tensor] | None = None
) -> Coder:
    """Every code costs the logarithm of the codebook. `encode` finds ids (1, h, w) of a picture (1, 3, H, W) instead
    of the tokenizer's own."""

    @torch.no_grad()
    def code(image: Image.Image) -> tuple[float, Image.Image]:
        pixels: Tensor = to_tensor(image).unsqueeze(0).to(device)  # (1, 3, H, W)
        size = (image.height, image.width)
        decoded = to_pil(tokenizer.decode((encode or tokenizer.encode)(pixels), size)[0].cpu())
        return math.prod(tokenizer.grid(size)) * math.log2(tokenizer.vocab_size), decoded

    return code


def by_files(codec: PictureCodec) -> Coder:
    """The whole file counts, and the picture is what comes back of it."""

    def code(image: Image.Image) -> tuple[float, Image.Image]:
        data = codec.compress(image)
        return 8.0 * len(data), codec.decompress(data)

    return code


def compare_with_formats(code: Coder, image: Image.Image) -> tuple[Comparison, Image.Image]:
    """The figures for one RGB picture; and on one sheet, from left to right: itself, ours, JPEG at no more bits.

    Raises:
        ValueError: it is too small for SSIM.
    """
    bits, decoded = code(image)
    ours = rate(image, decoded, bits)
    found = {name: format_at(image, ours.bits_per_pixel, encode) for name, encode in JPEG.items()}
    best = max(found, key=lambda name: found[name][0].psnr)
    jpeg, jpeg_picture = found[best]
    others = {name: format_at(image, ours.bits_per_pixel, encode)[0] for name, encode in OTHERS.items()}
    return Comparison(ours, jpeg, best, others), side_by_side([image, decoded, jpeg_picture])


def mean_of(found: Sequence[Comparison]) -> Comparison:
    """The plain means over pictures."""
    others = {name: mean(one.others[name] for one in found) for name in found[0].others}
    return Comparison(mean(one.ours for one in found), mean(one.jpeg for one in found), "", others)


def mean(rates: Iterable[Rate]) -> Rate:
    """The plain mean over pictures, of decibels too."""
    rows = torch.tensor([[r.bits_per_pixel, r.psnr, r.ssim] for r in rates], dtype=torch.float64)
    return Rate(*rows.mean(0).tolist())


def side_by_side(pictures: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    """Pictures of one size in a row, on white."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + gap) - gap, height), "white")
    for column, picture in enumerate(pictures):
        sheet.paste(picture, (column * (width + gap), 0))
    return sheet
