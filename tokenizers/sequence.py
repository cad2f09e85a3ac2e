"""Segments -> what the transformer reads: ids, positions, and who belongs to which segment.

A sequence is a list of segments: a text, a picture or frame of a clip, a sound. Each is BEGIN of its modality and its
tokens, codes in raster order, or steps of sound; nothing closes it. END is said and never read: by text after its last
token, by `ar` after the last step of a sound. How many codes a picture has is known before.

Positions have three axes (t, y, x). Text token p sits at (p, p, p), and so does step p of a sound; a picture's BEGIN at
(p, p, p) and its codes at (p + 1, p + 1 + y, p + 1 + x). Frames of a clip follow one another in any order and share p:
frame t is the picture, moved by t on the first axis. What comes next starts one past the largest. For a prompt of 2
tokens and a picture of 2 x 2 codes:

    token     BEGIN  a  b   BEGIN_IMAGE  c00  c01  c10  c11
    position    0    1  2       3        444  445  454  455        (t y x)

The transformer computes a sequence segment by segment, so that what is given is computed once (`SharedTransformer.
prefill`, `read`, `see`, `write` and `forward`; `hear` and `slots_after` of models/sound.py). `pack` builds it whole;
with `packed_mask` of models/masks.py it states what all of them must come to, and tests hold them to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .vocabulary import Vocabulary

AXES = 3

Device = torch.device | None  # None: the CPU


@dataclass(frozen=True)
class Segment:
    """One stretch of one modality. `ids` are local: text (L,), image (h, w), audio (t, K); of media -1 where masked."""

    modality: str
    ids: Tensor
    causal: bool = True  # attention inside: token by token, or everything
    given: bool = True  # or to be generated
    frame: int = 0  # of an image: its number in the clip


@dataclass(frozen=True)
class Packed:
    """A batch of sequences, padded on the right. L is the longest; K ids add up to a token, of sound, or it has one."""

    ids: Tensor  # int64 (B, L, K), shared ids; -1 where there is none
    positions: Tensor  # int64 (B, L, 3)
    starts: Tensor  # int64 (B, L), position at which the text, clip or sound of the token starts
    places: Tensor  # int64 (B, L), number of the slot in its frame, BEGIN first; -1 of text and sound
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
    fillers = {"ids": -1, "positions": 0, "starts": 0, "places": -1, "segments": -1, "causal": True, "given": True}
    return Packed(
        **{
            name: pad_sequence([getattr(row, name) for row in rows], batch_first=True, padding_value=filler)
            for name, filler in fillers.items()
        }
    )


def _pack_one(segments: Sequence[Segment], vocabulary: Vocabulary) -> Packed:
    depth = max(map(len, vocabulary.codebooks.values()), default=1)
    tokens = [_tokens(segment, vocabulary, depth) for segment in segments]
    positions: list[Tensor] = []
    starts: list[int] = []
    for number, segment in enumerate(segments):
        same_clip = number > 0 and segment.modality == segments[number - 1].modality == "image"
        starts.append(starts[-1] if same_clip else 1 + max((int(part.max()) for part in positions), default=-1))
        if segment.modality == "image":
            where = frame_positions((segment.ids.shape[0], segment.ids.shape[1]), torch.tensor(segment.frame))
        else:
            where = text_positions(len(tokens[number]))
        positions.append(where + starts[-1])
    counts = torch.tensor([len(part) for part in tokens])
    numbers = torch.arange(len(segments)).repeat_interleave(counts)
    frames = torch.tensor([segment.modality == "image" for segment in segments])[numbers]
    within = torch.cat([torch.arange(count) for count in counts.tolist()])
    return Packed(
        ids=torch.cat(tokens),
        positions=torch.cat(positions),
        starts=torch.tensor(starts)[numbers],
        places=within.where(frames, -1),
        segments=numbers,
        causal=torch.tensor([segment.causal for segment in segments])[numbers],
        given=torch.tensor([segment.given for segment in segments])[numbers],
    )


def _tokens(segment: Segment, vocabulary: Vocabulary, depth: int) -> Tensor:
    """BEGIN and the shared ids of a segment: int64 (1 + L, depth), -1 where a token is of fewer ids."""
    is_text = segment.modality == "text"
    local = segment.ids if segment.modality == "audio" else segment.ids.flatten().unsqueeze(1)  # (L, K)
    hidden = (local == -1) & (not is_text)
    shared = [
        vocabulary.to_shared(ids, segment.modality, book)
        for book, ids in enumerate(local.masked_fill(hidden, 0).unbind(1))
    ]
    begin = vocabulary.special("begin" if is_text else f"begin_{segment.modality}")
    ids = torch.stack(shared, dim=1).masked_fill(hidden, vocabulary.special("mask"))
    ids = F.pad(ids, (0, depth - len(shared)), value=-1)
    return torch.cat([torch.tensor([[begin] + [-1] * (depth - 1)]), ids])
