"""Rotary positions in three axes: time, row, column (RoFormer, arXiv:2104.09864; axial as in arXiv:2403.13298).

A head's channel pairs are dealt to the axes in turn, so each axis sees fast and slow rotations. Text sits on the
diagonal (p, p, p), where the three axes together are the one-dimensional rotary embedding. Who sits where is said in
tokenizers/sequence.py.
"""

import torch
from torch import Tensor

AXES = 3
BASE = 1_000.0


def rotary_table(positions: Tensor, head_dim: int) -> Tensor:
    """Positions (..., L, 3) -> float32 (..., L, head_dim / 2, 2): cosine and sine of every pair's angle."""
    pairs = head_dim // 2
    frequencies = BASE ** -(torch.arange(pairs, device=positions.device) / pairs)  # (head_dim / 2,)
    axis = torch.arange(pairs, device=positions.device) % AXES
    angles = positions[..., axis].float() * frequencies  # (..., L, head_dim / 2)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair of x (B, heads, L, head_dim) by its angle; `table` is (L or B L, head_dim / 2, 2) from above."""
    cosine, sine = table.unsqueeze(-4).unbind(-1)  # (..., 1, L, head_dim / 2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
