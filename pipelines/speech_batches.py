"""Batches that the shared transformer learns speech from: texts, sounds to hear and sounds to say, as tokens.

A batch is of one task, drawn in stated shares: to say a text, to write what was said, or to answer a sound by a sound.
Batch and noise are functions of a number alone. Sounds are encoded by the frozen tokenizer as they come, so that every
batch is another recording, mixture or speed. B sounds of S samples, P tokens of a prompt.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..data.loader import generator_of
from ..data.made_ahead import MadeAhead
from ..models.sound_objectives import Sounds, SpeechBatch
from ..tokenizers.sequence import prompt_batch
from .speech_model import ANSWER, SpeechModel
from .text_to_speech import spoken_prompt

TASKS = ("speak", "write", "answer")
DRAWING = 1  # random numbers for a batch are apart from all others


class Spoken(Protocol):
    """A recording, or several in a row."""

    @property
    def sound(self) -> Tensor:
        """Float32 (1, S) in [-1, 1]."""
        ...

    @property
    def text(self) -> str: ...

    @property
    def speaker(self) -> str:
        """Who says it; "" if unknown."""
        ...


SpeechSource = Callable[[int, int], Sequence[Spoken]]  # (number, count) -> what is said, a function of these alone
AnswerSource = Callable[[int, int], Sequence[tuple[Spoken, Spoken]]]  # the same: what is heard, and what answers it


@dataclass(frozen=True)
class SpeechData:
    """Where the speech comes from, which is learned to be said, to be written down, and to be answered."""

    said: SpeechSource
    heard: SpeechSource
    answers: AnswerSource | None
    texts: Callable[[], Iterable[str]]  # of all that is said: what a text tokenizer and a lexicon are made from
    speakers: Callable[[], Iterable[str]]  # all who are named


@dataclass(frozen=True, kw_only=True)
class SpeechRecipe:
    decoders: tuple[str, ...] = ("ar", "masked", "diffusion")
    data: tuple[str, ...] = ()  # where the speech comes from, in words: a resumed run must have the same
    shares: Mapping[str, float] = field(default_factory=lambda: {"speak": 0.6, "write": 0.4})  # of the steps
    steps: int = 6000
    batch_size: int = 32
    muon_lr: float = 4e-3
    adamw_lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.5
    ema_decay: float = 0.998
    drop_prompt: float = 0.1  # share of texts left out, for guidance
    drop_speaker: float = 0.1  # share of prompts that name no speaker
    bfloat16: bool = False
    compile: bool = False  # fuse the blocks with torch.compile; some minutes at the start, then half the time a step
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")
        unknown = set(self.shares) - set(TASKS)
        if unknown or not self.shares or min(self.shares.values()) <= 0:
            raise ValueError(f"shares are above 0, of {', '.join(TASKS)}, got {dict(self.shares)}")


Prompts = tuple[Tensor, Tensor]  # int64 (B, P), BEGIN first, and bool (B, P)
# B sounds one after the other, (1, S), and the samples of each: one tensor to hand on
Joined = tuple[Tensor, list[int]]


@dataclass(frozen=True)
class DrawnSpeech:
    """A batch before the tokenizer of sounds has heard it."""

    prompts: Prompts
    heard: Joined | None
    spoken: Joined | None
    written: Prompts | None


class SpeechBatches:
    """Number -> batch of one task, as tokens. `workers` processes draw and read ahead."""

    def __init__(
        self, model: SpeechModel, recipe: SpeechRecipe, data: SpeechData, *, workers: int = 0, stride: int = 1
    ):
        self.model, self.recipe, self.data = model, recipe, data
        self.text_tokenizer, self.vocabulary = model.text_tokenizer, model.transformer.vocabulary
        if "answer" in recipe.shares and data.answers is None:
            raise ValueError("to learn to answer takes pairs of sounds, got none; leave out its share")
        self.drawn = MadeAhead(self._any_task, workers, stride)

    def __call__(self, number: int) -> SpeechBatch:
        return self.encode(self.drawn(number))

    def _any_task(self, number: int) -> DrawnSpeech:
        generator = generator_of(self.recipe.seed, number, DRAWING)
        shares = torch.tensor(list(self.recipe.shares.values()))
        point = torch.rand((), generator=generator) * shares.sum()
        task = list(self.recipe.shares)[int((shares.cumsum(0)[:-1] <= point).sum())]
        return self.draw(task, number, generator)

    def draw(self, task: str, number: int, generator: torch.Generator) -> DrawnSpeech:
        count = self.recipe.batch_size
        if task == "answer":
            assert self.data.answers is not None
            heard, said = zip(*self.data.answers(number, count), strict=True)
            return DrawnSpeech(self._prompts([ANSWER] * count), joined(heard), joined(said), None)
        if task == "write":
            spoken = self.data.heard(number, count)
            written = self._prompts([one.text for one in spoken])
            return DrawnSpeech(self._prompts([""] * count), joined(spoken), None, written)
        spoken = self.data.said(number, count)
        dropped, nameless = torch.rand(2, count, generator=generator).tolist()
        texts = [
            ""
            if d < self.recipe.drop_prompt
            else spoken_prompt(one.text, one.speaker * (n >= self.recipe.drop_speaker))
            for one, d, n in zip(spoken, dropped, nameless, strict=True)
        ]
        return DrawnSpeech(self._prompts(texts), None, joined(spoken), None)

    def _prompts(self, texts: Sequence[str]) -> Prompts:
        return prompt_batch([self.text_tokenizer.encode(text) for text in texts], self.vocabulary)

    def encode(self, drawn: DrawnSpeech) -> SpeechBatch:
        device = self.model.device
        prompts, real = (tensor.to(device) for tensor in drawn.prompts)
        written = drawn.written and (drawn.written[0].to(device), drawn.written[1].to(device))
        return SpeechBatch(prompts, real, self._codes(drawn.heard), self._codes(drawn.spoken), written)

    def _codes(self, joined: Joined | None) -> Sounds | None:
        return self.model.encode(joined[0].split(joined[1], dim=1)) if joined else None


def joined(spoken: Sequence[Spoken]) -> Joined:
    """What is said, one after the other."""
    return torch.cat([one.sound for one in spoken], dim=1), [one.sound.shape[1] for one in spoken]
