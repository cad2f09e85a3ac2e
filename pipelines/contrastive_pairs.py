"""What the head that makes vectors learns from: captions with pictures or clips, or texts with recordings of them.

B pairs. A batch is a function of its number alone. It is of pictures, or of clips, or of sounds, and never mixed, so
that every wrong answer is of the right kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..data.loader import generator_of
from ..models.features import Features
from .clip_order import seen_frames
from .clip_sources import ClipSource
from .embed import EmbeddingPipeline
from .picture_sources import VALIDATION_NUMBER, PictureSource, parts_of
from .seen_media import begun_frames
from .speech_batches import Joined, SpeechSource, joined
from .training_batches import codes_of

DRAWING = 2  # random numbers for what a step learns are apart from all others
VALIDATION_PAIRS = 128


@dataclass(frozen=True, kw_only=True)
class ContrastiveRecipe:
    data: tuple[str, ...] = ()  # where the pairs come from, in words: a resumed run must have the same
    clip_data: tuple[str, ...] = ()  # the same, of clips
    clip_share: float = 0.25  # of the steps that learn clips, where there are any
    steps: int = 600
    batch_size: int = 128  # pairs: each tells its own from the others
    learning_rate: float = 2e-3
    warmup: int = 30
    prompt_length: int = 64  # tokens; captions are cut there
    bfloat16: bool = False  # products of the transformer in bfloat16; pays where the processor has units for it
    seed: int = 0
    evaluate_every: int = 100
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise ValueError(f"steps must be at least 1 and batch_size 2, got {self.steps} and {self.batch_size}")
        if not 0 < self.clip_share < 1:
            raise ValueError(f"clip_share must be between 0 and 1, got {self.clip_share}; leave out clips to have none")
        if self.prompt_length < 2:
            raise ValueError(f"prompt_length must be at least 2, got {self.prompt_length}")


class Pairs(Protocol):
    """A batch before tokenizers and transformer have seen it."""

    @property
    def captions(self) -> list[str]: ...

    def media_features(self, pipeline: EmbeddingPipeline) -> Features:
        """What the transformer makes of the media."""
        ...


class PairSource(Protocol):
    def __call__(self, number: int) -> Pairs: ...

    def validation(self) -> dict[str, Pairs]:
        """Pairs kept for that, by the prefix of their figures."""
        ...


@dataclass(frozen=True)
class SeenPairs:
    parts: list[Tensor]  # of each source: uint8 (n, m, 3, H, W), or codes of token shards, int64 (n, m, h, w)
    captions: list[str]
    numbers: list[int]  # which frames of the clips they are; [0] for pictures

    def media_features(self, pipeline: EmbeddingPipeline) -> Features:
        pictures, device = pipeline.pictures, pipeline.pictures.device
        with torch.autocast(device.type, enabled=False):  # codes are those that the pipeline finds
            codes = torch.cat([codes_of(part.to(device), pictures.image_tokenizer).to(device) for part in self.parts])
        numbers = torch.tensor(self.numbers, device=device).repeat(len(codes), 1)
        return pipeline.frame_features(begun_frames(pictures.transformer.vocabulary, codes), numbers)


@dataclass(frozen=True)
class HeardPairs:
    sounds: Joined
    captions: list[str]

    def media_features(self, pipeline: EmbeddingPipeline) -> Features:
        speech, (sounds, lengths) = pipeline.speech, self.sounds
        with torch.autocast(speech.device.type, enabled=False):
            codes = speech.encode(sounds.split(lengths, dim=1))
        return pipeline.sound_features(codes)


class CaptionedMedia:
    """Number -> pairs of captions with pictures, or with the frames that are seen of clips."""

    def __init__(self, pictures: PictureSource, clips: ClipSource | None, recipe: ContrastiveRecipe):
        self.pictures, self.clips, self.recipe = pictures, clips, recipe

    def __call__(self, number: int) -> SeenPairs:
        moving = float(torch.rand((), generator=generator_of(self.recipe.seed, number, DRAWING)))
        if self.clips and moving < self.recipe.clip_share:
            return self.of_clips(number, self.recipe.batch_size)
        return self.of_pictures(number, self.recipe.batch_size)

    def validation(self) -> dict[str, Pairs]:
        pairs: dict[str, Pairs] = {"": self.of_pictures(VALIDATION_NUMBER, VALIDATION_PAIRS)}
        return pairs | ({"clip_": self.of_clips(VALIDATION_NUMBER, VALIDATION_PAIRS)} if self.clips else {})

    def of_pictures(self, number: int, count: int) -> SeenPairs:
        parts = parts_of(self.pictures, number, count)
        return SeenPairs([pictures.unsqueeze(1) for pictures, _ in parts], _captions(parts), [0])

    def of_clips(self, number: int, count: int) -> SeenPairs:
        assert self.clips is not None
        parts = parts_of(self.clips, number, count)
        clips = [clips if clips.dtype == torch.long else clips.transpose(1, 2) for clips, _ in parts]  # (n, T, ...)
        numbers = seen_frames(clips[0].shape[1])
        return SeenPairs([clip[:, numbers] for clip in clips], _captions(parts), numbers)


class SpokenTexts:
    """Number -> pairs of texts with recordings of them."""

    def __init__(self, source: SpeechSource, recipe: ContrastiveRecipe):
        self.source, self.recipe = source, recipe

    def __call__(self, number: int) -> HeardPairs:
        return self.of_sounds(number, self.recipe.batch_size)

    def validation(self) -> dict[str, Pairs]:
        return {"": self.of_sounds(VALIDATION_NUMBER, VALIDATION_PAIRS)}

    def of_sounds(self, number: int, count: int) -> HeardPairs:
        spoken = self.source(number, count)
        return HeardPairs(joined(spoken), [one.text for one in spoken])


def _captions(parts: Sequence[tuple[Tensor, list[str]]]) -> list[str]:
    return [caption for _, captions in parts for caption in captions]
