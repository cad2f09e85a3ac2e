"""Where training pictures come from: the built-in world, and folders or tars of files, in stated shares.

A source maps (number, count) to pictures and captions and depends on nothing else, so a batch never depends on what was
drawn before it. A spec is "scenes", "leaves" or a path, with an optional share: "scenes:3" beside "emoji.tar:1" is
three scenes to one emoji. A path with clips and no pictures gives frames of its clips.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..data.clip_frames import ClipFrames
from ..data.dead_leaves import dead_leaves
from ..data.folders import Example, Examples, NothingFoundError, open_examples
from ..data.loader import generator_of, seed_of
from ..data.media import MediaError, fit
from ..data.scene_clips import clip_batch
from ..data.scenes import KINDS, draw_example, scene_batch

MIXTURE: Mapping[str, float] = {
    **dict.fromkeys(KINDS, 1.0),
    "counting": 3.0,
    "position": 1.5,
    "binding": 1.5,
    "full": 3.0,
}
VALIDATION_NUMBER = 1 << 20  # batches from here on are for validation: training ends before, and never sees their files
HELD_OUT = 20  # one file of so many is kept for validation; of fewer files, each serves both
MAX_REDRAWS = 100  # broken files in a row before a folder counts as unreadable
CACHE_BYTES = 1 << 30
CAPTIONS_OF_SCENES = 3000  # of each kind
GOLDEN = (math.sqrt(5) - 1) / 2
EPSILON = 1e-6  # more than what rounding takes from a whole number
LARGEST_BATCH = 1 << 11  # scenes or their clips; a seed has 2^32 of them
FRAMES_OF_CLIP = 4  # that serve as pictures: drawing a clip costs as much as drawing so many

log = logging.getLogger(__name__)

# Uint8 (count, 3, size, size), or codes of token shards, int64 (count, h, w); and a caption each ("" if there is none)
Pictures = tuple[Tensor, list[str]]
Crop = Callable[[Image.Image, int, torch.Generator], Tensor]
ReadExample = Callable[[int, torch.Generator], tuple[Tensor, str]]  # its pixels, cut as the generator says; its caption


class PictureSource(Protocol):
    def __call__(self, number: int, count: int) -> Pictures:
        """Batch `number` of `count` pictures."""
        ...

    def captions(self) -> Iterable[str]:
        """Captions that stand for all: what a text tokenizer and a lexicon are made from."""
        ...


def stretch_of(number: int, count: int) -> int:
    """Where batch `number` of `count` examples begins in an endless list: counts may change, and no two overlap.

    Raises:
        ValueError: more than `LARGEST_BATCH` are asked for.
    """
    if count > LARGEST_BATCH:
        raise ValueError(f"a batch may hold {LARGEST_BATCH} scenes, got {count}; take smaller batches")
    return number * LARGEST_BATCH


@dataclass(frozen=True)
class SceneSource:
    """Freshly drawn scenes: a stretch of one endless list for every batch."""

    size: int
    seed: int

    def __call__(self, number: int, count: int) -> Pictures:
        images, requests = scene_batch(self.seed, stretch_of(number, count), count, size=self.size, mixture=MIXTURE)
        return rearrange(images, "N H W C -> N C H W"), [request.text for request in requests]

    def captions(self) -> Iterable[str]:
        for number in range(CAPTIONS_OF_SCENES):
            generator = torch.Generator().manual_seed(number)
            for kind in MIXTURE:
                yield draw_example(generator, kind)[0].text


@dataclass(frozen=True)
class SceneFrameSource:
    """Frames of freshly drawn clips, several of each; for tokenizers, which need no captions."""

    size: int
    seed: int

    def __call__(self, number: int, count: int) -> Pictures:
        num_clips = -(-count // FRAMES_OF_CLIP)
        clips, requests = clip_batch(self.seed, stretch_of(number, num_clips), num_clips, size=self.size)
        generator = generator_of(self.seed, number)
        frames = torch.rand(num_clips, clips.shape[1], generator=generator).argsort(1)[:, :FRAMES_OF_CLIP]
        chosen = clips[torch.arange(num_clips)[:, None], frames]
        pictures = rearrange(chosen, "N m H W C -> (N m) C H W")[:count]
        captions = [request.text for request in requests for _ in range(FRAMES_OF_CLIP)]
        return pictures, captions[:count]

    def captions(self) -> Iterable[str]:
        return ()


@dataclass(frozen=True)
class LeafSource:
    """Dead leaves, new ones in every batch; for tokenizers, which need no captions."""

    size: int
    seed: int

    def __call__(self, number: int, count: int) -> Pictures:
        drawn = [dead_leaves(generator_of(self.seed, number, index), self.size) for index in range(count)]
        return rearrange(torch.from_numpy(np.stack(drawn)), "N H W C -> N C H W"), [""] * count

    def captions(self) -> Iterable[str]:
        return ()


def held_out_of(count: int, stretch: int = 1) -> list[int]:
    """Which of `count` examples training does not see: the last of `HELD_OUT` stretches of neighbours, if so many."""
    return [index for index in range(count) if index // stretch % HELD_OUT == HELD_OUT - 1]


def held_out_files(count: int) -> list[int]:
    """The same of pictures in files: the more there are, the more of them lie beside others that are much alike."""
    return held_out_of(count, max(1, count // 1000))


def held_out_frames(frames: ClipFrames) -> list[int]:
    """The same of frames: those of whole clips; of fewer than `HELD_OUT` clips stretches, which flatter."""
    whole_clips = [frame for clip in held_out_of(len(frames.clips)) for frame in frames.clips[clip]]
    return whole_clips or held_out_files(len(frames))


def seeds_of(seed: int, count: int) -> list[int]:
    """A seed for each of `count` sources of a mix, so that none draws by another's numbers; the first is `seed`."""
    return [seed, *(seed_of(seed, place) for place in range(1, count))][:count]


