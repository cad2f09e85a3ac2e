"""Text alone through the shared transformer: as a decoder, as an encoder, and as both.

B texts, L tokens, D width. A text is BEGIN and its tokens.

    decoder-only     write(text after `nothing`)      token by token: continues text (GPT)
    encoder-only     `encode` with role MASKED        every token sees every other: fills what is masked (BERT)
    encoder-decoder  `encode`, then write after it    reads as an encoder, writes as a decoder (T5), in one trunk

The three differ in masks and roles alone; there is no cross-attention: what is written attends to keys and values of
what was read as it does to its own (a prefix language model, arXiv:1910.10683, 3.2).
"""

import torch
from torch import Tensor

from ..tokenizers.sequence import text_positions
from .attention import KVCache
from .masks import segment_mask
from .transformer import Role, SharedTransformer


def nothing(model: SharedTransformer, count: int) -> KVCache:
    """What was read before a text that stands alone: the cache of `count` sequences of no tokens."""
    config, weight = model.config, model.embedding.weight
    empty = [weight.new_zeros(count, config.num_heads, 0, config.head_dim) for _ in range(config.num_layers)]
    start = torch.zeros(count, dtype=torch.long, device=weight.device)
    return KVCache(empty, empty, torch.ones_like(empty[0][:, 0, :, 0], dtype=torch.bool), start, start[:0])


def encode(model: SharedTransformer, ids: Tensor, real: Tensor, role: Role = Role.GIVEN) -> tuple[Tensor, KVCache]:
    """Texts in which every token sees every other: shared ids int64 (B, L), `real` bool (B, L), false where padded.

    Returns hidden tokens (B, L, D), and the cache after which `SharedTransformer.write` goes on, from its `start`.
    """
    time = torch.zeros(len(ids), device=ids.device)
    causal = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    mask = segment_mask(real[:, :0], causal, ids.shape[1], real=real)
    modulation = model.modulation(time, torch.full_like(ids[:, 0], role))
    positions = text_positions(ids.shape[1], device=ids.device)
    hidden, cache = model.trunk(model.embedding(ids), positions, modulation, mask)
    cache.mask, cache.start = real, real.sum(1)
    return hidden, cache
