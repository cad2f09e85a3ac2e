"""`ar`: one code after the other in raster order, with a cache of keys and values.

B pictures, N codes each. The slot of BEGIN says code 0, the slot of code i says code i + 1. With guidance the prompt has
2 B rows, conditional first, and a pair shares every step.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .attention import KVCache
from .guidance import guide
from .sampling import sample
from .transformer import Role, SharedTransformer


@torch.no_grad()
def generate(
    model: SharedTransformer,
    prompt: KVCache,
    positions: Tensor,
    uniforms: Tensor,
    *,
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    callback: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw the codes of B pictures: local ids int64 (B, N).

    `prompt` has B rows (or 2 B, with guidance); `positions` (rows, 1 + N, 3) are those of BEGIN and the codes; `uniforms`
    (B, N) in [0, 1) decide every draw.
    """
    rows, (batch, count) = prompt.mask.shape[0], uniforms.shape
    modulation = model.modulation(uniforms.new_zeros(1), torch.tensor([Role.AR], device=uniforms.device))
    cache = prompt
    first = model.vocabulary.range("image").start
    ids = torch.full((rows, 1), model.vocabulary.special("begin_image"), device=uniforms.device)
    drawn: list[Tensor] = []
    for step in range(count):
        mask = torch.cat([cache.mask, cache.mask.new_ones(rows, 1)], dim=1)[:, None, None]
        hidden, new = model.trunk(model.embedding(ids), positions[:, step : step + 1], modulation, mask, cache)
        cache = cache.extend(new)
        logits = guide(model.logits(hidden[:, 0]), guidance_scale)
        code = sample(logits, uniforms[:, step], temperature=temperature, top_k=top_k, top_p=top_p)
        drawn.append(code)
        ids = (code + first).repeat(rows // batch).unsqueeze(1)
        if callback:
            callback(step)
    return torch.stack(drawn, dim=1)
