"""Losses, as functions of tensors.

Reconstruction of pictures is judged by squared error, which JPEG and PSNR share, absolute error, which keeps flat areas
flat, and a perceptual term that needs no network and no download: absolute error of horizontal and vertical
differences at several scales, since eyes and shape detectors both look at edges. Of clips, also of what moves.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def edge_loss(images: Tensor, targets: Tensor, *, num_scales: int = 3) -> Tensor:
    """Mean absolute error of the gradients of (B, C, H, W) pictures, averaged over scales 1, 1/2, 1/4, ...

    Scales at which a side would be a single pixel are left out; sides are at least 2.
    """
    error = images - targets
    totals = []
    while True:
        totals.append(error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean())
        if len(totals) == num_scales or min(error.shape[2:]) < 4:
            return torch.stack(totals).mean()
        error = F.avg_pool2d(error, 2)


def reconstruction_loss(images: Tensor, targets: Tensor, *, absolute: float, edges: float) -> Tensor:
    """Mean squared error + `absolute` x mean absolute error + `edges` x `edge_loss`, of (B, C, H, W) in [-1, 1]."""
    loss = F.mse_loss(images, targets) + absolute * F.l1_loss(images, targets)
    return loss + edges * edge_loss(images, targets) if edges else loss


def motion_loss(clips: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbouring frames of (B, C, T, H, W): what is seen as flicker.

    Clips of one frame do not move: 0.
    """
    return F.l1_loss(clips.diff(dim=2), targets.diff(dim=2)) if clips.shape[2] > 1 else clips.new_zeros(())
