"""Hidden tokens of texts, pictures, clips and sounds that are given: what the shared transformer makes of them.

B segments, L tokens, D width, K layers, P tokens of a prompt, m frames of N codes, t steps of sound. A segment is read
as `given`, after nothing but what every sequence begins with: a text as `SharedTransformer.prefill` reads a prompt,
frames as `see` does, sounds as `hear` does. Only the blocks up to the last layer that is asked for run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..tokenizers.sequence import frame_positions, text_positions
from .masks import causal_mask, frames_mask, segment_mask
from .rotary import rotary_table
from .sound import begin_of, embed_codes
from .transformer import SharedTransformer


@dataclass(frozen=True)
class Features:
    """Hidden tokens (B, L, K D) of several layers, each divided by its RMS, side by side; `real` (B, L): no padding."""

    tokens: Tensor
    real: Tensor


def text_features(model: SharedTransformer, prompts: Tensor, real: Tensor, layers: Sequence[int]) -> Features:
    """Of texts: shared ids int64 (B, P), BEGIN first, padded on the right; `real` boolean (B, P)."""
    length = prompts.shape[1]
    mask = causal_mask(length, prompts.device)[None, None]
    positions = text_positions(length, device=prompts.device)
    return Features(hidden_tokens(model, model.embedding(prompts), positions, mask, layers), real)


def frame_features(model: SharedTransformer, frames: Tensor, numbers: Tensor, layers: Sequence[int]) -> Features:
    """Of pictures, m = 1, or frames of clips: shared ids int64 (B, m, 1 + N), BEGIN first.

    `numbers` int64 (B, m) says which frames of their clips they are; 0 for pictures. BEGIN of the empty prompt before
    them is read with them, and left out of what is given back.
    """
    batch, count, length = frames.shape
    start = numbers.new_ones(batch)
    where = rearrange(frame_positions(model.config.image_grid, numbers) + 1, "B m L axes -> B (m L) axes")
    x = model.embedding(rearrange(frames, "B m L -> B (m L)")) + model.places(where, start)
    past = torch.ones(batch, 1, dtype=torch.bool, device=frames.device)
    inside = frames_mask(past, count, length, factorized=model.config.factorized)  # (B, 1, m L, 1 + m L)
    return Features(after_begin(model, x, where, inside, layers), past.expand(-1, count * length))


def sound_features(model: SharedTransformer, codes: Tensor, real: Tensor, layers: Sequence[int]) -> Features:
    """Of sounds: local ids int64 (B, t, K), and `real` (B, t), false where a shorter sound was padded.

    BEGIN of the sound comes first. BEGIN of the empty prompt is read before it, and left out of what is given back.
    """
    batch, real = len(codes), F.pad(real, (1, 0), value=True)
    length = real.shape[1]
    x = torch.cat([begin_of(model, batch), embed_codes(model, codes)], dim=1)
    where = text_positions(length, start=1, device=x.device).expand(batch, -1, -1)
    inside = segment_mask(real[:, :1], torch.zeros_like(real[:, 0]), length, real=real)  # (B, 1, 1 + t, 2 + t)
    return Features(after_begin(model, x, where, inside, layers), real)


def after_begin(model: SharedTransformer, x: Tensor, where: Tensor, mask: Tensor, layers: Sequence[int]) -> Tensor:
    """`hidden_tokens` of embedded media (B, L, D) after BEGIN of the empty prompt, without those of BEGIN itself.

    `where` (B, L, 3) are their positions; `mask` (B, 1, L, 1 + L) says whom they look at, BEGIN being the first.
    """
    begin = model.embedding(where.new_full((len(x), 1), model.vocabulary.special("begin")))
    positions = torch.cat([torch.zeros_like(where[:, :1]), where], dim=1)
    mask = F.pad(mask, (0, 0, 1, 0))
    mask[:, :, 0, 0] = True  # BEGIN sees itself
    return hidden_tokens(model, torch.cat([begin, x], dim=1), positions, mask, layers)[:, 1:]


def hidden_tokens(
    model: SharedTransformer, x: Tensor, positions: Tensor, mask: Tensor, layers: Sequence[int]
) -> Tensor:
    """Embedded tokens (B, L, D) of given segments -> (B, L, K D): hidden after so many blocks, each divided by its RMS.

    `positions` (L or B L, 3); `mask` as in `Attention`. The residual stream grows from block to block: divided by its
    RMS, every layer counts alike.
    """
    rotary = rotary_table(positions, model.config.head_dim)
    modulation = model.given(1)
    found: list[Tensor] = []
    first_value: Tensor | None = None
    for number, block in enumerate(model.blocks[: max(layers)], 1):
        x, _, value = block(x, modulation, rotary, mask, first_value, None)
        first_value = value if first_value is None else first_value
        if number in layers:
            found.append(F.rms_norm(x.float(), x.shape[-1:]))
    return torch.cat(found, dim=-1)
