"""Where training clips come from: the built-in world, moving leaves, folders and tars of clips, in stated shares.

As in picture_sources.py a source maps (number, count) to clips and captions and depends on nothing else.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..data.clip_frames import ClipFrames
from ..data.clip_render import NUM_FRAMES
from ..data.loader import generator_of
from ..data.media import MediaError
from ..data.moving_leaves import moving_leaves
from ..data.scene_clips import CLIP_KINDS, EVEN_KINDS, clip_batch, draw_clip
from .picture_sources import (
    Draw,
    MixedSource,
    Pictures,
    PictureSource,
    parse_shares,
    random_square,
    scaled,
    seeds_of,
    stretch_of,
)

MIXTURE: Mapping[str, float] = {**EVEN_KINDS, "circles": 4.0, "two": 2.0, "turns": 2.0, "moves": 2.0}
CAPTIONS_OF_CLIPS = 800  # of each kind
CACHED_SIDES = 4  # frames are kept at so many times the size that is trained on

log = logging.getLogger(__name__)

# A PictureSource whose pictures move: (number, count) -> uint8 (count, 3, T, size, size), or codes of token shards,
# int64 (count, T, h, w), and a caption each.
ClipSource = PictureSource


@dataclass(frozen=True)
class SceneClipSource:
    """Freshly drawn clips: a stretch of one endless list for every batch."""

    size: int
    seed: int

    def __call__(self, number: int, count: int) -> Pictures:
        clips, requests = clip_batch(self.seed, stretch_of(number, count), count, size=self.size, mixture=MIXTURE)
        return rearrange(clips, "N T H W C -> N C T H W"), [request.text for request in requests]

    def captions(self) -> Iterable[str]:
        for number in range(CAPTIONS_OF_CLIPS):
            generator = torch.Generator().manual_seed(number)
            for kind in CLIP_KINDS:
                yield draw_clip(generator, kind)[0].text


@dataclass(frozen=True)
class LeafClipSource:
    """Moving leaves, new ones in every batch; for tokenizers, which need no captions."""

    num_frames: int
    size: int
    seed: int

    def __call__(self, number: int, count: int) -> Pictures:
        generators = [generator_of(self.seed, number, index) for index in range(count)]
        clips = [moving_leaves(generator, self.size, self.num_frames) for generator in generators]
        return torch.stack(clips), [""] * count

    def captions(self) -> Iterable[str]:
        return ()


class ClipFileSource:
    """Pieces of clips: `num_frames` frames from a random moment on, cut to a random square that stands still.

    Clips for training and for validation are held apart. Clips that are too short are left out.

    Raises:
        ValueError: every clip is too short.
    """

    def __init__(self, frames: ClipFrames, num_frames: int, size: int, seed: int):
        self.frames, self.num_frames, self.size = frames, num_frames, size
        self.clips = [clip for clip in frames.clips if len(clip) >= num_frames]
        if not self.clips:
            longest = max(map(len, frames.clips))
            raise ValueError(f"clips must have at least {num_frames} frames, the longest has {longest}; raise the rate")
        self.draw = Draw(self._read, len(self.clips), seed)

    def __call__(self, number: int, count: int) -> Pictures:
        return self.draw(number, count)

    def _read(self, index: int, generator: torch.Generator) -> tuple[Tensor, str]:
        clip = self.clips[index]
        start = int(torch.randint(len(clip) - self.num_frames + 1, (), generator=generator))
        pictures = [self.frames[number].image for number in clip[start : start + self.num_frames]]
        square = random_square(pictures[0].size, self.size, generator)
        pixels = [scaled(picture.crop(square), self.size) for picture in pictures]
        return torch.stack(pixels, dim=1), self.frames.caption(clip[0]) or ""

    def captions(self) -> Iterable[str]:
        for index, clip in enumerate(self.clips):
            try:
                yield self.frames.caption(clip[0]) or ""
            except MediaError as error:
                self.draw.skip(index, error)


def open_clip_source(specs: Sequence[str], num_frames: int, size: int, rate: float, seed: int) -> MixedSource:
    """The mixed source of several specs: "scenes", "leaves", or folders and tars of clips, at `rate` frames per second.

    Raises:
        ValueError: there is no spec, a path holds no clips that are long enough, a share is no positive number, or
            scenes are asked for in another length than theirs.
    """
    names, shares = parse_shares(specs)
    seeds = zip(names, seeds_of(seed, len(names)), strict=True)
    return MixedSource(tuple(clip_source_of(name, num_frames, size, rate, own) for name, own in seeds), shares)


def clip_source_of(name: str, num_frames: int, size: int, rate: float, seed: int) -> ClipSource:
    """ "scenes", "leaves", or the clips of a path; as `open_clip_source`."""
    if name == "leaves":
        return LeafClipSource(num_frames, size, seed)
    if name == "scenes":
        if num_frames != NUM_FRAMES:
            raise ValueError(f"clips of scenes have {NUM_FRAMES} frames, got {num_frames}; ask for as many")
        return SceneClipSource(size, seed)
    frames = ClipFrames(Path(name), float(1 / Fraction(rate)), CACHED_SIDES * size)
    for broken in frames.failed:
        log.warning("skipped %s", broken)
    return ClipFileSource(frames, num_frames, size, seed)
