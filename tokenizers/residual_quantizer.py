"""Residual finite scalar quantization: several codes that tell one latent ever more finely (FSQ, arXiv:2309.15505).

D dimensions, K levels of refinement, L_kd cells into which level k cuts a cell of level k - 1 in dimension d (1: it
says nothing of d), u a bounded coordinate in (-1, 1). After k levels dimension d is cut into P_kd = L_1d ... L_kd equal
cells, and the latent is the midpoint (2 n + 1 - P_kd) / P_kd of the cell n in which u lies. So cells nest: the codes of
the first k levels are a code of their own, and what level k adds to the latent is what the quantizer of the residual,
(2 i + 1 - L_kd) / L_kd of the width of the cell before, would add. A level's id is the number whose digits are its i,
dimension 0 the least.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .protocol import check_in_codebook
from .scalar_quantizer import MAX_CELLS, MAX_CODES


def falling_levels(*, dims: int, bits: Sequence[int], exponent: float = 1.7) -> tuple[tuple[int, ...], ...]:
    """Levels (K, D), of 2^bits[k] codes each, for dimensions whose variance falls as d^-exponent, d = 1, 2, ...

    Bit by bit the dimension with the largest expected error is halved, which divides that error by 4: the allocation of
    rate-distortion theory ("reverse water-filling") for components of a Karhunen-Loeve transform. Log-mel spectra of
    speech fall with an exponent of 1.7.
    """
    errors = [(d + 1.0) ** -exponent for d in range(dims)]
    levels = [[1] * dims for _ in bits]
    for level, count in zip(levels, bits, strict=True):
        for _ in range(count):
            worst = max(range(dims), key=errors.__getitem__)
            level[worst] *= 2
            errors[worst] /= 4
    return tuple(tuple(level) for level in levels)


class ResidualQuantizer(nn.Module):
    """Residual FSQ with `levels[k][d]` cells; all levels have equally many codes. Holds no weights."""

    levels: Tensor
    strides: Tensor
    cells: Tensor

    def __init__(self, levels: tuple[tuple[int, ...], ...]):
        super().__init__()
        codes = {math.prod(level) for level in levels}
        if len({len(level) for level in levels}) != 1 or len(codes) != 1 or not 1 < min(codes) <= MAX_CODES:
            raise ValueError(f"levels must be K x D with the same 2 to {MAX_CODES} codes each, got {levels}")
        if min(map(min, levels)) < 1:
            raise ValueError(f"a level cuts a cell into at least 1, got {levels}")
        table = torch.tensor(levels)
        if int(table.prod(0).max()) > MAX_CELLS:
            raise ValueError(f"a dimension can be cut into {MAX_CELLS} cells at most, got {table.prod(0).tolist()}")
        self.num_codes, self.num_codebooks = min(codes), len(levels)
        self.register_buffer("levels", table, persistent=False)  # (K, D)
        self.register_buffer("strides", table.cumprod(1) // table, persistent=False)  # (K, D)
        self.register_buffer("cells", table.cumprod(0), persistent=False)  # P, (K, D)

    def bound(self, z: Tensor) -> Tensor:
        """Real z (..., D) -> u (..., D) in (-1, 1), as in scalar_quantizer.py."""
        return 2 * torch.sigmoid(1.6 * z) - 1

    def forward(self, z: Tensor, num_levels: Tensor | None = None) -> Tensor:
        """Real z (B, ..., D) -> latents (B, ..., D) on the grid; the gradient passes straight through to the bound.

        `num_levels`, int64 (B,) in [1, K], says how many levels each example has; default: all. Where these say nothing
        of a dimension, its latent is 0 and has no gradient.
        """
        cells = self.cells[-1] if num_levels is None else self.cells[num_levels - 1]  # (D,) or (B, D)
        if num_levels is not None:
            cells = cells.reshape(len(z), *(1,) * (z.ndim - 2), -1)
        u = self.bound(z)
        return (u + (_midpoints(_inside(u, cells), cells) - u).detach()) * (cells > 1)

    def latents_to_ids(self, latents: Tensor) -> Tensor:
        """Latents (..., D) in [-1, 1] -> int64 ids (..., K). Those of the first k levels alone are ids[..., :k]."""
        inside = _inside(latents, self.cells[-1]).unsqueeze(-2)  # (..., 1, D)
        digits = inside // (self.cells[-1] // self.cells) % self.levels  # (..., K, D)
        return (digits * self.strides).sum(-1)

    def ids_to_latents(self, ids: Tensor) -> Tensor:
        """Int64 ids (..., k) in [0, num_codes) of the first k <= K levels -> float32 latents (..., D).

        Raises:
            ValueError: an id lies outside the codebook, or there are more levels than K.
        """
        k = ids.shape[-1]
        if not 1 <= k <= self.num_codebooks:
            raise ValueError(f"ids must be of 1 to {self.num_codebooks} levels, got {k}")
        digits = (
            check_in_codebook(ids, self.num_codes).unsqueeze(-1) // self.strides[:k] % self.levels[:k]
        )  # (..., k, D)
        inside = (digits * (self.cells[k - 1] // self.cells[:k])).sum(-2)
        return _midpoints(inside, self.cells[k - 1])


def _inside(u: Tensor, cells: Tensor) -> Tensor:
    """The cell, of so many in a dimension, in which u lies; what lies outside goes to the end cell."""
    inside = ((u + 1) / 2 * cells).floor()
    return inside.clamp(min=torch.zeros_like(cells), max=cells - 1).long()


def _midpoints(inside: Tensor, cells: Tensor) -> Tensor:
    return (2 * inside + 1 - cells) / cells
