"""Who may look at whom: boolean masks, true where a query (row) may attend to a key (column).

Between segments attention is causal, so what comes earlier never depends on what comes later, and its keys and values
can be computed once. Inside a segment it is causal (text, `ar`) or bidirectional (`masked`, `diffusion`). For a prompt
of 3 tokens, then a segment of 3:

       causal          bidirectional
     p p p m m m        p p p m m m
    m x x x x . .      m x x x x x x
    m x x x x x .      m x x x x x x
    m x x x x x x      m x x x x x x
"""

import torch
from torch import Tensor


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(length, length), true on and below the diagonal."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def same_place(places: Tensor, length: int) -> Tensor:
    """For factorized attention: (length, P), true where a slot of a frame may look at an earlier token.

    That is text, whose `places` (P,) are -1, and the slot at its own place in another frame.
    """
    own = torch.arange(length, device=places.device)
    return (places[None, :] == own[:, None]) | (places < 0)


def segment_mask(
    past: Tensor, causal: Tensor, length: int, allowed: Tensor | None = None, real: Tensor | None = None
) -> Tensor:
    """Mask of one segment after a prompt: (B, 1, length, P + length).

    `past` (B, P) is true where a token of the prompt is real; `causal` (B,) is true for the sequences whose segment is
    read token by token; `allowed` (length, P), see `same_place`, keeps slots from parts of what came before; `real`
    (B, length) is false where a shorter segment was padded, which no other slot then sees.
    """
    lower = causal_mask(length, past.device)
    inside = lower | ~causal[:, None, None]  # (B, length, length)
    if real is not None:
        inside = inside & (real[:, None, :] | torch.eye(length, dtype=torch.bool, device=past.device))
    before = past[:, None, :].expand(-1, length, -1)  # (B, length, P)
    if allowed is not None:
        before = before & allowed
    return torch.cat([before, inside], dim=2).unsqueeze(1)


def frames_mask(past: Tensor, frames: int, length: int, *, factorized: bool = False) -> Tensor:
    """Mask of `frames` given segments of `length` slots each, after a prompt: (B, 1, frames length, P + frames length).

    `past` (B, P) is true where a token of the prompt is real. A slot sees the prompt, its whole own segment, and the
    segments before it; of these, factorized, the slot at its own place alone (1D over time, 2D over space).
    """
    numbers = torch.arange(frames, device=past.device).repeat_interleave(length)
    places = torch.arange(length, device=past.device).repeat(frames)
    own, earlier = numbers[None, :] == numbers[:, None], numbers[None, :] < numbers[:, None]  # queries, keys
    if factorized:
        earlier &= places[None, :] == places[:, None]
    inside = (own | earlier).expand(len(past), -1, -1)
    before = past[:, None, :].expand(-1, frames * length, -1)
    return torch.cat([before, inside], dim=2).unsqueeze(1)


def packed_mask(segments: Tensor, causal: Tensor, places: Tensor | None = None) -> Tensor:
    """Mask of whole sequences in one pass: (B, 1, L, L).

    `segments` (B, L) int64 counts segments from 0, -1 where padded; `causal` (B, L) is true for the tokens whose
    segment is causal. A token sees all earlier segments, and of its own segment all (bidirectional) or what came before
    (causal). Padding sees itself alone, so that no row is empty. With `places` (B, L), see `same_place`, attention is
    factorized: a slot of a frame sees of earlier frames only its own place.
    """
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    lower = causal_mask(length, segments.device)
    inside = (query == key) & (lower | ~causal[:, :, None])
    earlier = key < query
    if places is not None:
        own, other = places[:, :, None], places[:, None, :]
        earlier = earlier & ((own == other) | (own < 0) | (other < 0))
    visible = (earlier | inside) & (key >= 0) & (query >= 0)
    return (visible | torch.eye(length, dtype=torch.bool, device=segments.device)).unsqueeze(1)
