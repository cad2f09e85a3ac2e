"""Tokens of several tokenizers of sound under the same transformer, each trained with the same arithmetic.

The task is to say single spoken digits by `ar`, from text, in the voices of the recordings. The transformer has the
same trunk for all tokens; each learns for as many steps as a budget of floating point operations allows, counted on its
own first batches, forward and backward. So tokens that are many for a second of sound leave few steps to learn from,
which is their price. The tokenizers, which stay as they are, are not counted. What the models say, what the tokens
alone give back, and the recordings are judged alike.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..data.loader import generator_of
from ..models.attention import plain_products
from ..models.sound_objectives import SpeechBatch, SpeechLosses
from .checkpoint import checkpoints
from .compare import count_flops
from .evaluate_speech import Judge, real_and_reconstructed, says, with_all
from .open_tokenizer import open_audio_tokenizer
from .prepare_speech import digit_speech, new_speech_model
from .speech_batches import SpeechBatches, SpeechData, SpeechRecipe
from .speech_model import SpeechModel
from .spoken_digits import SPEEDS, WORDS, DigitStrings
from .text_to_image import seeded
from .text_to_speech import TextToSpeechPipeline
from .train_speech import train_speech

SECONDS = 0.7  # of the longest recording that takes part: raw samples of more do not fit into a step
MEAN_SECONDS = 0.4  # of a spoken digit
SLOTS = 2048  # of a batch, by which it is large enough; no batch has more than `MOST` sounds
MOST = 32
PROBED = 4  # batches on which a step's operations are counted
TIMED = 3  # digits that are said alone, one after the other


@dataclass(frozen=True)
class SoundTokens:
    """A tokenizer of sound by its name, and how many of its codebooks are used, the first ones."""

    tokenizer: str
    codebooks: int

    def __str__(self) -> str:
        return f"{self.tokenizer}:{self.codebooks}"

    @property
    def folder(self) -> str:
        """Name of the folder of its run."""
        return f"{Path(self.tokenizer).name}-{self.codebooks}"


def parse_sound_tokens(spec: str) -> SoundTokens:
    """ "tokenloom-voice:3" -> three codebooks of tokenloom-voice; without a number, one.

    Raises:
        ValueError: no name, or what follows the colon is no number of codebooks.
    """
    name, _, count = spec.rpartition(":") if ":" in spec else (spec, "", "1")
    if not name or not count.isdecimal() or not 1 <= int(count) <= 64:
        raise ValueError(f"tokens are NAME or NAME:CODEBOOKS, got {spec!r}; write tokenloom-voice:3")
    return SoundTokens(name, int(count))


@dataclass(frozen=True)
class SoundTokensRow:
    """What is known of one kind of tokens."""

    tokens: str
    bits_per_second: float
    ids_per_second: float
    parameters: int
    batch_size: int
    steps: int
    teraflops: float  # of training
    train_seconds: float | None  # None: it was interrupted
    said: int  # digits
    recordings: float  # digits recognized, of real recordings,
    codes: float  # of these after encoding and decoding,
    recognized: float  # and of what the model says
    say_seconds: float  # for one digit alone, the median


def training_flops(model: SpeechModel, recipe: SpeechRecipe, data: SpeechData) -> float:
    """Floating point operations of the transformer in a training step, forward and backward, in the mean of the first
    batches."""
    batches, losses = SpeechBatches(model, recipe, data), SpeechLosses(model.transformer, recipe.decoders)

    def step(batch: SpeechBatch, generator: torch.Generator) -> None:
        with plain_products():
            torch.stack(list(losses(batch, generator).values())).sum().backward()

    counts = [count_flops(partial(step, batches(n), generator_of(recipe.seed, n))) for n in range(PROBED)]
    losses.zero_grad(set_to_none=True)
    return sum(counts) / PROBED


def speakers_of(digits: Path) -> tuple[str, ...]:
    """Who says the digits.

    Raises:
        ValueError: as `DigitStrings`.
    """
    return DigitStrings(digits, max_digits=1, seed=0, seconds=SECONDS).speakers


@dataclass(frozen=True, kw_only=True)
class TokensTrial:
    """The same for all tokens: what is said, who judges, how long each learns."""

    digits: Path  # folder or tar of spoken digits
    judges: Mapping[str, Judge]  # by speaker, for each of them
    teraflops: float
    strings: int  # said in each voice
    seed: int
    shape: Mapping[str, int] = field(default_factory=dict)  # fields of `TransformerConfig`

    def __post_init__(self) -> None:
        if strangers := sorted(set(speakers_of(self.digits)) - self.judges.keys()):
            raise ValueError(f"every speaker of {self.digits} needs a judge, {', '.join(strangers)} has none; train it")


def compare_sound_tokens(
    tokens: Sequence[SoundTokens],
    trial: TokensTrial,
    out: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[SoundTokensRow]:
    """Train and judge each of `tokens` in turn. Runs lie under `out`, one folder each.

    Raises:
        ValueError: there is no such tokenizer, or it has fewer codebooks; before anything is trained.
        TrainingError: see `train`.
    """
    for one in tokens:
        found = open_audio_tokenizer(one.tokenizer)
        if not 1 <= one.codebooks <= found.num_codebooks:
            raise ValueError(f"{one.tokenizer} has 1 to {found.num_codebooks} codebooks, got {one.codebooks}")
    for number, one in enumerate(tokens):
        say(f"{one}: {number + 1} of {len(tokens)}")
        yield try_tokens(one, trial, out / one.folder, resume=resume, say=say)


def try_tokens(
    tokens: SoundTokens, trial: TokensTrial, folder: Path, *, resume: bool, say: Callable[[str], None]
) -> SoundTokensRow:
    """Train a model on these tokens in `folder`, and have it judged."""
    rate, seed = open_audio_tokenizer(tokens.tokenizer).sample_rate, trial.seed
    data = digit_speech(trial.digits, seed, sample_rate=rate, max_digits=1, seconds=SECONDS)
    model = new_speech_model(
        data.texts(),
        folder / "text_tokenizer",
        tokenizer=tokens.tokenizer,
        codebooks=tokens.codebooks,
        seconds=SECONDS / SPEEDS[0] + 0.05,  # said slowly, and a step of rounding
        seed=seed,
        **trial.shape,
    )
    fitting = round(SLOTS / (MEAN_SECONDS * model.steps_per_second))
    recipe = SpeechRecipe(
        decoders=("ar",), shares={"speak": 1.0}, steps=1, batch_size=max(1, min(MOST, fitting)), seed=seed
    )
    flops = training_flops(model, recipe, data)
    steps = max(1, round(trial.teraflops * 1e12 / flops))
    recipe = replace(recipe, steps=steps, warmup=min(recipe.warmup, steps // 10), evaluate_every=steps)

    began = time.perf_counter()
    goes_on = resume and bool(checkpoints(folder))
    trained = train_speech(model, recipe, data, folder, resume=resume, say=say)
    train_seconds = None if goes_on else time.perf_counter() - began
    trained.save_pretrained(folder / "final")

    recordings = DigitStrings(
        trial.digits, sample_rate=rate, max_digits=1, seed=seed, speakers=trained.voices, vary=None, seconds=SECONDS
    )
    real, back = real_and_reconstructed(trained, recordings, trial.judges, trial.strings)
    texts = [WORDS[number % len(WORDS)] for number in range(trial.strings)]
    how: dict[str, Any] = {"guidance_scale": 1.0, "seconds": SECONDS}
    said = with_all("said", says(trained, "ar", trial.judges, texts, seed=seed, **how))["said"]
    return SoundTokensRow(
        tokens=str(tokens),
        bits_per_second=trained.audio_tokenizer.bits_per_second(tokens.codebooks),
        ids_per_second=trained.steps_per_second * tokens.codebooks,
        parameters=sum(p.numel() for p in trained.transformer.parameters()),
        batch_size=recipe.batch_size,
        steps=steps,
        teraflops=steps * flops / 1e12,
        train_seconds=train_seconds,
        said=len(said.said),
        recordings=real.recognized,
        codes=back.recognized,
        recognized=said.recognized,
        say_seconds=_say_seconds(trained, how),
    )


def _say_seconds(model: SpeechModel, how: dict[str, Any]) -> float:
    pipeline, times = TextToSpeechPipeline(model), []
    for number in range(TIMED):
        began = time.perf_counter()
        pipeline(WORDS[number], speaker=model.voices[0], generator=seeded(number, 1), **how)
        times.append(time.perf_counter() - began)
    return median(times)


def table(rows: Sequence[SoundTokensRow]) -> str:
    """The rows as a table in Markdown; shares are digits recognized, less than 0 where more was heard than was said."""
    heads = (
        *("tokens", "bits a second", "ids a second", "trained for", "in", "recordings", "their codes"),
        *("said by the model", "for one digit"),
    )
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    for row in rows:
        variance = row.recognized * (1 - row.recognized) / row.said
        spread = f" +-{1.96 * math.sqrt(variance):.3f}" if variance > 0 else ""
        cells = (
            row.tokens,
            f"{row.bits_per_second:,.0f}",
            f"{row.ids_per_second:,.0f}",
            f"{row.steps:,} x {row.batch_size}",
            "?" if row.train_seconds is None else f"{row.train_seconds:.0f} s",
            f"{row.recordings:.3f}",
            f"{row.codes:.3f}",
            f"{row.recognized:.3f}{spread}",
            f"{row.say_seconds:.2f} s",
        )
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)
