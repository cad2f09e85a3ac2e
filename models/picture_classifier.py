"""Classifier of pictures: which of many names does a picture go by? A small ResNet (arXiv:1512.03385).

B pictures, S pixels per side, C channels, N names. Names are compared by the cosine of a picture's features with a
direction for each (NormFace, arXiv:1704.06369), so that no name is likelier than others for the length of its vector.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tokenizers.pretrained import Pretrained, check_storage_dtype

GROUP = 16  # channels that are normalized together
SCALE = 20.0  # of cosines, which alone are too flat for many names


@dataclass(frozen=True, kw_only=True)
class PictureClassifierConfig:
    names: tuple[str, ...]
    name_pattern: str = "(.*)"  # regular expression that finds a name in a caption, as its first group
    size: int = 64  # pixels per side
    widths: tuple[int, ...] = (48, 96, 192)  # channels at 1/4, 1/8, 1/16 of the size, and so on
    num_blocks: tuple[int, ...] = (2, 2, 2)
    storage_dtype: str = "float32"  # type of the weights on disk

    def __post_init__(self) -> None:
        for name in ("names", "widths", "num_blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(set(self.names)) < max(2, len(self.names)):
            raise ValueError(f"names must be at least 2, each another, got {len(self.names)}")
        if not self.widths or len(self.widths) != len(self.num_blocks) or min(self.num_blocks) < 1:
            raise ValueError(f"each width needs a number of blocks, got {self.widths} and {self.num_blocks}")
        if any(width < 1 or width % GROUP for width in self.widths):
            raise ValueError(f"widths must be multiples of {GROUP}, got {self.widths}")
        if self.size < 2 ** (len(self.widths) + 1):
            raise ValueError(f"size must be at least {2 ** (len(self.widths) + 1)} pixels, got {self.size}")
        check_storage_dtype(self.storage_dtype)


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))) for x (B, C, h, w) (arXiv:1603.05027)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(width // GROUP, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(width // GROUP, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PictureClassifier(nn.Module, Pretrained):
    def __init__(self, config: PictureClassifierConfig):
        super().__init__()
        self.config = config
        width = config.widths[0] // 2
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, stride=2, padding=1)]
        for wider, count in zip(config.widths, config.num_blocks, strict=True):
            layers += [nn.Conv2d(width, wider, 3, stride=2, padding=1), *(Block(wider) for _ in range(count))]
            width = wider
        self.layers = nn.Sequential(*layers, nn.GroupNorm(width // GROUP, width), nn.SiLU())
        self.directions = nn.Parameter(torch.randn(len(config.names), width) * width**-0.5)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> logits (B, N) over the names.

        Raises:
            ValueError: they are of another size.
        """
        size = self.config.size
        if tuple(pictures.shape[1:]) != (3, size, size):
            raise ValueError(f"pictures must be (B, 3, {size}, {size}), got {tuple(pictures.shape)}; scale them")
        features = self.layers(pictures).mean((2, 3))
        return SCALE * F.normalize(features.float(), dim=1) @ F.normalize(self.directions.float(), dim=1).T

    @torch.no_grad()
    def ranked(self, pictures: Tensor, count: int) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> numbers of the likeliest names of each, int64 (B, count)."""
        return self(pictures).topk(min(count, len(self.config.names))).indices
