"""The best linear codes of given vectors, as a start for learned ones: Karhunen-Loeve in, least squares out.

N vectors of P numbers, D latent dimensions. An encoder and a decoder hold a linear map each beside their networks, to
latents and back; the networks start at zero and learn what is left.
"""

import torch
from torch import Tensor


@torch.no_grad()
def principal_axes(vectors: Tensor, dims: int) -> Tensor:
    """The `dims` orthogonal directions in which `vectors` (N, P) vary most, as columns (P, D), the greatest first."""
    centered = vectors - vectors.mean(0)
    _, axes = torch.linalg.eigh(centered.T @ centered / len(vectors))
    return axes[:, -dims:].flip(1)


@torch.no_grad()
def unit_projection(vectors: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (P, D) and bias (D,) that project `vectors` (N, P) on the axes with mean 0 and variance 1.

    So spread, they fall evenly into the cells of the quantizer.
    """
    mean = vectors.mean(0)
    variances = ((vectors - mean) @ axes).square().mean(0)
    weight = axes / variances.clamp(min=1e-6).sqrt()
    return weight, -mean @ weight


@torch.no_grad()
def least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (P, Q) and bias (Q,) with which x (N, P) comes nearest to y (N, Q)."""
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones_like(x[:, :1])], dim=1), y).solution
    return solution[:-1], solution[-1]
