"""How likely each code of a picture is after those before it: a file then spends few bits on what could be foretold.

A context model (arXiv:1809.02736, without its hyperprior): squares come row by row, and a small network looks at twelve
of them, two to the left and ten above. The dimensions of a code are told in groups, each after those before it, and
each is a logistic distribution cut at the borders of the quantizer's cells (arXiv:1701.05517, eq. 2, of one component).

B pictures, D latent dimensions, h w grid of codes, L levels of a dimension. Latents lie on the quantizer's grid.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pretrained import Pretrained, check_storage_dtype
from .scalar_quantizer import ScalarQuantizer

ABOVE, LEFT = 2, 2  # rows above that are seen, each as far to the left and the right, and codes to the left
SCALES = (-8.0, 2.0)  # least and greatest logarithm to base 2 of a distribution's scale
FAR = 1e4  # beyond every border
FLOOR = 2.0**-20  # the least probability of a cell: a coder must be able to say anything


@dataclass(frozen=True, kw_only=True)
class EntropyModelConfig:
    levels: tuple[int, ...]  # FSQ cells per dimension, as of the tokenizer
    width: int = 112
    num_groups: int = 4  # of dimensions, if there are so many
    storage_dtype: str = "float32"  # type of the weights on disk

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))  # JSON gives lists
        if self.width < 1 or self.num_groups < 1:
            raise ValueError(f"width and num_groups must be at least 1, got {self.width} and {self.num_groups}")
        check_storage_dtype(self.storage_dtype)

    @property
    def groups(self) -> tuple[range, ...]:
        """The dimensions of each group."""
        count = min(self.num_groups, len(self.levels))
        ends = [len(self.levels) * n // count for n in range(count + 1)]
        return tuple(range(*pair) for pair in zip(ends[:-1], ends[1:], strict=True))


class EntropyModel(nn.Module, Pretrained):
    """Probabilities of the codes of pictures, square by square."""

    def __init__(self, config: EntropyModelConfig):
        super().__init__()
        self.config = config
        self.quantizer = ScalarQuantizer(config.levels)
        width = config.width
        channels = len(config.levels) + 1  # the last says where there is a picture
        self.above = nn.Conv2d(channels, width, (ABOVE, 2 * ABOVE + 1))
        self.left = nn.Conv2d(channels, width, (1, LEFT), bias=False)
        self.mix = nn.Conv2d(width, width, 1)
        self.inner = nn.ModuleList(nn.Conv2d(width + group.start, width, 1) for group in config.groups)
        self.heads = nn.ModuleList(nn.Conv2d(width, 2 * len(group), 1) for group in config.groups)
        for head in self.heads:
            bias = cast(Tensor, head.bias)
            nn.init.zeros_(cast(Tensor, head.weight))
            nn.init.constant_(bias[: len(bias) // 2], 0.0)
            nn.init.constant_(bias[len(bias) // 2 :], -2.0)

    def distributions(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D, h, w) -> mean and logarithm to base 2 of the scale of each, from those before it alone."""
        height, width = latents.shape[2:]
        x = F.pad(latents, (0, 0, 0, 0, 0, 1), value=1.0)  # (B, D + 1, h, w)
        above = self.above(F.pad(x, (ABOVE, ABOVE, ABOVE, 0)))[:, :, :height]
        left = self.left(F.pad(x, (LEFT, 0)))[:, :, :, :width]
        seen = F.relu(self.mix(F.relu(above + left)))  # (B, width, h, w)
        found = [
            head(F.relu(inner(torch.cat([seen, latents[:, : group.start]], dim=1)))).chunk(2, dim=1)
            for group, inner, head in zip(self.config.groups, self.inner, self.heads, strict=True)
        ]
        means, scales = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return means, scales.clamp(*SCALES)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, D, h, w) -> bits of each (B, D, h, w), with a gradient to what is told and what it is told by."""
        means, scales = self.distributions(latents)
        levels = self.quantizer.levels[:, None, None].to(latents)
        off, half = latents.float() - means.float(), 1 / levels  # half a cell
        inverse = torch.exp2(-scales.float())
        side = torch.where(off > 0, -1.0, 1.0)  # the tail that holds small numbers well
        upper = (off + half).masked_fill(latents > 1 - 2 * half, FAR) * inverse  # end cells have no outer border
        lower = (off - half).masked_fill(latents < 2 * half - 1, -FAR) * inverse
        share = (torch.sigmoid(side * upper) - torch.sigmoid(side * lower)).abs()
        return -torch.log2(share * (1 - levels * FLOOR) + FLOOR)
