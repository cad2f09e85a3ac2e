"""Classifier-free guidance (arXiv:2207.12598), as a wrapper around the model: samplers do not know of it.

The three decoders are guided in the same place, on the logits: unconditional + scale x (conditional - unconditional).
Scale 1 runs the conditional half alone. Otherwise the two halves run as one batch, the conditional first.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .attention import KVCache
from .transformer import Role, SharedTransformer

Predict = Callable[[Tensor, float], Tensor]  # slots (B, N, D) and time -> logits (B, N, V)


def guide(logits: Tensor, scale: float) -> Tensor:
    """Logits of a pair (2 B, ...), conditional half first -> guided logits (B, ...). With scale 1, logits unchanged."""
    if scale == 1:
        return logits
    conditional, unconditional = logits.chunk(2)
    return torch.lerp(unconditional, conditional, scale)


def image_predictor(
    model: SharedTransformer, prompt: KVCache, positions: Tensor, role: Role, guidance_scale: float
) -> Predict:
    """What `masked` and `diffusion` call at each step: embedded slots (B, N, D) at time t -> guided logits (B, N, V).

    `prompt` and `positions` (rows, 1 + N, 3) hold B rows, or with guidance 2 B, the conditional ones first. BEGIN is
    put before the slots here.
    """
    rows = prompt.mask.shape[0]
    device = positions.device
    begin = model.embedding(torch.full((rows, 1), model.vocabulary.special("begin_image"), device=device))
    roles = torch.full((rows,), int(role), device=device)
    full = torch.zeros(rows, dtype=torch.bool, device=device)

    def predict(slots: Tensor, time: float) -> Tensor:
        x = torch.cat([begin, slots.repeat(rows // len(slots), 1, 1)], dim=1)
        times = torch.full((rows,), time, device=device)
        hidden = model(x, positions, times, roles, prompt, full)[:, 1:]
        return guide(model.logits(hidden), guidance_scale)

    return predict
