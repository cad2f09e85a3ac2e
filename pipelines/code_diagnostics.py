"""What a learned tokenizer does with its codes: how many it uses, how evenly, and what that means for a generator."""

import math

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..tokenizers.scalar_quantizer import ScalarQuantizer


def code_usage(ids: Tensor) -> tuple[float, float]:
    """How many different codes occur in `ids`, of any shape, and how many bits one holds: their entropy."""
    counts = ids.unique(return_counts=True)[1].double()
    shares = counts / counts.sum()
    return float(len(counts)), float(-(shares * shares.log2()).sum())


def code_scores(cells: Tensor, quantizer: ScalarQuantizer) -> tuple[dict[str, float], Tensor]:
    """Of codes as cells (..., D): how many are in use and bits per code (the entropy), where they have ids; and the
    share of each level, (D, max L)."""
    scores = {}
    if quantizer.has_ids:
        in_use, bits = code_usage(quantizer.cells_to_ids(cells))
        scores = {"codes_in_use": in_use, "bits_per_code": bits}
    cells, most = cells.flatten(0, -2), int(quantizer.levels.max())
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