class Draw:
    """`count` examples of which each is drawn with equal chance, from (seed, number) alone.

    Examples for training and for validation are held apart; `held_out` says which, else `held_out_of` does. One that
    `read` finds broken (a MediaError) is replaced by the next that is drawn; `bad` holds it, and the log a line on it.
    """

    def __init__(self, read: ReadExample, count: int, seed: int, held_out: Sequence[int] | None = None):
        held_out = held_out_of(count) if held_out is None else held_out
        self.read, self.seed = read, seed
        self.for_validation: Sequence[int] = held_out or range(count)
        self.for_training: Sequence[int] = sorted(set(range(count)) - set(held_out))
        self.bad: dict[int, str] = {}  # number of a broken example -> what is wrong with it

    def __call__(self, number: int, count: int) -> Pictures:
        generator = generator_of(self.seed, number)
        indices = self.for_validation if number >= VALIDATION_NUMBER else self.for_training
        drawn: list[Tensor] = []
        captions: list[str] = []
        failed = 0
        while len(drawn) < count:
            index = indices[int(torch.randint(len(indices), (), generator=generator))]
            try:
                pixels, caption = self.read(index, generator)
            except MediaError as error:
                self.skip(index, error)
                failed += 1
                if failed > MAX_REDRAWS:
                    raise ValueError(f"{failed} examples in a row cannot be read, the last: {error}") from error
                continue
            failed = 0
            drawn.append(pixels)
            captions.append(caption)
        return torch.stack(drawn), captions

    def skip(self, index: int, error: MediaError) -> None:
        if index not in self.bad:
            self.bad[index] = str(error)
            log.warning("skipped %s", error)


class FileSource:
    """Pictures of files, cut to a square by `crop`. Frames of one clip are alike: they are held out together."""

    def __init__(self, examples: Examples | ClipFrames, size: int, seed: int, crop: Crop):
        held_out = held_out_frames(examples) if isinstance(examples, ClipFrames) else held_out_files(len(examples))
        self.draw = Draw(self._read, len(examples), seed, held_out)
        self.examples, self.size, self.crop = examples, size, crop
        self._cache: dict[int, Example] = {}
        self._cached_bytes = 0

    def __call__(self, number: int, count: int) -> Pictures:
        return self.draw(number, count)

    def _read(self, index: int, generator: torch.Generator) -> tuple[Tensor, str]:
        example = self._example(index)
        return self.crop(example.image, self.size, generator), example.caption or ""

    def _example(self, index: int) -> Example:
        if index not in self._cache:
            example = self.examples[index]
            self._cached_bytes += 3 * example.image.width * example.image.height
            if self._cached_bytes > CACHE_BYTES:
                return example
            self._cache[index] = example
        return self._cache[index]

    def captions(self) -> Iterable[str]:
        for index in range(len(self.examples)):
            try:
                yield self.examples.caption(index) or ""
            except MediaError as error:
                self.draw.skip(index, error)


def whole(image: Image.Image, size: int, generator: torch.Generator) -> Tensor:
    """Uint8 (3, size, size): the middle square, scaled. What captions speak of is all there."""
    return _pixels(fit(image, size))


def random_crop(image: Image.Image, size: int, generator: torch.Generator) -> Tensor:
    """Uint8 (3, size, size): a square of random place and side, at least `size` pixels where the picture has them."""
    return scaled(image.crop(random_square(image.size, size, generator)), size)


