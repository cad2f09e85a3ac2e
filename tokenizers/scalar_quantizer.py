"""Finite scalar quantization: one code that is an id and a latent at once (FSQ, arXiv:2309.15505, sec. 3).

D dimensions, L levels of a dimension, u a bounded coordinate in (-1, 1). The bound is 2 sigmoid(1.6 z) - 1 (iFSQ,
arXiv:2601.17124): close to the Gaussian's distribution function, so unit-normal z spreads evenly over the cells.
Dimension d is cut into L_d equal cells; a cell's latent is its midpoint (2 i + 1 - L) / L. An id is the number whose
digits are the cells, dimension 0 the least: id = sum_d i_d prod_{e<d} L_e. Where there are more than `MAX_CODES` codes
they have no ids: that is for files, whose codes are told cell by cell, and not for models.
"""

import math

import torch
from torch import Tensor, nn

from .protocol import check_in_codebook

MAX_CODES = 1 << 24
MAX_CELLS = 1 << 20  # of a dimension: float32 tells their midpoints apart
SLOPE = 0.8  # of the bound at 0


class ScalarQuantizer(nn.Module):
    """FSQ with `levels[d]` cells in dimension d. Holds no weights: nothing to collapse, nothing to train."""

    levels: Tensor
    strides: Tensor

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        if not levels or not 2 <= min(levels) <= max(levels) <= MAX_CELLS:
            raise ValueError(f"every dimension needs at least 2 levels and at most {MAX_CELLS}, got {levels}")
        self.num_codes = math.prod(levels)
        strides = [math.prod(levels[:d]) if self.has_ids else 0 for d in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    @property
    def has_ids(self) -> bool:
        return self.num_codes <= MAX_CODES

    def check_ids(self) -> None:
        """Refuse to number the codes where they are too many.

        Raises:
            ValueError: they are.
        """
        if not self.has_ids:
            raise ValueError(
                f"at most {MAX_CODES} codes can have ids, got 2^{math.log2(self.num_codes):.0f} from levels "
                f"{tuple(self.levels.tolist())}; use fewer"
            )

    def bound(self, z: Tensor) -> Tensor:
        """Real z (..., D) -> u (..., D) in (-1, 1)."""
        return 2 * torch.sigmoid(2 * SLOPE * z) - 1

    def cells(self, u: Tensor) -> Tensor:
        """Bounded u (..., D) -> int64 cells (..., D), cell d in [0, L_d); what lies outside goes to the end cell."""
        cells = ((u + 1) / 2 * self.levels).floor()
        return cells.clamp(min=torch.zeros_like(self.levels), max=self.levels - 1).long()

    def midpoints(self, cells: Tensor) -> Tensor:
        """Int64 cells (..., D) -> float32 latents (..., D) in (-1, 1)."""
        return (2 * cells + 1 - self.levels) / self.levels

    def forward(self, z: Tensor) -> Tensor:
        """Real z (..., D) -> latents (..., D) on the grid; the gradient passes straight through to the bound."""
        u = self.bound(z)
        return u + (self.midpoints(self.cells(u)) - u).detach()

    def cells_to_ids(self, cells: Tensor) -> Tensor:
        """Int64 cells (..., D) -> int64 ids (...)."""
        self.check_ids()
        return (cells * self.strides).sum(-1)

    def ids_to_cells(self, ids: Tensor) -> Tensor:
        """Int64 ids (...) in [0, num_codes) -> int64 cells (..., D).

        Raises:
            ValueError: an id lies outside the codebook.
        """
        self.check_ids()
        return self._cells_of(check_in_codebook(ids, self.num_codes))

    def latents_to_ids(self, latents: Tensor) -> Tensor:
        """Latents (..., D), on the grid or near it -> int64 ids (...) of the nearest midpoints."""
        return self.cells_to_ids(self.cells(latents))

    def ids_to_latents(self, ids: Tensor) -> Tensor:
        """Int64 ids (...) in [0, num_codes) -> float32 latents (..., D); as `ids_to_cells`."""
        return self.midpoints(self.ids_to_cells(ids))

    def codebook(self) -> Tensor:
        """Every latent in the order of the ids: float32 (num_codes, D)."""
        self.check_ids()
        return self.midpoints(self._cells_of(torch.arange(self.num_codes, device=self.levels.device)))

    def _cells_of(self, ids: Tensor) -> Tensor:
        return ids.unsqueeze(-1) // self.strides % self.levels
