"""How often a model draws, and writes, the name of a thing that no detector knows: by a judge trained on real pictures.

For captioned pictures of one's own. A drawing counts when the name in its prompt is among the judge's first k, here of
all names there are. Two rows say what the judge is worth: real pictures, and what the image tokenizer makes of them.

A model of few pictures may know them by heart: `nearest` says which training picture a drawing is most like, pixel by
pixel, and how much. N pictures, S pixels per side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..data.media import from_uint8, to_uint8
from ..models.picture_classifier import PictureClassifier
from ..tokenizers.protocol import MediaTokenizer
from .media_to_text import MediaToTextPipeline
from .named_pictures import NamedPictures
from .picture_judge import recognized
from .text_to_image import BATCH, TextToImagePipeline, seeded

RANKS = (1, 5)
AT_ONCE = 256  # known pictures that are compared with all drawings


@dataclass(frozen=True, kw_only=True)
class Named:
    """What came of some pictures, known or held out: `way` is "pictures", "reconstructed", a decoder or "captions"."""

    way: str
    known: bool
    rows: list[int]  # of `NamedPictures`, which were asked for
    found: dict[int, list[bool]]  # k -> whether the name was among the first k
    pixels: Tensor | None = None  # uint8 (N, 3, S, S)
    nearest: list[int] = field(default_factory=list)  # rows of the training pictures most like them
    distances: list[float] = field(default_factory=list)  # to these: root mean square, in levels of 0 to 255

    def share(self, count: int) -> float:
        return sum(self.found[count]) / len(self.found[count])

    def half_width(self, count: int) -> float:
        """Half the 95% interval of a share, with two more of each verdict (Agresti and Coull 1998)."""
        hits, total = sum(self.found[count]) + 2, len(self.found[count]) + 4
        return 1.96 * math.sqrt(hits / total * (1 - hits / total) / total)

    @property
    def same(self) -> float:
        """Share whose most similar training picture is the very one that was asked for."""
        return sum(a == b for a, b in zip(self.rows, self.nearest, strict=True)) / len(self.rows)

    @property
    def distance(self) -> float:
        """Median distance to the most similar training picture."""
        return float(torch.tensor(self.distances).median())


def nearest_known(drawn: Tensor, pictures: NamedPictures, but: Sequence[int] | None = None) -> list[tuple[int, float]]:
    """Of each of uint8 (N, 3, S, S) the row of the known picture that is most like it, and the distance to it.

    `but` names a row for each, which does not count: itself, where pictures are compared with the others.
    """
    rows = torch.tensor([row for row, is_known in enumerate(pictures.known) if is_known])
    flat = rearrange(drawn, "N C H W -> N (C H W)").float()
    parts = [
        torch.cdist(
            flat,
            rearrange(pictures.pixels[part], "n C H W -> n (C H W)").float(),
            compute_mode="donot_use_mm_for_euclid_dist",  # which loses what two that are alike differ by
        )
        for part in rows.split(AT_ONCE)
    ]
    distances = torch.cat(parts, dim=1) / flat.shape[1] ** 0.5  # (N, known)
    if but is not None:
        distances = distances.masked_fill(torch.tensor(but)[:, None] == rows, torch.inf)
    least, best = distances.min(1)
    return list(zip(rows[best].tolist(), least.tolist(), strict=True))


def judged(judge: PictureClassifier, pictures: NamedPictures, rows: list[int], way: str, drawn: Tensor) -> Named:
    """What the judge finds in drawings, uint8 (N, 3, S, S), of what `rows` name."""
    names = [pictures.names[row] for row in rows]
    found = {k: recognized(judge, from_uint8(drawn), names, k) for k in RANKS}
    nearest = nearest_known(drawn, pictures, but=rows if way == "pictures" else None)
    return Named(
        way=way,
        known=pictures.known[rows[0]],
        rows=rows,
        found=found,
        pixels=drawn,
        nearest=[row for row, _ in nearest],
        distances=[distance for _, distance in nearest],
    )


@torch.no_grad()
def reconstructed(tokenizer: MediaTokenizer, pixels: Tensor, device: torch.device) -> Tensor:
    """Pictures uint8 (N, 3, S, S), encoded and decoded."""
    size = (pixels.shape[2], pixels.shape[3])
    parts = [tokenizer.decode(tokenizer.encode(from_uint8(part).to(device)), size) for part in pixels.split(BATCH)]
    return to_uint8(torch.cat(parts)).cpu()


def draw_named(
    pipeline: TextToImagePipeline,
    pictures: NamedPictures,
    rows: list[int],
    decoder: str,
    seed: int,
    *,
    batch_size: int = BATCH,
    advance: Callable[[int], None] | None = None,
    **settings: Any,
) -> Tensor:
    """What a decoder draws from the captions of `rows`, drawing k from `seed` + k: uint8 (N, 3, S, S)."""
    drawn = []
    for start in range(0, len(rows), batch_size):
        texts = [pictures.captions[row] for row in rows[start : start + batch_size]]
        generators = seeded(seed + start, len(texts))
        images = pipeline(texts, decoder=decoder, generator=generators, output_type="pt", **settings).images
        drawn.append(to_uint8(images).cpu())
        if advance:
            advance(len(texts))
    return torch.cat(drawn)


def write_named(
    pipeline: MediaToTextPipeline,
    pictures: NamedPictures,
    rows: list[int],
    advance: Callable[[int], None] | None = None,
) -> Named:
    """How often the name of a picture is among the first that the model would write, of all captions there are."""
    captions = sorted(set(pictures.captions))
    name_of = dict(zip(pictures.captions, pictures.names, strict=True))
    most = max(RANKS) * max(map(len, _captions_of(pictures).values()))  # so that there are so many names among them
    found: dict[int, list[bool]] = {k: [] for k in RANKS}
    for row in rows:
        [ranked] = pipeline.rank(from_uint8(pictures.pixels[row : row + 1]), captions, most)
        names = list(dict.fromkeys(name_of[captions[number]] for number in ranked))
        for k in RANKS:
            found[k].append(pictures.names[row] in names[:k])
        if advance:
            advance(1)
    return Named(way="captions", known=pictures.known[rows[0]], rows=rows, found=found)


def _captions_of(pictures: NamedPictures) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, caption in zip(pictures.names, pictures.captions, strict=True):
        found.setdefault(name, set()).add(caption)
    return found
