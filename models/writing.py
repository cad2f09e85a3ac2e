"""Text after pictures: one token after the other until END, by the head that shares its weights with the embedding.

B texts, L tokens at most, D width. What is seen is read once; every token adds its keys and values to it.
"""

import torch
from torch import Tensor

from .attention import KVCache
from .sampling import sample
from .transformer import SharedTransformer


@torch.no_grad()
def write(
    model: SharedTransformer,
    seen: KVCache,
    start: Tensor,
    uniforms: Tensor,
    *,
    num_tokens: int,
    temperature: float = 0.0,
) -> list[list[int]]:
    """Text ids of B texts about what is `seen`, from position `start` (B,) on: both as `SharedTransformer.see` says.

    `uniforms` (B, L) in [0, 1) decide every draw, and how long a text may become; temperature 0 takes the likeliest.
    The text tokenizer has `num_tokens` tokens; the model may have room for more.
    """
    begin, end = model.vocabulary.special("begin"), model.vocabulary.special("end")
    ids = torch.full((len(uniforms), 1), begin, device=uniforms.device)
    written = torch.empty(len(uniforms), 0, dtype=torch.long, device=uniforms.device)
    for number, uniform in enumerate(uniforms.unbind(1)):
        hidden, seen = model.write(ids, start + number, seen)
        ids = sample(model.text_logits(hidden[:, -1], num_tokens), uniform, temperature=temperature).unsqueeze(1)
        written = torch.cat([written, ids], dim=1)
        if bool((written == end).any(1).all()):
            break
    return [row[: row.index(end)] if end in row else row for row in written.tolist()]
