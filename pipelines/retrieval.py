"""How well captions find their pictures, clips or sounds among many, and these their captions: recall at k, both ways.

N pairs, scores (N, N). Strictly, only a text's own medium is right. But "a heart" is true of every picture that shows
one heart and nothing else: where a detector can tell, it also counts as found what the text is true of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..data.media import MediaError, from_uint8
from .embed import BATCH, EmbeddingPipeline
from .picture_sources import MIXTURE, VALIDATION_NUMBER, FileSource, open_files, whole
from .spoken_digits import DigitStrings
from .worlds import SCENES, Asked, World

RANKS = (1, 5)
MAX_TRIES = 100  # for each pair whose caption says something new

Right = Callable[[int, int], bool]  # (row, column) -> does this column answer the row?


@dataclass(frozen=True)
class Gallery:
    """N captions that say different things, and the picture or clip of each: uint8 (N, 3, H, W) or (N, 3, T, H, W)."""

    captions: list[str]
    media: Tensor
    true: Right | None = None  # is caption i true of medium j? None: nobody can tell

    def vectors(self, pipeline: EmbeddingPipeline) -> Tensor:
        """Of the media, (N, E)."""
        embed = pipeline.embed_clips if self.media.ndim == 5 else pipeline.embed_pictures
        return torch.cat([embed(from_uint8(part)) for part in self.media.split(BATCH)])


@dataclass(frozen=True)
class SpokenGallery:
    """N texts that say different things, and a recording of each: float32 (1, S)."""

    captions: list[str]
    sounds: list[Tensor]
    true: ClassVar[None] = None  # of no other recording than its own

    def vectors(self, pipeline: EmbeddingPipeline) -> Tensor:
        """Of the recordings, (N, E)."""
        return pipeline.embed_sounds(self.sounds)


def recall(scores: Tensor, k: int, right: Right | None = None) -> float:
    """Share of rows of scores (N, N) with an answer among their k largest: their own column, or one that is `right`."""
    best = scores.topk(min(k, scores.shape[1])).indices.tolist()
    hits = [row in found or (right is not None and any(right(row, j) for j in found)) for row, found in enumerate(best)]
    return sum(hits) / len(hits)


def fresh_gallery(world: World, count: int, seed: int, size: int) -> Gallery:
    """`count` fresh scenes or clips of `size` pixels, of all kinds that training draws in turn.

    Raises:
        ValueError: the world has not so many different captions.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = tuple(MIXTURE) if world is SCENES else world.kinds
    found: dict[Asked, tuple[Asked, np.ndarray]] = {}
    for number in range(count * MAX_TRIES):
        request, drawn = world.example(generator, kinds[number % len(kinds)], size)
        found.setdefault(replace(request, text=""), (request, drawn))
        if len(found) == count:
            break
    else:
        raise ValueError(f"{world.name} must have {count} captions that differ, got {len(found)}; ask for fewer")
    requests = [request for request, _ in found.values()]
    arrays = [drawn for _, drawn in found.values()]
    media = rearrange(torch.from_numpy(np.stack(arrays)), "N ... H W C -> N C ... H W")
    return Gallery([r.text for r in requests], media, cache(lambda i, j: world.check(requests[i], arrays[j])))


def held_out_gallery(path: Path, size: int) -> Gallery:
    """The captioned pictures of a folder or tar that training does not see, one of each caption, `size` pixels a side.

    Raises:
        ValueError: it holds no such pictures.
    """
    source = FileSource(open_files(path), size, 0, whole)
    if set(source.draw.for_validation) & set(source.draw.for_training):
        raise ValueError(f"{path} has too few files for training to leave any out; name a folder of more")
    found: dict[str, Tensor] = {}
    for index in source.draw.for_validation:
        try:
            example = source.examples[index]
        except MediaError as error:
            source.draw.skip(index, error)
            continue
        if example.caption:
            found.setdefault(example.caption, whole(example.image, size, torch.Generator()))
    if len(found) < 2:
        raise ValueError(
            f"{path} must hold at least 2 captioned pictures that training left out, got {len(found)}; name another"
        )
    return Gallery(list(found), torch.stack(list(found.values())))


def spoken_gallery(path: Path, count: int, seed: int, sample_rate: int) -> SpokenGallery:
    """`count` strings of one to three digits, of recordings that training does not hear, by all voices of `path`.

    Raises:
        ValueError: there are not so many different ones; else as `DigitStrings`.
    """
    strings = DigitStrings(path, sample_rate=sample_rate, seed=seed, vary=None)
    different = sum(10**length for length in range(1, strings.max_digits + 1))
    if count > different:
        raise ValueError(f"there are {different} strings of digits that differ, not {count}; ask for fewer")
    found: dict[str, Tensor] = {}
    number = VALIDATION_NUMBER
    while len(found) < count:
        for said in strings.of_mixed_lengths(number, count):
            found.setdefault(said.text, said.sound)
        number += 1
    return SpokenGallery(list(found)[:count], list(found.values())[:count])


@torch.no_grad()
def retrieve(
    pipeline: EmbeddingPipeline, gallery: Gallery | SpokenGallery, among: Sequence[int]
) -> dict[int, dict[str, float]]:
    """Recall at each of `RANKS`, both ways, among so many pairs: the mean over stretches of the gallery so long.

    "text_1" is the share of texts that find their own medium first, "media_5" that of media with their own text among
    the first five; "text_1_true" and so on also count what the detector finds true.

    Raises:
        ValueError: the gallery has fewer pairs.
    """
    if not 0 < max(among) <= len(gallery.captions):
        raise ValueError(
            f"a gallery of {len(gallery.captions)} pairs cannot be searched among {max(among)}; enlarge it"
        )
    text, media = pipeline.embed_text(gallery.captions), gallery.vectors(pipeline)
    return {count: _mean_recalls(pipeline.scores(text, media), gallery.true, count) for count in among}


def _mean_recalls(scores: Tensor, true: Right | None, count: int) -> dict[str, float]:
    """Over the stretches of `count` pairs that scores (N, N) hold whole."""
    sums: dict[str, float] = {}
    starts = range(0, len(scores) - count + 1, count)
    for start in starts:
        part = scores[start : start + count, start : start + count]
        for name, rows, right in (
            ("text", part, _moved(true, start)),
            ("media", part.T, _moved(true, start, turn=True)),
        ):
            for k in RANKS:
                sums[f"{name}_{k}"] = sums.get(f"{name}_{k}", 0.0) + recall(rows, k)
                if right is not None:
                    sums[f"{name}_{k}_true"] = sums.get(f"{name}_{k}_true", 0.0) + recall(rows, k, right)
    return {name: total / len(starts) for name, total in sums.items()}


def _moved(true: Right | None, start: int, turn: bool = False) -> Right | None:
    """`true` on a stretch that begins at `start`; turned: rows are media."""
    if true is None:
        return None
    return (lambda j, i: true(start + i, start + j)) if turn else (lambda i, j: true(start + i, start + j))
