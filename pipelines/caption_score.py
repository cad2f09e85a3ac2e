"""How often a caption that a model writes is true of what it saw, on fresh scenes and their clips.

A caption counts when it is one of the built-in world's and the detector finds exactly what it says.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from ..data.media import from_uint8
from .media_to_text import MediaToTextPipeline
from .text_to_image import BATCH
from .worlds import SCENES, World


@dataclass(frozen=True)
class Written:
    """One example: the caption it was drawn from, the one that the model wrote, and whether that is true."""

    kind: str
    drawn_from: str
    text: str
    true: bool


def write_captions(pipeline: MediaToTextPipeline, per_kind: int, seed: int, world: World = SCENES) -> list[Written]:
    """The captions of `per_kind` fresh scenes or clips of each kind, others for every `seed`."""
    generator = torch.Generator().manual_seed(seed)
    size = pipeline.pictures.image_size[0]
    examples = [world.example(generator, kind, size) for kind in world.kinds for _ in range(per_kind)]
    texts: list[str] = []
    for start in range(0, len(examples), BATCH):
        pixels = np.stack([drawn for _, drawn in examples[start : start + BATCH]])
        texts += pipeline(from_uint8(rearrange(torch.from_numpy(pixels), "N ... H W C -> N C ... H W")))
    written = []
    for text, (request, drawn) in zip(texts, examples, strict=True):
        said = world.parse(text)
        written.append(Written(request.kind, request.text, text, said is not None and world.check(said, drawn)))
    return written


def true_shares(written: list[Written]) -> dict[str, float]:
    """Share of true captions of each kind, and "overall", the plain mean of the kinds."""
    kinds = {row.kind: [other.true for other in written if other.kind == row.kind] for row in written}
    shares = {kind: sum(verdicts) / len(verdicts) for kind, verdicts in kinds.items()}
    return shares | {"overall": sum(shares.values()) / len(shares)}
