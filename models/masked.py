"""`masked`: all positions at once, the surest kept, over a few steps (MaskGIT, arXiv:2202.04200).

B pictures, N positions, V codes. Any subset may be given and is never touched: that is inpainting and outpainting.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .sampling import gumbel, sample
from .schedules import cosine_masked_share, falling_times

PredictIds = Callable[[Tensor, Tensor, float], Tensor]  # ids (B, N), hidden (B, N), time -> logits (B, N, V)


@torch.no_grad()
def unmask(
    predict: PredictIds,
    ids: Tensor,
    given: Tensor,
    uniforms: Tensor,
    *,
    temperature: float = 1.0,
    choice_temperature: float = 1.0,
    masked_share: Callable[[float], float] = cosine_masked_share,
    callback: Callable[[int], None] | None = None,
) -> Tensor:
    """Fill the positions of `ids` (B, N) that are not `given` (B, N); returns local ids int64 (B, N).

    `uniforms` (steps, 2, B, N) in [0, 1): for each step one number that draws the code of a position, and one that
    blurs how sure it counts, by Gumbel noise times `choice_temperature` x time, so that early steps spread over the
    picture.
    """
    ids, hidden = ids.clone(), ~given
    total = hidden.sum(1, keepdim=True)  # (B, 1)
    times = falling_times(len(uniforms)).tolist()
    for step, (t, t_next) in enumerate(zip(times[:-1], times[1:], strict=True)):
        logits = predict(ids, hidden, t)
        drawn = sample(logits, uniforms[step, 0], temperature=temperature)
        sureness = logits.log_softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
        sureness = sureness + choice_temperature * t * gumbel(uniforms[step, 1])
        sureness = sureness.masked_fill(~hidden, torch.inf)
        ids = torch.where(hidden, drawn, ids)
        still = (masked_share(t_next) * total).floor()  # how many stay hidden after this step
        hidden = hidden & (sureness.argsort(dim=1).argsort(dim=1) < still)
        if callback:
            callback(step)
    return ids
