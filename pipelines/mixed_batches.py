"""Batches that one transformer learns everything from: which pair of modalities each is of, by a table of shares.

A pair is what is given and what is learned. Batch and noise are functions of a number alone, as in training_batches.py
and speech_batches.py, which draw the examples of each pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch

from ..data.loader import generator_of
from ..data.made_ahead import MadeAhead
from ..models.objectives import Batch
from ..models.sound_objectives import SpeechBatch
from .picture_sources import parse_spec
from .speech_batches import DrawnSpeech, SpeechBatches, SpeechRecipe
from .train_recipe import TransformerRecipe
from .training_batches import DRAWING, Batches, Drawn

PICTURE_PAIRS = ("text-image", "image-text")
CLIP_PAIRS = ("text-video", "video-text")  # clips are also learned after some of their frames
TASKS = {"text-audio": "speak", "audio-text": "write", "audio-audio": "answer"}  # as models of speech call them
USUAL: Mapping[str, float] = {
    **{"text-image": 3.0, "image-text": 1.0, "text-video": 3.0, "video-text": 1.0},
    **{"text-audio": 3.0, "audio-text": 2.0, "audio-audio": 1.0},
}
MOST = 0.999  # share of clips or captions, of which a recipe has less than all
CHOOSING = 3  # random numbers for which pair a batch is of are apart from all others


def mixing_table(specs: Sequence[str], *, clips: bool, answers: bool) -> dict[str, float]:
    """Share of the steps of each pair, from specs like "text-image:3"; without any, `USUAL` where there is data.

    Raises:
        ValueError: there is no such pair, it was named twice, its share is not positive, it takes clips or pairs of
            sounds and there are none, there are clips and none takes them, or nothing is of pictures or of sounds.
    """
    missing = (*(() if clips else CLIP_PAIRS), *(() if answers else ("audio-audio",)))
    shares = {pair: share for pair, share in USUAL.items() if pair not in missing}
    if specs:
        shares = {}
        for pair, share in map(parse_spec, specs):
            if pair not in USUAL or pair in shares or not 0 < share < math.inf:
                raise ValueError(
                    f"a mix has each of {', '.join(USUAL)} at most once, with a share above 0, got {specs}"
                )
            shares[pair] = share
    for pair in shares.keys() & {*missing}:
        raise ValueError(f"{pair} takes {'clips' if pair in CLIP_PAIRS else 'pairs of sounds'}, and there are none")
    if clips and not shares.keys() & {*CLIP_PAIRS}:
        raise ValueError(f"there are clips, and no pair learns them, got {', '.join(shares)}; leave the clips out")
    if not shares.keys() & {*PICTURE_PAIRS} or not shares.keys() & TASKS.keys():
        raise ValueError(f"a mix has a pair of pictures and one of sounds, got {', '.join(shares)}; add the other")
    total = sum(shares.values())
    return {pair: share / total for pair, share in shares.items()}


@dataclass(frozen=True, kw_only=True)
class MixedRecipe(TransformerRecipe):
    """`clip_share` and `text_share` follow from the mix."""

    mix: Mapping[str, float]  # pair -> share of the steps, as `mixing_table` gives them
    speech_data: tuple[str, ...] = ()  # as `data`, where the speech comes from

    def __post_init__(self) -> None:
        clips = sum(self.mix.get(pair, 0) for pair in CLIP_PAIRS)
        object.__setattr__(self, "clip_share", clips or self.clip_share)
        object.__setattr__(self, "text_share", sum(self.mix.get(pair, 0) for pair in ("image-text", "video-text")))
        super().__post_init__()

    @property
    def of_pictures(self) -> TransformerRecipe:
        """What it asks of pictures and clips, as a run that learns nothing else is asked."""
        share = 1 - sum(self.mix.get(pair, 0) for pair in TASKS)
        names = [item.name for item in fields(TransformerRecipe)]
        drawn = {name: getattr(self, name) for name in names} | {
            "clip_share": min(self.clip_share / share, MOST) if self.clip_data else self.clip_share,
            "text_share": min(self.text_share / share, MOST),
        }
        return TransformerRecipe(**drawn)

    @property
    def of_sounds(self) -> SpeechRecipe:
        """What it asks of sounds, as a run that learns nothing else is asked."""
        names = ("decoders", "steps", "batch_size", "bfloat16", "seed", "evaluate_every", "checkpoint_every")
        return SpeechRecipe(
            data=self.speech_data,
            shares={task: self.mix[pair] for pair, task in TASKS.items() if pair in self.mix},
            drop_prompt=self.drop_caption,
            **{name: getattr(self, name) for name in names},
        )


@dataclass(frozen=True)
class MixedBatch:
    pair: str
    batch: Batch | SpeechBatch


class MixedBatches:
    """Number -> batch of one pair. `workers` processes draw and read ahead."""

    def __init__(self, pictures: Batches, sounds: SpeechBatches, recipe: MixedRecipe, *, workers: int = 0):
        self.pictures, self.sounds, self.recipe = pictures, sounds, recipe
        self.drawn = MadeAhead(self.draw, workers)

    def __call__(self, number: int) -> MixedBatch:
        pair, drawn = self.drawn(number)
        if isinstance(drawn, DrawnSpeech):
            return MixedBatch(pair, self.sounds.encode(drawn))
        return MixedBatch(pair, self.pictures.encode(drawn))

    def pair(self, number: int) -> str:
        """Which pair a batch is of."""
        shares = torch.tensor([*self.recipe.mix.values()], dtype=torch.float64)
        chosen = torch.multinomial(shares, 1, generator=generator_of(self.recipe.seed, number, CHOOSING))
        return [*self.recipe.mix][int(chosen)]

    def draw(self, number: int) -> tuple[str, Drawn | DrawnSpeech]:
        pair, generator = self.pair(number), generator_of(self.recipe.seed, number, DRAWING)
        if pair in TASKS:
            return pair, self.sounds.draw(TASKS[pair], number, generator)
        draw = self.pictures.clips_drawn if pair in CLIP_PAIRS else self.pictures.pictures_drawn
        return pair, draw(number, generator, pair.endswith("-text"))
