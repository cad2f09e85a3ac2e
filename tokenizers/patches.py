"""Pictures as tokens without training: raw patches as vectors, and one palette color per pixel as ids.

B pictures, 3 channels, H W pixels, p pixels per side of a patch, h w grid, V colors. Pictures are float32 in [-1, 1].
Patches (ViT, arXiv:2010.11929) are what a pixel-space flow reads (JiT, arXiv:2511.13720); pixel ids are what
Image GPT (Chen et al. 2020) reads, there with a palette of 512 colors from k-means.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..data.media import to_uint8
from .palette import count_colors, learn_palette, nearest, pack, unpack
from .pretrained import Pretrained
from .protocol import check_images, check_in_codebook, fingerprint_of

FORMAT_VERSION = 1
MAX_COLORS = 1 << 16


@dataclass(frozen=True)
class PatchTokenizer:
    """Pictures <-> vectors of their p x p squares, exactly. Sides that p does not divide are padded by their edge."""

    patch: int = 8  # p, in pixels

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ValueError(f"patch must be at least 1 pixel, got {self.patch}")

    @property
    def width(self) -> int:
        """Numbers per patch: 3 p^2."""
        return 3 * self.patch**2

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("PatchTokenizer", FORMAT_VERSION, asdict(self), {})

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Pixels (H, W) -> patches (h, w)."""
        return tuple(-(-side // self.patch) for side in size)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> vectors (B, h, w, 3 p^2): all red, then all green, then all blue."""
        pad_h, pad_w = (-side % self.patch for side in check_images(images).shape[2:])
        images = F.pad(images, (0, pad_w, 0, pad_h), mode="replicate")
        return rearrange(images, "B C (h p) (w q) -> B h w (C p q)", p=self.patch, q=self.patch)

    def decode(self, vectors: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Vectors (B, h, w, 3 p^2) -> pictures (B, 3, H, W), cropped to `size` = (H, W) if given.

        Raises:
            ValueError: not a grid of such vectors, or `size` has another grid.
        """
        if vectors.ndim != 4 or vectors.shape[3] != self.width:
            raise ValueError(f"vectors must be (B, h, w, {self.width}), got {tuple(vectors.shape)}")
        images = rearrange(vectors, "B h w (C p q) -> B C (h p) (w q)", C=3, p=self.patch, q=self.patch)
        return _crop(images, size, self.patch)


@dataclass(frozen=True, kw_only=True)
class PaletteConfig:
    num_colors: int = 256  # V

    storage_dtype: ClassVar[str] = "float32"  # on disk; holds the 8-bit colors exactly

    def __post_init__(self) -> None:
        if not 1 <= self.num_colors <= MAX_COLORS:
            raise ValueError(f"num_colors must be from 1 to {MAX_COLORS}, got {self.num_colors}")

    @property
    def stride(self) -> int:
        """Pixels per side of an id."""
        return 1

    @property
    def levels(self) -> tuple[int, ...]:
        """As of learned codes: one line of ids, on which colors lie in no order, so nothing but ids can be drawn."""
        return (self.num_colors,)


class PaletteTokenizer(nn.Module, Pretrained):
    """Pictures <-> the id of the nearest palette color of every pixel. A `protocol.MediaTokenizer`.

    Made by `uniform`, `learn` or `from_colors`, or loaded. Pixels are compared as 8-bit RGB.
    """

    colors: Tensor  # uint8 (V, 3)

    def __init__(self, config: PaletteConfig):
        super().__init__()
        self.config = config
        self.register_buffer("colors", torch.zeros(config.num_colors, 3, dtype=torch.uint8))

    @classmethod
    def from_colors(cls, colors: Tensor) -> "PaletteTokenizer":
        """Palette of the given colors, uint8 (V, 3): color i has id i."""
        if colors.dtype != torch.uint8 or colors.ndim != 2 or colors.shape[1] != 3:
            raise ValueError(f"colors must be uint8 (V, 3), got {colors.dtype} {tuple(colors.shape)}")
        tokenizer = cls(PaletteConfig(num_colors=len(colors)))
        tokenizer.colors.copy_(colors)
        return tokenizer

    @classmethod
    def uniform(cls, levels: tuple[int, int, int] = (8, 8, 4)) -> "PaletteTokenizer":
        """Even steps of red, green and blue: no data needed. Blue, which the eye resolves least, has fewest."""
        if min(levels) < 1 or math.prod(levels) > MAX_COLORS:
            raise ValueError(f"levels must be positive with a product up to {MAX_COLORS}, got {levels}")
        axes = [torch.linspace(0, 255, n).round().to(torch.uint8) for n in levels]
        return cls.from_colors(torch.cartesian_prod(*axes))

    @classmethod
    def learn(cls, images: Iterable[Tensor], num_colors: int = 256) -> "PaletteTokenizer":
        """The colors of least squared error on `images`, (N, 3, H, W) or an iterable of (3, H, W): see palette.py.

        Always the same from the same pictures in any order. Pictures with at most `num_colors` colors get exactly
        those: nothing is lost, and the vocabulary is as small as they are few.
        """
        if not 1 <= num_colors <= MAX_COLORS:
            raise ValueError(f"num_colors must be from 1 to {MAX_COLORS}, got {num_colors}")
        packed, counts = count_colors(images)
        return cls.from_colors(learn_palette(unpack(packed), counts, num_colors))

    @property
    def vocab_size(self) -> int:
        return self.config.num_colors

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(self.config), self.state_dict())

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Pixels (H, W) -> ids (H, W)."""
        return tuple(size)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> int64 ids (B, H, W) in [0, V). Of equally near colors, the first."""
        packed, inverse = torch.unique(pack(to_uint8(check_images(images))), return_inverse=True)  # (U,), (B, H, W)
        return nearest(unpack(packed).float(), self.colors.float())[inverse]

    def encode_unchecked(self, images: Tensor) -> Tensor:
        """As `encode`, of pictures that are sure to be in range."""
        return self.encode(images)

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, H, W) -> pictures (B, 3, H, W); `size`, if given, must be their (H, W).

        Raises:
            ValueError: ids out of range, or another size.
        """
        if ids.ndim != 3:
            raise ValueError(f"ids must be (B, H, W), got {tuple(ids.shape)}")
        check_in_codebook(ids, self.vocab_size)
        return _crop(rearrange(self.colors.float()[ids] / 127.5 - 1, "B H W C -> B C H W"), size, patch=1)


def _crop(images: Tensor, size: tuple[int, ...] | None, patch: int) -> Tensor:
    """The upper left `size` = (H, W) of pictures whose padding is less than one patch."""
    if size is None:
        return images
    if len(size) != 2 or not all(0 <= have - side < patch for have, side in zip(images.shape[2:], size, strict=True)):
        raise ValueError(f"size must be {tuple(images.shape[2:])} or less by under {patch} pixels a side, got {size}")
    return images[:, :, : size[0], : size[1]]
