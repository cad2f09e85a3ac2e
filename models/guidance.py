"""Classifier-free guidance (arXiv:2207.12598), as a wrapper around the model: samplers do not know of it.

The three decoders are guided in the same place, on the logits: unconditional + scale x (conditional - unconditional).
The head is linear, so the hidden slots that enter it are guided in their stead, and it works for one row of a pair.
Scale 1 runs the conditional half alone. Otherwise the two halves run as one batch, the conditional first.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .attention import KVCache
from .transformer import Role, SharedTransformer

Predict = Callable[[Tensor, float], Tensor]  # slots (B, N, D) and time -> logits (B, N, V)


def guide(pair: Tensor, scale: float) -> Tensor:
    """Logits, or what they are linear in, of a pair (2 B, ...), conditional half first -> guided (B, ...).

    With scale 1, `pair` is the conditional half alone and stays as it is.
    """
    if scale == 1:
        return pair
    conditional, unconditional = pair.chunk(2)
    return torch.lerp(unconditional, conditional, scale)


def image_predictor(
    model: SharedTransformer,
    prompt: KVCache,
    positions: Tensor,
    role: Role,
    guidance_scale: float,
    guided: Callable[[float], bool] = lambda time: True,
) -> Predict:
    """What `masked` and `diffusion` call at each step: embedded slots (B, N, D) at time t -> guided logits (B, N, V).

    `prompt` and `positions` (rows, 1 + N, 3) hold B rows, or with guidance 2 B, the conditional ones first. Where
    `guided` says no to a time, the conditional half runs alone (arXiv:2404.07724). BEGIN is put before the slots here.
    """
    device = positions.device
    conditional = torch.arange(len(positions) // 2, device=device)
    pair = prompt, positions, guidance_scale
    alone = pair if guidance_scale == 1 else (prompt.select(conditional), positions[conditional], 1.0)
    begin = model.embedding(torch.tensor([[model.vocabulary.special("begin_image")]], device=device))

    def predict(slots: Tensor, time: float) -> Tensor:
        cache, places, scale = pair if guided(time) else alone
        rows = len(places)
        x = torch.cat([begin.expand(rows, 1, -1), slots.repeat(rows // len(slots), 1, 1)], dim=1)
        times, roles = torch.full((rows,), time, device=device), torch.full((rows,), int(role), device=device)
        hidden = model(x, places, times, roles, cache, torch.zeros_like(roles, dtype=torch.bool))
        return model.logits(guide(hidden[:, 1:], scale))

    return predict
