"""How near a picture is to another: PSNR and SSIM, on the scale of 8-bit pictures' users (decibels, and 0 to 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_K1, _K2, _WINDOW, _SIGMA = 0.01, 0.03, 11, 1.5  # constants of the SSIM paper


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture: (B, C, H, W) in [-1, 1] twice -> (B,), at most 100."""
    squared = (images - targets).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(4 / squared.clamp(min=4e-10))  # the peak is 2, from -1 to 1


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each picture (Wang et al. 2004): (B, C, H, W) in [-1, 1] twice -> (B,).

    Gaussian window of 11 pixels and deviation 1.5, valid positions only, mean over channels and positions.
    """
    if min(images.shape[2:]) < _WINDOW:
        raise ValueError(f"SSIM needs sides of at least {_WINDOW} pixels, got {tuple(images.shape[2:])}")
    offsets = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    line = torch.softmax(-(offsets**2) / (2 * _SIGMA**2), dim=0)
    channels = images.shape[1]

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, line.expand(channels, 1, 1, _WINDOW), groups=channels)
        return F.conv2d(x, line.view(_WINDOW, 1).expand(channels, 1, _WINDOW, 1), groups=channels)

    mean_x, mean_y = blur(images), blur(targets)
    var_x, var_y = blur(images**2) - mean_x**2, blur(targets**2) - mean_y**2
    covariance = blur(images * targets) - mean_x * mean_y
    c1, c2 = (2 * _K1) ** 2, (2 * _K2) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean(dim=(1, 2, 3))
