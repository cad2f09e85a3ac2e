"""Train the shared transformer on speech: to say texts, to write what was said, and to answer sounds by sounds.

A step learns one of these tasks, drawn in stated shares. Batch and noise are functions of the step alone. Sounds are
encoded by the frozen tokenizer as they come, so that every batch is another recording, mixture or speed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.made_ahead import MadeAhead
from ..data.media import image_grid, write_png
from ..data.write_audio import write_audio
from ..models.attention import plain_products
from ..models.optimizers import muon_and_adamw
from ..models.schedules import trapezoid
from ..models.sound_objectives import Sounds, SpeechBatch, SpeechLosses
from ..models.transformer import SharedTransformer
from ..tokenizers.sequence import prompt_batch
from ..tokenizers.units import UnitsTokenizer
from .picture_sources import VALIDATION_NUMBER
from .spectrograms import spectrogram
from .speech_model import ANSWER, SpeechModel
from .text_to_image import seeded, words_of
from .text_to_speech import TextToSpeechPipeline, spoken_prompt
from .train_loop import LoopConfig, train

TASKS = ("speak", "write", "answer")
DRAWING = 1  # random numbers for a batch are apart from those for its noise
WATCHED = 4  # texts of the validation data that are said at each evaluation
MAX_SCORES = 1 << 31  # bytes of the attention of a batch in a layer
SHOWN = 8000  # samples of the narrowest spectrogram


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
Joined = tuple[
    Tensor, list[int]
]  # B sounds one after the other, (1, S), and the samples of each: one tensor to hand on


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
            return DrawnSpeech(self._prompts([ANSWER] * count), _joined(heard), _joined(said), None)
        if task == "write":
            spoken = self.data.heard(number, count)
            written = self._prompts([one.text for one in spoken])
            return DrawnSpeech(self._prompts([""] * count), _joined(spoken), None, written)
        spoken = self.data.said(number, count)
        dropped, nameless = torch.rand(2, count, generator=generator).tolist()
        texts = [
            ""
            if d < self.recipe.drop_prompt
            else spoken_prompt(one.text, one.speaker * (n >= self.recipe.drop_speaker))
            for one, d, n in zip(spoken, dropped, nameless, strict=True)
        ]
        return DrawnSpeech(self._prompts(texts), None, _joined(spoken), None)

    def _prompts(self, texts: Sequence[str]) -> Prompts:
        return prompt_batch([self.text_tokenizer.encode(text) for text in texts], self.vocabulary)

    def encode(self, drawn: DrawnSpeech) -> SpeechBatch:
        device = self.model.device
        prompts, real = (tensor.to(device) for tensor in drawn.prompts)
        written = drawn.written and (drawn.written[0].to(device), drawn.written[1].to(device))
        return SpeechBatch(prompts, real, self._codes(drawn.heard), self._codes(drawn.spoken), written)

    def _codes(self, joined: Joined | None) -> Sounds | None:
        return self.model.encode(joined[0].split(joined[1], dim=1)) if joined else None


def _joined(spoken: Sequence[Spoken]) -> Joined:
    return torch.cat([one.sound for one in spoken], dim=1), [one.sound.shape[1] for one in spoken]


def check_sounds(model: SpeechModel, recipe: SpeechRecipe) -> None:
    """Refuse what the tokens of the model do not allow, before anything is computed.

    Raises:
        ValueError: units, which have no latents, for `diffusion`; or the attention of a batch does not fit.
    """
    if isinstance(model.audio_tokenizer, UnitsTokenizer) and "diffusion" in recipe.decoders:
        raise ValueError("diffusion lives on latents, and speech units have none; take the decoders ar and masked")
    config = model.transformer.config
    scores = 4 * recipe.batch_size * config.num_heads * config.sound_steps**2
    if scores > MAX_SCORES:
        raise ValueError(
            f"{recipe.batch_size} sounds of up to {config.sound_steps} steps take {scores / 1e9:.1f} GB of attention a "
            f"layer, more than {MAX_SCORES / 1e9:.1f}; take shorter sounds, or fewer in a batch"
        )


def plan(model: SharedTransformer, recipe: SpeechRecipe, mean_steps: float) -> str:
    """What is about to happen: parameters, arithmetic and hours at 100 GFLOP/s."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    trunk, total = counts["blocks"] + counts["norm"], sum(counts.values())
    per_sound = 6 * (trunk + counts["sound"]) * (mean_steps * len(recipe.decoders) + 16)
    work = per_sound * recipe.steps * recipe.batch_size
    return (
        f"transformer: {total / 1e6:.2f} M parameters (trunk {trunk / 1e6:.2f}, embeddings "
        f"{counts['embedding'] / 1e6:.2f}, sound {counts['sound'] / 1e6:.2f}, modulation "
        f"{counts['modulation'] / 1e6:.2f}); decoders {', '.join(recipe.decoders)}; {dict(recipe.shares)}\n"
        f"{recipe.steps} steps of {recipe.batch_size}: {per_sound / 1e9:.1f} GFLOP a sound, {work / 1e15:.2f} PFLOP in "
        f"all; {work / 100e9 / 3600:.1f} hours at 100 GFLOP/s"
    )


