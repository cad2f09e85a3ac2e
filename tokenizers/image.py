"""Learned image tokenizer: a convolutional encoder and decoder around one FSQ (VQGAN's shape, arXiv:2012.09841).

B pictures, H W pixels, h w grid (h = H / stride), D latent dimensions. Pictures are float32 in [-1, 1].
Space is folded into channels (arXiv:2410.10733) so that no convolution runs at full resolution: the first level works
on 4x4 squares, each further level on squares twice as wide. Beside the networks run two linear maps, square to latent
and back; `start_linear` sets them to the optimal linear code of given pictures (Karhunen-Loeve), and the networks,
whose last layers start at zero, learn what is left. Nothing normalizes across space, so any size works.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .linear_code import least_squares, principal_axes, unit_projection
from .pretrained import Pretrained, check_storage_dtype
from .protocol import check_images, check_size, crop, fingerprint_of
from .scalar_quantizer import SLOPE, ScalarQuantizer

STEM = 4  # pixels per side of the squares on which the finest level works
FORMAT_VERSION = 1

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerConfig:
    stride: int = 8  # pixels per side of a code's square: 4, 8 or 16
    levels: tuple[int, ...] = (8, 8, 8, 8)  # FSQ cells per dimension
    widths: tuple[int, ...] = (96, 192)  # channels at 4x4 squares, 8x8 squares, ...: one per level
    encoder_blocks: tuple[int, ...] = (1, 1)  # residual blocks per level
    decoder_blocks: tuple[int, ...] = (2, 2)
    storage_dtype: str = "float32"  # type of the weights on disk

    def __post_init__(self) -> None:
        for name in ("levels", "widths", "encoder_blocks", "decoder_blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        if self.stride not in (4, 8, 16):
            raise ValueError(f"stride must be 4, 8 or 16 pixels, got {self.stride}")
        if not len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks) == self.num_scales:
            raise ValueError(f"stride {self.stride} needs {self.num_scales} widths and blocks, got {self.widths}")
        if min(self.widths) < 1 or min(self.encoder_blocks + self.decoder_blocks) < 0:
            raise ValueError(
                "widths must be at least 1 and blocks 0, "
                f"got {self.widths}, {self.encoder_blocks} and {self.decoder_blocks}"
            )
        if min(self.levels, default=0) < 2:
            raise ValueError(f"every dimension needs at least 2 levels, got {self.levels}")
        check_storage_dtype(self.storage_dtype)

    @property
    def num_scales(self) -> int:
        return int(math.log2(self.stride // STEM)) + 1

    @property
    def vocab_size(self) -> int:
        return math.prod(self.levels)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), the last convolution started at zero so that a fresh block is the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(cast(Tensor, self.conv_out.bias))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(F.silu(self.conv_in(F.silu(x))))


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def zeroed(layer: Layer) -> Layer:
    """The layer, started at zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) -> unbounded latents z_e (B, D, h, w)."""

    def __init__(self, config: ImageTokenizerConfig):
        super().__init__()
        widths = config.widths
        self.linear = nn.Conv2d(3, len(config.levels), config.stride, stride=config.stride)
        self.fold = nn.PixelUnshuffle(STEM)
        self.stem = nn.Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        self.scales = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, config.encoder_blocks, strict=True))
        self.downs = nn.ModuleList(
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * fine, coarse, 1))
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = zeroed(nn.Conv2d(widths[-1], len(config.levels), 1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(self.fold(images))  # (B, widths[0], H/4, W/4)
        for scale, blocks in enumerate(self.scales):
            x = blocks(self.downs[scale - 1](x) if scale else x)
        return self.linear(images) + self.head(F.silu(x))  # (B, D, h, w)


class Decoder(nn.Module):
    """Latents (B, D, h, w) in (-1, 1) -> pictures (B, 3, H, W), not clamped."""

    def __init__(self, config: ImageTokenizerConfig):
        super().__init__()
        widths = config.widths
        self.linear = nn.ConvTranspose2d(len(config.levels), 3, config.stride, stride=config.stride)
        self.stem = nn.Conv2d(len(config.levels), widths[-1], 3, padding=1)
        self.scales = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, config.decoder_blocks, strict=True))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2))
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = zeroed(nn.Conv2d(widths[0], 3 * STEM**2, 3, padding=1))
        self.unfold = nn.PixelShuffle(STEM)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.stem(latents)  # (B, widths[-1], h, w)
        for scale in reversed(range(len(self.scales))):
            x = self.scales[scale](x)
            x = self.ups[scale - 1](x) if scale else x
        return self.linear(latents) + self.unfold(self.head(F.silu(x)))  # (B, 3, H, W)


class ImageTokenizer(nn.Module, Pretrained):
    """Pictures <-> ids and latents. Any size: sides that the stride does not divide are padded, and cropped back."""

    def __init__(self, config: ImageTokenizerConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantizer = ScalarQuantizer(config.levels)

    def deeper(self, config: ImageTokenizerConfig) -> "ImageTokenizer":
        """This tokenizer with more blocks, as `config` has them: new ones come after its own and change nothing yet.

        Raises:
            ValueError: it differs in more than that.
        """
        ours = replace(config, encoder_blocks=self.config.encoder_blocks, decoder_blocks=self.config.decoder_blocks)
        fewer = any(
            new < old
            for name in ("encoder_blocks", "decoder_blocks")
            for new, old in zip(getattr(config, name), getattr(self.config, name), strict=True)
        )
        if fewer or replace(ours, storage_dtype=self.config.storage_dtype) != self.config:
            raise ValueError(f"a tokenizer can get more blocks and nothing else, got {config} for {self.config}")
        deeper = ImageTokenizer(config)
        deeper.load_state_dict(deeper.state_dict() | self.state_dict())
        return deeper

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def fingerprint(self) -> str:
        """sha256 over class, format, config and the weights as they ship; ids are only good under the same one."""
        dtype = getattr(torch, self.config.storage_dtype)
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(self.config), self.state_dict(), dtype)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Pixels (H, W) -> codes (h, w)."""
        return -(-size[0] // self.config.stride), -(-size[1] // self.config.stride)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Training pass. Pictures (B, 3, H, W), sides divisible by the stride -> pictures, latents z_q (B, D, h, w)."""
        z_e = self.encoder(images)
        z_q = rearrange(self.quantizer(rearrange(z_e.float(), "B D h w -> B h w D")), "B h w D -> B D h w")
        return self.decoder(z_q), z_q

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), float32 in [-1, 1] -> int64 ids (B, h, w) in [0, vocab_size).

        Raises:
            ValueError: not a batch of RGB pictures in range.
        """
        return self.encode_unchecked(check_images(images))

    @torch.no_grad()
    def encode_unchecked(self, images: Tensor) -> Tensor:
        """As `encode`, of pictures that are sure to be in range: on a device, looking would mean waiting for it."""
        self.quantizer.check_ids()
        return self.quantizer.cells_to_ids(self.quantizer.cells(self.bounded(images)))

    def bounded(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> where the encoder would have the latents, u (B, h, w, D) in (-1, 1)."""
        stride = self.config.stride
        pad_h, pad_w = -images.shape[2] % stride, -images.shape[3] % stride
        z_e = self.encoder(F.pad(images, (0, pad_w, 0, pad_h), mode="replicate"))
        return self.quantizer.bound(rearrange(z_e, "B D h w -> B h w D"))

    @torch.no_grad()
    def encode_cells(self, images: Tensor) -> Tensor:
        """As `encode`, to int64 cells (B, h, w, D): codes have them however many there are."""
        return self.quantizer.cells(self.bounded(check_images(images)))

    @torch.no_grad()
    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, h, w) -> pictures (B, 3, H, W), float32 in [-1, 1], cropped to `size` = (H, W) if given.

        Raises:
            ValueError: ids out of range, or a size whose grid is not that of the ids.
        """
        if ids.ndim != 3:
            raise ValueError(f"ids must be (B, h, w), got {tuple(ids.shape)}")
        if size is not None:
            check_size(size, self.grid(size), ids)
        return self._decoded(self.quantizer.ids_to_latents(ids), size)

    @torch.no_grad()
    def decode_cells(self, cells: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """As `decode`, of int64 cells (B, h, w, D)."""
        if cells.ndim != 4 or cells.shape[3] != len(self.config.levels):
            raise ValueError(f"cells must be (B, h, w, {len(self.config.levels)}), got {tuple(cells.shape)}")
        if cells.dtype != torch.int64 or bool(((cells < 0) | (cells >= self.quantizer.levels)).any()):
            raise ValueError(f"cells must be int64 below the levels {self.config.levels}, got {cells.dtype}")
        if size is not None:
            check_size(size, self.grid(size), cells[..., 0])
        return self._decoded(self.quantizer.midpoints(cells), size)

    def _decoded(self, latents: Tensor, size: tuple[int, ...] | None) -> Tensor:
        return crop(self.decoder(rearrange(latents, "B h w D -> B D h w")).clamp(-1, 1), size)

    @torch.no_grad()
    def start_linear(self, images: Tensor, step: float | None = None) -> None:
        """Set the two linear maps to the best linear code of `images` (N, 3, H, W): PCA in, least squares out.

        The cells of each axis hold as many squares one as another; or, for codes of which likely ones will cost less
        than others, the cells near the mean are `step` wide on every axis that has enough of them, in the length of a
        vector of pixels.
        """
        side = self.config.stride
        squares = rearrange(images, "N C (h p) (w q) -> (N h w) (C p q)", p=side, q=side)
        axes = principal_axes(squares, len(self.config.levels))
        weight, bias = unit_projection(squares, axes)
        if step is not None:
            wide = 2 / SLOPE / self.quantizer.levels / step  # axes times this have cells of `step`
            weight *= (wide / weight.norm(dim=0)).clamp(max=1)
            bias = -squares.mean(0) @ weight
        back, back_bias = least_squares(self.quantizer(squares @ weight + bias), squares)
        self.encoder.linear.weight.copy_(rearrange(weight, "(C p q) D -> D C p q", C=3, p=side))
        cast(Tensor, self.encoder.linear.bias).copy_(bias)
        self.decoder.linear.weight.copy_(rearrange(back, "D (C p q) -> D C p q", C=3, p=side))
        per_channel = rearrange(back_bias, "(C s) -> C s", C=3).mean(1)  # the bias knows no place in the square
        cast(Tensor, self.decoder.linear.bias).copy_(per_channel)
