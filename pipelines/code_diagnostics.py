"""What a learned tokenizer does with its codes: how many it uses, how evenly, and what that means for a generator."""

import math

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..tokenizers.scalar_quantizer import ScalarQuantizer


def code_usage(ids: Tensor, num_codes: int) -> tuple[float, float]:
    """How many of `num_codes` codes occur in `ids`, of any shape, and how many bits one holds: their entropy."""
    counts = torch.bincount(ids.flatten(), minlength=num_codes).double()
    shares = counts / counts.sum()
    return float((counts > 0).sum()), float(-(shares * shares.clamp(min=1e-12).log2()).sum())


def code_scores(ids: Tensor, quantizer: ScalarQuantizer) -> tuple[dict[str, float], Tensor]:
    """Codes in use and bits per code (the entropy) of `ids`, and the share of each level: (D, max L)."""
    in_use, bits = code_usage(ids, quantizer.num_codes)
    scores = {"codes_in_use": in_use, "bits_per_code": bits}
    cells = quantizer.cells(quantizer.ids_to_latents(ids)).flatten(0, -2)
    most = int(quantizer.levels.max())
    return scores, torch.stack([torch.bincount(c, minlength=most) for c in cells.T]) / len(cells)


def level_histogram(levels: Tensor) -> Image.Image:
    """A picture of bars: one row per FSQ dimension, the height of bar i the share (0 to 1) of its level i."""
    bar, height, gap = 12, 60, 8
    rows, columns = levels.shape
    sheet = Image.new("RGB", (columns * (bar + 2) + 2 * gap, rows * (height + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for row, shares in enumerate(levels.tolist()):
        foot = gap + row * (height + gap) + height
        draw.line([(gap, foot), (gap + columns * (bar + 2), foot)], fill="gray")
        for column, share in enumerate(shares):
            left = gap + column * (bar + 2)
            draw.rectangle([left, foot - share * height, left + bar, foot], fill=(45, 80, 220))
    return sheet


def entropy_cliff(num_examples: int, num_codes: int) -> int:
    """t* = ceil(log2 N / log2 K) (arXiv:2605.06207): codes that suffice to tell N examples apart.

    After so many codes an autoregressive model can know a training example by heart.
    """
    return math.ceil(math.log2(max(2, num_examples)) / math.log2(num_codes))
