"""A contrastive head on the shared transformer: a vector per text or medium, alike where they tell the same.

CLIP (arXiv:2103.00020) on hidden tokens that are there already. B segments, L tokens, K layers of width D, W the
head's own width, E the size of a vector. Texts and media have a tower each: a linear map to W, one transformer block
without positions (the hidden tokens know theirs), the mean over the tokens, a linear map to E, length 1. The
transformer itself is left as it is.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tokenizers.pretrained import Pretrained, check_storage_dtype
from .features import Features

MAX_SCALE = 100.0  # of cosines: beyond it, CLIP found training unstable


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    trunk_width: int = 192
    layers: tuple[int, ...] = (4,)  # of the trunk, whose hidden tokens are read: after so many blocks
    width: int = 96
    num_heads: int = 3
    num_blocks: int = 1  # of each tower; 0: the mean over the hidden tokens, and two linear maps
    embedding_size: int = 128
    storage_dtype: str = "float16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers or min(self.layers) < 1 or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers must be different numbers of at least 1, got {self.layers}")
        if self.num_blocks < 0 or self.embedding_size < 1:
            raise ValueError(
                f"num_blocks must be at least 0 and embedding_size 1, got {self.num_blocks} and {self.embedding_size}"
            )
        if self.width < 1 or self.num_heads < 1:
            raise ValueError(f"width and num_heads must be at least 1, got {self.width} and {self.num_heads}")
        if self.width % self.num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got {self.width} and {self.num_heads} heads")
        check_storage_dtype(self.storage_dtype)


class Tower(nn.Module):
    """Features of segments of one kind -> their vectors."""

    def __init__(self, config: ContrastiveConfig):
        super().__init__()
        self.enter = nn.Linear(len(config.layers) * config.trunk_width, config.width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.num_heads,
                2 * config.width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.num_blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, config.embedding_size, bias=False)

    def forward(self, features: Features) -> Tensor:
        """(B, L, K D) -> vectors (B, E) of length 1; padding counts for nothing."""
        x = self.enter(features.tokens)
        for block in self.blocks:
            x = block(x, src_key_padding_mask=~features.real)  # (B, L, W)
        share = features.real / features.real.sum(1, keepdim=True)
        return F.normalize(self.leave(torch.einsum("bld,bl->bd", self.norm(x), share)), dim=-1)


class ContrastiveHead(nn.Module, Pretrained):
    """A tower for texts, one for media, and how sharply their likeness tells one from another."""

    def __init__(self, config: ContrastiveConfig):
        super().__init__()
        self.config = config
        self.text = Tower(config)
        self.media = Tower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, text: Features, media: Features) -> Tensor:
        """Features of B texts and of B' media -> their scores (B, B')."""
        return self.scores(self.text(text), self.media(media))

    def scores(self, text: Tensor, media: Tensor) -> Tensor:
        """Vectors (B, E) and (B', E) -> logits (B, B'): their softmax over a row says which medium a text tells of."""
        return text @ media.T * self.log_scale.exp().clamp(max=MAX_SCALE)


def contrastive_loss(scores: Tensor, captions: Tensor) -> Tensor:
    """Mean of the cross-entropies of finding text i's medium i, and medium i's text i, in nats: InfoNCE both ways.

    `scores` (B, B) are logits, texts by media; `captions` int64 (B,) number the texts. Media whose text is the same
    are no wrong answers, and are left out.
    """
    own = torch.arange(len(scores), device=scores.device)
    same = captions[:, None] == captions[None, :]
    scores = scores.masked_fill(same & (own[:, None] != own), -torch.inf)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
