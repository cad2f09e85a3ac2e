"""Segments -> what the transformer reads: ids, positions, and who belongs to which segment.

A sequence is a list of segments. Text is BEGIN and its tokens; a media segment is BEGIN of its modality, its codes in
raster order, and END, which only the segments that something follows need. Positions have three axes (t, y, x): text
token p sits at (p, p, p); a media segment's BEGIN at (p, p, p) and its codes at (p + 1 + t, p + 1 + y, p + 1 + x); what
comes next starts one past the largest. For a prompt of 2 tokens and a picture of 2 x 2 codes:

    token     BEGIN  a  b   BEGIN_IMAGE  c00  c01  c10  c11
    position    0    1  2       3        444  445  454  455        (t y x)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .vocabulary import Vocabulary

AXES = 3

Device = torch.device | None  # None: the CPU


@dataclass(frozen=True)
class Segment:
    """One stretch of one modality. `ids` are local: (L,) for text, (h, w) or (t, h, w) for media."""

    modality: str
    ids: Tensor
    causal: bool = True  # attention inside: token by token, or everything
    given: bool = True  # or to be generated


@dataclass(frozen=True)
class Packed:
    """A batch of sequences, padded on the right. L is the longest."""

    ids: Tensor  # int64 (B, L), shared ids; padding is 0
    positions: Tensor  # int64 (B, L, 3)
    segments: Tensor  # int64 (B, L), number of the segment, -1 where padded
    causal: Tensor  # bool (B, L)
    given: Tensor  # bool (B, L)


def text_positions(length: int, start: int = 0, device: Device = None) -> Tensor:
    """Positions of text: int64 (length, 3), (p, p, p) from p = start."""
    return torch.arange(start, start + length, device=device).unsqueeze(1).repeat(1, AXES)


def media_positions(grid: tuple[int, ...], start: int = 0, device: Device = None) -> Tensor:
    """Positions of BEGIN and the codes of a grid (h, w) or (t, h, w): int64 (1 + t h w, 3), raster order."""
    t, h, w = (1, *grid)[-AXES:]
    axes = torch.meshgrid(*(torch.arange(side, device=device) for side in (t, h, w)), indexing="ij")
    codes = rearrange(torch.stack(axes), "axes t h w -> (t h w) axes") + 1
    return start + torch.cat([torch.zeros(1, AXES, dtype=torch.long, device=device), codes])


def frame_positions(grid: tuple[int, int], frames: Tensor) -> Tensor:
    """Positions of frames of a clip that starts at 0: their numbers int64 (...) -> int64 (..., 1 + h w, 3).

    A picture is frame 0. The codes of frame t sit at (t + 1, y + 1, x + 1), as `media_positions` has them for all
    frames at once; here each frame has its own BEGIN, at (t, 0, 0).
    """
    moved = F.pad(frames[..., None, None], (0, AXES - 1))
    return media_positions(grid, device=frames.device) + moved


def prompt_batch(prompts: Sequence[Sequence[int]], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Token lists -> int64 ids (B, P), BEGIN first, padded on the right, and bool (B, P), true where a token is real.

    Raises:
        ValueError: a token is not one of the vocabulary's text; it would be read as a code or a special token.
    """
    length = 1 + max((len(tokens) for tokens in prompts), default=0)
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    real = torch.zeros(len(prompts), length, dtype=torch.bool)
    ids[:, 0] = vocabulary.special("begin")
    for row, tokens in enumerate(prompts):
        ids[row, 1 : 1 + len(tokens)] = vocabulary.to_shared(torch.tensor(tokens, dtype=torch.long), "text")
        real[row, : 1 + len(tokens)] = True
    return ids, real


def following(ids: Tensor, real: Tensor, vocabulary: Vocabulary) -> Tensor:
    """What comes after each token of texts, as `prompt_batch` makes them: int64 (B, L), END after the last real one."""
    return F.pad(ids[:, 1:], (0, 1)).scatter(1, real.sum(1, keepdim=True) - 1, vocabulary.special("end"))


def pack(sequences: Sequence[Sequence[Segment]], vocabulary: Vocabulary) -> Packed:
    """Sequences of segments -> one padded batch.

    Raises:
        ValueError: an id lies outside its modality's range.
    """
    rows = [_pack_one(segments, vocabulary) for segments in sequences]
    length = max(len(row.ids) for row in rows)

    def stack(name: str, filler: int) -> Tensor:
        out = getattr(rows[0], name).new_full((len(rows), length, *getattr(rows[0], name).shape[1:]), filler)
        for number, row in enumerate(rows):
            out[number, : len(row.ids)] = getattr(row, name)
        return out

    return Packed(stack("ids", 0), stack("positions", 0), stack("segments", -1), stack("causal", 1), stack("given", 1))


def _pack_one(segments: Sequence[Segment], vocabulary: Vocabulary) -> Packed:
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    start = 0
    for number, segment in enumerate(segments):
        codes = vocabulary.to_shared(segment.ids.flatten(), segment.modality)
        if segment.modality == "text":
            ids.append(torch.cat([torch.tensor([vocabulary.special("begin")]), codes]))
            positions.append(text_positions(len(codes) + 1, start))
        else:
            ends = [vocabulary.special(f"end_{segment.modality}")] if number + 1 < len(segments) else []
            begin = torch.tensor([vocabulary.special(f"begin_{segment.modality}")])
            ids.append(torch.cat([begin, codes, torch.tensor(ends, dtype=torch.long)]))
            place = media_positions(tuple(segment.ids.shape), start)
            last = place.max() + 1
            positions.append(torch.cat([place, last.expand(len(ends), AXES)]))
        start = int(positions[-1].max()) + 1
    counts = torch.tensor([len(part) for part in ids])
    numbers = torch.arange(len(segments)).repeat_interleave(counts)
    causal = torch.tensor([segment.causal for segment in segments])[numbers]
    given = torch.tensor([segment.given for segment in segments])[numbers]
    return Packed(torch.cat(ids), torch.cat(positions), numbers, causal, given)
