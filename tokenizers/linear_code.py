"""The best linear code of given vectors, as a start for learned ones: Karhunen-Loeve in, least squares out.

N vectors of P numbers, D latent dimensions. An encoder and a decoder hold a linear map each beside their networks, to
latents and back; the networks start at zero and learn what is left.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .scalar_quantizer import ScalarQuantizer


class LinearCode(NamedTuple):
    """z = x @ into + into_bias, and x is about z_q @ back + back_bias."""

    into: Tensor  # (P, D)
    into_bias: Tensor  # (D,)
    back: Tensor  # (D, P)
    back_bias: Tensor  # (P,)


@torch.no_grad()
def best_linear_code(vectors: Tensor, quantizer: ScalarQuantizer) -> LinearCode:
    """PCA of `vectors` (N, P), scaled to unit variance, which spreads evenly over the quantizer's cells; and back."""
    dims = len(quantizer.levels)
    mean = vectors.mean(0)
    variances, axes = torch.linalg.eigh((vectors - mean).T @ (vectors - mean) / len(vectors))
    axes = axes[:, -dims:].flip(1) / variances[-dims:].flip(0).clamp(min=1e-6).sqrt()
    z = quantizer((vectors - mean) @ axes)
    z = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
    back = torch.linalg.lstsq(z, vectors).solution  # (D + 1, P)
    return LinearCode(axes, -mean @ axes, back[:-1], back[-1])