def random_square(within: tuple[int, int], size: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a square in a picture of (width, height), as `random_crop` takes it."""
    largest = min(within)
    smallest = min(size, largest)
    share, left, top = torch.rand(3, generator=generator).tolist()
    side = smallest + int(share * (largest - smallest + 1))
    x, y = int(left * (within[0] - side + 1)), int(top * (within[1] - side + 1))
    return x, y, x + side, y + side


def scaled(square: Image.Image, size: int) -> Tensor:
    """Uint8 (3, size, size) of a square of any size."""
    return _pixels(square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def _pixels(image: Image.Image) -> Tensor:
    return rearrange(torch.from_numpy(np.asarray(image).copy()), "H W C -> C H W")


def divide(count: int, shares: Sequence[float], number: int) -> list[int]:
    """How many of the `count` examples of batch `number` each share gets: what is due to it, rounded down or up.

    Which of the two changes from batch to batch, so that over many of them each gets exactly its share, also one that
    is less than an example a batch. The points that divide a batch are moved by multiples of the golden ratio, which
    leave no gaps (Weyl 1916).
    """
    shift = number * GOLDEN % 1
    ends = [int(count * sum(shares[: k + 1]) / sum(shares) + shift + EPSILON) for k in range(len(shares) - 1)]
    return [end - start for start, end in pairwise([0, *ends, count])]


@dataclass(frozen=True)
class MixedSource:
    """Several sources in one batch, each in its share."""

    sources: tuple[PictureSource, ...]
    shares: tuple[float, ...]

    def parts(self, number: int, count: int) -> list[Pictures]:
        """What each source gives to a batch: pictures of one and codes of another cannot be stacked."""
        counts = divide(count, self.shares, number)
        return [source(number, n) for source, n in zip(self.sources, counts, strict=True) if n]

    def __call__(self, number: int, count: int) -> Pictures:
        parts = self.parts(number, count)
        return torch.cat([images for images, _ in parts]), [caption for _, captions in parts for caption in captions]

    def captions(self) -> Iterable[str]:
        return (caption for source in self.sources for caption in source.captions())


def parts_of(source: PictureSource, number: int, count: int) -> list[Pictures]:
    """Batch `number` of `count` examples, in as many parts as there are sources."""
    return source.parts(number, count) if isinstance(source, MixedSource) else [source(number, count)]


def parse_spec(text: str) -> tuple[str, float]:
    """ "emoji.tar:0.5" -> ("emoji.tar", 0.5); a share left out is 1."""
    name, _, share = text.rpartition(":")
    try:
        return (name, float(share)) if name else (text, 1.0)
    except ValueError:
        return text, 1.0


def parse_shares(specs: Sequence[str]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and shares of several specs.

    Raises:
        ValueError: there is no spec, or a share is no positive number.
    """
    if not specs:
        raise ValueError('pictures must come from somewhere, got no source; name "scenes", folders or tars')
    names, shares = zip(*(parse_spec(text) for text in specs), strict=True)
    if not all(0 < share < math.inf for share in shares):
        raise ValueError(f"shares must be positive, got {dict(zip(names, shares, strict=True))}; leave the source out")
    return names, shares


def open_files(path: Path) -> Examples | ClipFrames:
    """The pictures of a folder or tar; where it holds clips and no pictures, frames of the clips.

    Raises:
        ValueError: it holds neither.
    """
    try:
        return open_examples(path)
    except NothingFoundError as nothing:
        try:
            frames = ClipFrames(path)
        except NothingFoundError as error:
            raise NothingFoundError(f"{nothing}; nor clips: {error}") from None
        for broken in frames.failed:
            log.warning("skipped %s", broken)
        return frames


def open_source(specs: Sequence[str], size: int, seed: int, crop: Crop) -> MixedSource:
    """The mixed source of several specs; `crop` is `whole` or `random_crop`.

    Raises:
        ValueError: there is no spec, a path holds neither pictures nor clips, or a share is no positive number.
    """
    names, shares = parse_shares(specs)
    seeds = zip(names, seeds_of(seed, len(names)), strict=True)
    return MixedSource(tuple(source_of(name, size, own, crop) for name, own in seeds), shares)


WITHOUT_FILES: Mapping[str, Callable[[int, int], PictureSource]] = {
    "scenes": SceneSource,
    "scene-clips": SceneFrameSource,
    "leaves": LeafSource,
}


def source_of(name: str, size: int, seed: int, crop: Crop) -> PictureSource:
    """ "scenes", "scene-clips" (their frames), "leaves", or the files of a path; as `open_source`."""
    if name in WITHOUT_FILES:
        return WITHOUT_FILES[name](size, seed)
    return FileSource(open_files(Path(name)), size, seed, crop)
