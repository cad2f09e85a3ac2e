"""What is done to data before a decoder learns to undo it: masking and noising. Time 1 hides everything, 0 nothing."""

import torch
from torch import Tensor


def mask_ids(ids: Tensor, masked_share: Tensor, order: Tensor, mask_id: int) -> tuple[Tensor, Tensor]:
    """Replace a share of each row's ids by MASK, at least one.

    `ids` int64 (B, N); `masked_share` (B,) in [0, 1]; `order` (B, N) any numbers: the smallest are masked first.
    Returns the corrupted ids and bool (B, N), true where masked.
    """
    counts = (masked_share * ids.shape[1]).round().clamp(min=1)
    hidden = order.argsort(dim=1).argsort(dim=1) < counts[:, None]
    return ids.masked_fill(hidden, mask_id), hidden


def add_noise(latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t = (1 - t) x + t noise (rectified flow, arXiv:2209.03003): latents and noise (B, ...), time (B,) in [0, 1]."""
    t = time.view(-1, *[1] * (latents.ndim - 1))
    return torch.lerp(latents, noise, t)
