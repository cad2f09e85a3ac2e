"""`ar`: one code after the other in raster order, by the model's fast path for single tokens.

B pictures, N codes each. The slot of BEGIN says code 0, the slot of code i says code i + 1. With guidance the prompt
has 2 B rows, conditional first, and a pair shares every step.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from .attention import KVCache
from .guidance import guide
from .sampling import sample
from .token_decoder import TokenDecoder
from .transformer import Role, SharedTransformer


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

    `prompt` has B rows (or 2 B, with guidance); `positions` (rows, 1 + N, 3) are those of BEGIN and the codes;
    `uniforms` (B, N) in [0, 1) decide every draw.
    """
    rows, (batch, count) = prompt.mask.shape[0], uniforms.shape
    first = model.vocabulary.range("image").start
    drawn = torch.empty(count, batch, dtype=torch.long, device=uniforms.device)
    with torch.inference_mode():  # the small operations of a step start faster in it than under no_grad
        modulation = model.modulation(uniforms.new_zeros(1), torch.tensor([Role.AR], device=uniforms.device))
        decoder = TokenDecoder(model, modulation, prompt, positions[:, :count], model.head.weight)
        places = rearrange(model.places(positions[:, :count], prompt.start).float(), "R N D -> N R D").contiguous()
        embedding = model.embedding.weight.float()
        ids = torch.full((rows,), model.vocabulary.special("begin_image"), device=uniforms.device)
        for step, (uniform, place) in enumerate(zip(uniforms.unbind(1), places.unbind(0), strict=True)):
            logits = decoder.logits(guide(decoder(place + embedding.index_select(0, ids)), guidance_scale))
            drawn[step] = sample(logits, uniform, temperature=temperature, top_k=top_k, top_p=top_p)
            ids = (drawn[step] + first).repeat(rows // batch)
            if callback:
                callback(step)
    return drawn.t().contiguous()