def train_speech(
    model: SpeechModel,
    recipe: SpeechRecipe,
    data: SpeechData,
    out: Path,
    *,
    score: Callable[[SpeechModel], dict[str, float]] | None = None,
    resume: bool = False,
    fresh: bool = True,
    workers: int = 0,
    accelerator: Any = None,
    say: Callable[[str], None] = print,
) -> SpeechModel:
    """Train the transformer of `model` and return the model with the average of its weights.

    Checkpoints, curves, spectrograms and sounds are written under `out`. `fresh` sets the statistics of the latents
    first; leave it out for a transformer that knows them. `score` adds figures to each evaluation. `workers` processes
    draw and read the batches ahead.

    Raises:
        ValueError: see `check_sounds`.
        TrainingError: see `train`.
    """
    check_sounds(model, recipe)
    transformer = model.transformer
    stride = accelerator.num_processes if accelerator else 1
    batches = SpeechBatches(model, recipe, data, workers=workers, stride=stride)
    first = data.said(VALIDATION_NUMBER - 1, 64)
    sounds = model.encode([one.sound for one in first])
    if fresh:
        transformer.sound.standardize(sounds.codes[sounds.real])
    losses = SpeechLosses(transformer, recipe.decoders)
    say(plan(transformer, recipe, float(sounds.real.sum(1).float().mean())))
    compiled: list[bool] = []

    def loss(module: nn.Module, stream: int) -> tuple[Tensor, dict[str, float]]:
        batch = batches(stream)
        if recipe.compile and not compiled:  # here, so that the moving average stays as it is
            transformer.compile_blocks(dynamic=True)
            compiled.append(True)
        kind = model.device.type
        with plain_products(), torch.autocast(kind, torch.bfloat16, enabled=recipe.bfloat16):
            values = module(batch, generator_of(recipe.seed, stream))
        decoders = [value for name, value in values.items() if name != "length"]
        total = torch.stack(decoders).mean() + 0.1 * values.get("length", torch.zeros(()))
        return total, {name: float(value.detach()) for name, value in values.items()}

    def model_of(module: nn.Module) -> SpeechModel:
        trained = cast(SpeechLosses, module).model
        tasks = set(model.tasks) | set(recipe.shares)
        words = model.lexicon | {word for text in data.texts() for word in words_of(text)}
        voices = set(model.voices) | {one.speaker for one in first if one.speaker}
        return SpeechModel(
            trained,
            model.audio_tokenizer,
            model.text_tokenizer,
            voices=voices,
            lexicon=words,
            tasks=tasks,
            sound_codes=model.sound_codes,
        )

    @torch.no_grad()
    def evaluate(module: nn.Module, step: int) -> dict[str, float]:
        scores: dict[str, float] = {}
        for task in recipe.shares:
            generator = generator_of(recipe.seed, VALIDATION_NUMBER)
            values = module(batches.encode(batches.draw(task, VALIDATION_NUMBER, generator)), generator)
            prefix = "validation_answer_" if task == "answer" else "validation_"
            scores |= {prefix + name: float(value) for name, value in values.items()}
        trained = model_of(module)
        if "speak" in recipe.shares:
            _say_some(TextToSpeechPipeline(trained), recipe, data.said(VALIDATION_NUMBER, WATCHED), out, step)
        return scores | (score(trained) if score else {})

    loop = LoopConfig(
        steps=recipe.steps,
        schedule=trapezoid(recipe.steps, warmup=recipe.warmup, decay=recipe.decay),
        ema_decay=recipe.ema_decay,
        evaluate_every=recipe.evaluate_every,
        checkpoint_every=recipe.checkpoint_every,
    )
    optimizers = muon_and_adamw(
        transformer.blocks,
        losses,
        muon_lr=recipe.muon_lr,
        adamw_lr=recipe.adamw_lr,
        dtype=torch.bfloat16 if recipe.bfloat16 else torch.float32,
    )
    average = train(
        losses,
        loss,
        optimizers,
        loop,
        out,
        evaluate=evaluate,
        state={"config": asdict(transformer.config), "recipe": asdict(recipe), "fingerprints": model.fingerprints},
        resume=resume,
        accelerator=accelerator,
        say=say,
    )
    return model_of(average)


def _say_some(
    pipeline: TextToSpeechPipeline, recipe: SpeechRecipe, spoken: Sequence[Spoken], out: Path, step: int
) -> None:
    """Write what each decoder says of some texts, as sounds and as one picture of their spectrograms."""
    folder = out / "samples" / f"step-{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Tensor] = []
    for decoder in recipe.decoders:
        for number, one in enumerate(spoken):
            said = pipeline(one.text, speaker=one.speaker or None, decoder=decoder, generator=seeded(number, 1))
            write_audio(folder / f"{decoder}-{number}.wav", said.sounds[0], said.sample_rate)
            rows.append(said.sounds[0])
    samples = max(SHOWN, *(sound.shape[1] for sound in rows))
    padded = torch.stack([F.pad(sound, (0, samples - sound.shape[1])) for sound in rows])
    pictures = spectrogram(padded, pipeline.model.audio_tokenizer.sample_rate)
    write_png(out / "samples" / f"step-{step:08d}.png", image_grid(pictures, len(spoken)))
