"""Where training pictures come from: the built-in world, and folders or tars of files, in stated shares.

A source maps (number, count) to pictures and depends on nothing else, so a batch never depends on what was drawn before
it. A spec is "scenes" or a path, with an optional share: "scenes:3" beside "emoji.tar:1" is three scenes to one emoji.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..data.folders import Examples, open_examples
from ..data.media import MediaError
from ..data.scenes import KINDS, scene_batch

MIXTURE: Mapping[str, float] = {**dict.fromkeys(KINDS, 1.0), "counting": 2.0, "full": 4.0}
MAX_REDRAWS = 100  # broken files in a row before a folder counts as unreadable
CACHE_BYTES = 1 << 30


class PictureSource(Protocol):
    def __call__(self, number: int, count: int) -> Tensor:
        """Batch `number` of `count` pictures: uint8 (count, 3, size, size)."""
        ...


@dataclass(frozen=True)
class SceneSource:
    """Freshly drawn scenes; `number` and `count` name a stretch of one endless list."""

    size: int
    seed: int

    def __call__(self, number: int, count: int) -> Tensor:
        images, _ = scene_batch(self.seed, number * count, count, size=self.size, mixture=MIXTURE)
        return rearrange(images, "N H W C -> N C H W")


class FileSource:
    """Random square crops of files: a side between `size` and the whole picture, scaled down to `size`."""

    def __init__(self, examples: Examples, size: int, seed: int):
        self.examples, self.size, self.seed = examples, size, seed
        self._cache: dict[int, Image.Image] = {}
        self._cached_bytes = 0

    def _read(self, index: int) -> Image.Image:
        if index not in self._cache:
            image = self.examples[index].image
            self._cached_bytes += 3 * image.width * image.height
            if self._cached_bytes > CACHE_BYTES:
                return image
            self._cache[index] = image
        return self._cache[index]

    def __call__(self, number: int, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        pictures: list[Tensor] = []
        failed = 0
        while len(pictures) < count:
            try:
                image = self._read(int(torch.randint(len(self.examples), (), generator=generator)))
            except MediaError as error:
                failed += 1
                if failed > MAX_REDRAWS:
                    raise ValueError(f"{failed} pictures in a row cannot be read, the last: {error}") from error
                continue
            pictures.append(random_crop(image, self.size, generator))
        return torch.stack(pictures)


def random_crop(image: Image.Image, size: int, generator: torch.Generator) -> Tensor:
    """Uint8 (3, size, size): a square of random place and side, at least `size` pixels where the picture has them."""
    largest = min(image.size)
    smallest = min(size, largest)
    share, left, top = torch.rand(3, generator=generator).tolist()
    side = smallest + int(share * (largest - smallest + 1))
    x, y = int(left * (image.width - side + 1)), int(top * (image.height - side + 1))
    crop = image.crop((x, y, x + side, y + side)).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1)


@dataclass(frozen=True)
class MixedSource:
    """Several sources in one batch, each in its share (the last takes what rounding leaves)."""

    sources: tuple[PictureSource, ...]
    shares: tuple[float, ...]

    def __call__(self, number: int, count: int) -> Tensor:
        ends = [round(count * sum(self.shares[: k + 1]) / sum(self.shares)) for k in range(len(self.shares))]
        counts = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        return torch.cat([source(number, n) for source, n in zip(self.sources, counts, strict=True) if n])


def parse_spec(text: str) -> tuple[str, float]:
    """ "emoji.tar:0.5" -> ("emoji.tar", 0.5); a share left out is 1."""
    name, _, share = text.rpartition(":")
    try:
        return (name, float(share)) if name else (text, 1.0)
    except ValueError:
        return text, 1.0


def open_source(specs: Sequence[str], size: int, seed: int) -> MixedSource:
    """The mixed source of several specs.

    Raises:
        ValueError: a path holds no pictures, or a share is not positive.
    """
    names, shares = zip(*(parse_spec(text) for text in specs), strict=True)
    if min(shares) <= 0:
        raise ValueError(f"shares must be positive, got {dict(zip(names, shares, strict=True))}; leave the source out")
    sources = [SceneSource(size, seed) if n == "scenes" else FileSource(open_examples(Path(n)), size, seed) for n in names]
    return MixedSource(tuple(sources), shares)
