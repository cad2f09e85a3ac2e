"""How often a picture shows what was asked, on scenes: of models, and of image tokenizers alone.

The detector judges pictures of fresh prompts, of each of the six kinds. A tokenizer is judged by scenes that it encodes
and decodes: no model on its codes can be expected to score higher.
"""

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..data.media import to_uint8
from ..data.scene_detector import score
from ..data.scenes import KINDS, draw_example, render
from ..tokenizers.image import ImageTokenizer

BATCH = 64  # scenes at once


@torch.no_grad()
def score_reconstructions(tokenizer: ImageTokenizer, per_kind: int, seed: int, size: int = 64) -> dict[str, float]:
    """Share of drawn scenes that pass the detector after `tokenizer` encoded and decoded them: per kind, and "overall".

    The scenes are `size` x `size` pixels, `per_kind` of each kind, fresh ones for every `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(tokenizer.parameters()).device
    examples = [draw_example(generator, kind) for kind in KINDS for _ in range(per_kind)]
    pixels = torch.from_numpy(np.stack([render(scene, size) for _, scene in examples]))
    pictures = rearrange(pixels, "N H W C -> N C H W").float() / 127.5 - 1
    decoded = [tokenizer.decode(tokenizer.encode(batch.to(device)), (size, size)) for batch in pictures.split(BATCH)]
    return score([request for request, _ in examples], as_arrays(torch.cat(decoded)))


def as_arrays(pictures: Tensor) -> np.ndarray:
    """Pictures (N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3), as the detector reads them."""
    return rearrange(to_uint8(pictures), "N C H W -> N H W C").cpu().numpy()
