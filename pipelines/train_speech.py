"""Train the shared transformer on speech: to say texts, to write what was said, and to answer sounds by sounds.

A step learns one of these tasks (see speech_batches.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.media import image_grid, write_png
from ..data.write_audio import write_audio
from ..models.attention import plain_products
from ..models.sound_objectives import SpeechLosses
from ..models.transformer import SharedTransformer
from ..tokenizers.units import UnitsTokenizer
from .picture_sources import VALIDATION_NUMBER
from .spectrograms import spectrogram
from .speech_batches import SpeechBatches, SpeechData, SpeechRecipe, Spoken
from .speech_model import SpeechModel
from .text_to_image import seeded, words_of
from .text_to_speech import TextToSpeechPipeline
from .train_loop import train
from .training_batches import NOISE
from .training_cost import Cost, of_kinds, trunk_cost, work
from .trunk_recipe import loop_of, optimizers_of

WATCHED = 4  # texts of the validation data that are said at each evaluation
MAX_SCORES = 1 << 31  # bytes of the attention of a batch in a layer
USUAL_TEXT = 16  # tokens of a text
LENGTH_SHARE = 0.1  # weight of the cross-entropy of the lengths
SHOWN = 8000  # samples of the narrowest spectrogram

Score = Callable[[SpeechModel], dict[str, float]]


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


def plan(model: SharedTransformer, recipe: SpeechRecipe, num_steps: int, *, gigaflops: float = 100.0) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second.

    `num_steps`: of the sounds of a batch, padded as they are.
    """
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    parameters = sum(counts.values())
    return (
        f"transformer: {parameters / 1e6:.2f} M parameters (trunk {(counts['blocks'] + counts['norm']) / 1e6:.2f}, "
        f"embeddings {counts['embedding'] / 1e6:.2f}, sound {counts['sound'] / 1e6:.2f}, modulation "
        f"{counts['modulation'] / 1e6:.2f}); decoders {', '.join(recipe.decoders)}; {dict(recipe.shares)}\n"
        + work(recipe, cost(model, recipe, num_steps), parameters, "sounds", gigaflops=gigaflops)
    )


def cost(model: SharedTransformer, recipe: SpeechRecipe, num_steps: int) -> Cost:
    """Of a sound that is said by every decoder, written down, or answered."""
    count, sound = len(recipe.decoders), 1 + num_steps

    def trunk(*segments: tuple[int, int]) -> Cost:
        return trunk_cost(model.config, *segments, bfloat16=recipe.bfloat16)

    heads = Cost(6.0 * sum(p.numel() for p in model.sound.parameters()) * num_steps * count, 0)
    text_head = Cost(6.0 * model.text_head().numel() * USUAL_TEXT, 0)
    tasks = {
        "speak": trunk((USUAL_TEXT, 0), *[(sound, USUAL_TEXT)] * count) + heads,
        "write": trunk((1, 0), (sound, 1), (USUAL_TEXT, 1 + sound)) + text_head,
        "answer": trunk((USUAL_TEXT, 0), (sound, USUAL_TEXT), *[(sound, USUAL_TEXT + sound)] * count) + heads,
    }
    return of_kinds([(share, tasks[task]) for task, share in recipe.shares.items()])


def descended(losses: Mapping[str, Tensor]) -> Tensor:
    """What training descends: the mean of the decoders' losses, and a little of that of the lengths."""
    decoders = [value for name, value in losses.items() if name != "length"]
    return torch.stack(decoders).mean() + LENGTH_SHARE * losses.get("length", torch.zeros(()))


class SpeechBatchLoss:
    """(module, number) -> what training descends on that batch, and the losses that it is made of."""

    def __init__(self, batches: SpeechBatches):
        self.batches, self.recipe = batches, batches.recipe
        self.compiled = False

    def __call__(self, module: nn.Module, number: int) -> tuple[Tensor, dict[str, float]]:
        batch, model = self.batches(number), self.batches.model
        if self.recipe.compile and not self.compiled:  # here, so that the moving average stays as it is
            model.transformer.compile_blocks(dynamic=True)
            self.compiled = True
        with plain_products(), torch.autocast(model.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            values = module(batch, generator_of(self.recipe.seed, number, NOISE))
        return descended(values), {name: float(value.detach()) for name, value in values.items()}


@dataclass(frozen=True)
class SpeechEvaluation:
    """(module, step) -> its losses on speech kept for that, and the figures of `score`; writes what it says of some."""

    batches: SpeechBatches
    model_of: Callable[[nn.Module], SpeechModel]
    out: Path
    score: Score | None

    @torch.no_grad()
    def __call__(self, module: nn.Module, step: int) -> dict[str, float]:
        batches, recipe = self.batches, self.batches.recipe
        figures: dict[str, float] = {}
        for task in recipe.shares:
            generator = generator_of(recipe.seed, VALIDATION_NUMBER, NOISE)
            values = module(batches.encode(batches.draw(task, VALIDATION_NUMBER, generator)), generator)
            prefix = "validation_answer_" if task == "answer" else "validation_"
            figures |= {prefix + name: float(value) for name, value in values.items()}
        trained = self.model_of(module)
        if "speak" in recipe.shares:
            spoken = batches.data.said(VALIDATION_NUMBER, WATCHED)
            _say_some(TextToSpeechPipeline(trained), recipe, spoken, self.out, step)
        return figures | (self.score(trained) if self.score else {})


def train_speech(
    model: SpeechModel,
    recipe: SpeechRecipe,
    data: SpeechData,
    out: Path,
    *,
    score: Score | None = None,
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
    say(plan(transformer, recipe, sounds.real.shape[1]))

    def model_of(module: nn.Module) -> SpeechModel:
        trained = cast(SpeechLosses, module).model
        tasks = set(model.tasks) | set(recipe.shares)
        words = model.lexicon | {word for text in data.texts() for word in words_of(text)}
        voices = {*model.voices, *data.speakers()}
        return SpeechModel(
            trained,
            model.audio_tokenizer,
            model.text_tokenizer,
            voices=voices,
            lexicon=words,
            tasks=tasks,
            sound_codes=model.sound_codes,
        )

    loop = loop_of(recipe)
    optimizers = optimizers_of(transformer.blocks, losses, recipe)
    average = train(
        losses,
        SpeechBatchLoss(batches),
        optimizers,
        loop,
        out,
        evaluate=SpeechEvaluation(batches, model_of, out, score),
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
