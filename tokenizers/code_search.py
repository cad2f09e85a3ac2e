"""Codes of pictures by search: what the encoder guesses, improved for the picture at hand.

The encoder sees a picture once, but what counts is what the decoder makes of its codes, and that can be tried: gradient
steps on the latents lower the error of the decoded picture (content-adaptive encoding, Campos et al. 2019,
arXiv:1906.01223), straight through the rounding, as in training. Each step costs a pass through the decoder and back.
It is for keeping pictures, not for training on their codes: what suits one picture best is less regular.

B pictures, D latent dimensions, h w grid of codes.
"""

import math

import torch
from einops import rearrange, reduce
from torch import Tensor

from .image import ImageTokenizer
from .protocol import check_images

RATE = 0.02  # of Adam's first step; latents lie in (-1, 1)


def search_codes(tokenizer: ImageTokenizer, images: Tensor, *, steps: int) -> Tensor:
    """Pictures (B, 3, H, W), float32 in [-1, 1] -> int64 ids (B, h, w): the best that were met in so many steps.

    Of no picture the squared error is larger than with the ids of `encode`, which are where the search begins.

    Raises:
        ValueError: not a batch of RGB pictures in range, or a negative number of steps.
    """
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    images, quantizer = check_images(images), tokenizer.quantizer
    height, width = images.shape[2:]
    best = tokenizer.encode(images)
    with torch.no_grad():
        u = tokenizer.bounded(images)
    smallest = torch.full((len(images),), math.inf, device=images.device)
    u.requires_grad_()
    optimizer = torch.optim.Adam([u], lr=RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for step in range(steps + 1):
        with torch.enable_grad():
            rounded = u + (quantizer.midpoints(quantizer.cells(u)) - u).detach()
            decoded = tokenizer.decoder(rearrange(rounded, "B h w D -> B D h w"))[..., :height, :width].clamp(-1, 1)
            errors = reduce((decoded - images).square(), "B C H W -> B", "mean")
            total = errors.sum()
        found = errors.detach()
        better = found < smallest
        smallest = torch.where(better, found, smallest)
        best = torch.where(better[:, None, None], quantizer.latents_to_ids(u.detach()), best)
        if step < steps:
            (u.grad,) = torch.autograd.grad(total, u)
            optimizer.step()
            schedule.step()
    return best
