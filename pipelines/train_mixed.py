"""Train one transformer on pictures, clips and sounds together, each with its texts, so that it goes from any to any.

A step learns one pair of modalities, drawn by a table of shares (see mixed_batches.py); pictures, clips and what is
said are learned by every decoder. Batch and noise are functions of the step alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.loader import generator_of
from ..models.attention import plain_products
from ..models.mixed_objectives import MixedLosses
from .clip_sources import ClipSource
from .mixed_batches import MixedBatches, MixedRecipe
from .mixed_model import MixedModel
from .picture_sources import VALIDATION_NUMBER, PictureSource
from .speech_batches import SpeechBatches, SpeechData
from .text_to_image import words_of
from .train_loop import train
from .train_model import Evaluation, standardize
from .train_recipe import cost as cost_of_pictures
from .train_speech import SpeechEvaluation, check_sounds, descended
from .train_speech import cost as cost_of_sounds
from .training_batches import NOISE, Batches
from .training_cost import of_kinds, work
from .trunk_recipe import loop_of, optimizers_of


class MixedBatchLoss:
    """(module, number) -> what training descends on that batch, and the losses that it is made of, by their pair."""

    def __init__(self, batches: MixedBatches):
        self.batches, self.recipe = batches, batches.recipe

    def __call__(self, module: nn.Module, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        mixed, device = self.batches(number), self.batches.pictures.device
        with plain_products(), torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            values = module(mixed.batch, generator_of(self.recipe.seed, number, NOISE))
        return descended(values), {f"{mixed.pair}/{name}": value.detach() for name, value in values.items()}


@dataclass(frozen=True)
class MixedEvaluation:
    """(module, step) -> the figures of pictures and clips, and those of sounds; each writes samples in its folder."""

    pictures: Evaluation
    sounds: SpeechEvaluation

    def __call__(self, module: nn.Module, step: int) -> dict[str, float]:
        parts = {"pictures": self.pictures(module, step), "sounds": self.sounds(module, step)}
        return {f"{part}/{name}": value for part, figures in parts.items() for name, value in figures.items()}


def plan(model: MixedModel, recipe: MixedRecipe, num_steps: int, *, gigaflops: float = 100.0) -> str:
    """What is about to happen: parameters, the mixing table, arithmetic, memory, and hours at `gigaflops` a second.

    `num_steps`: of the sounds of a batch, padded as they are.
    """
    parameters = sum(parameter.numel() for parameter in model.transformer.parameters())
    transformer, of_sounds = model.transformer, recipe.of_sounds
    cost = of_kinds(
        [
            (1 - sum(of_sounds.shares.values()), cost_of_pictures(transformer, recipe.of_pictures)),
            (sum(of_sounds.shares.values()), cost_of_sounds(transformer, of_sounds, num_steps)),
        ]
    )
    pairs = "".join(
        f"\n  {pair.replace('-', ' -> '):16}{share:6.1%} of the steps" for pair, share in recipe.mix.items()
    )
    return f"transformer: {parameters / 1e6:.2f} M parameters; decoders {', '.join(recipe.decoders)}{pairs}\n" + work(
        recipe, cost, parameters, "examples", gigaflops=gigaflops
    )


def train_mixed(
    model: MixedModel,
    recipe: MixedRecipe,
    source: PictureSource,
    data: SpeechData,
    out: Path,
    *,
    clips: ClipSource | None = None,
    sample_prompts: Sequence[str] = (),
    resume: bool = False,
    fresh: bool = True,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> MixedModel:
    """Train the transformer of `model` and return the model with the average of its weights.

    Checkpoints, curves and samples are written under `out`. `fresh` sets the statistics of the latents first; leave it
    out for a transformer that knows them. `workers` processes draw and read the batches ahead.

    Raises:
        ValueError: see `check_sounds`.
        TrainingError: see `train`.
    """
    check_sounds(model.speech, recipe.of_sounds)
    transformer, images, texts = model.transformer, model.pictures.image_tokenizer, model.pictures.text_tokenizer
    sounds = model.speech.encode([one.sound for one in data.said(VALIDATION_NUMBER - 1, 64)])
    if fresh:
        standardize(transformer, images, source)
        transformer.sound.standardize(sounds.codes[sounds.real])
    captions = chain(source.captions(), clips.captions() if clips else (), data.texts())
    words = {word for caption in captions for word in words_of(caption)}
    tasks, voices = recipe.of_sounds.shares, {*data.speakers()}

    def model_of(module: nn.Module) -> MixedModel:
        trained = cast(MixedLosses, module).model
        return model.knowing(trained, words=words, voices=voices, tasks=tasks, writes=recipe.text_share > 0)

    pictures = Batches(source, clips, images, texts, transformer, recipe)
    speech = SpeechBatches(model.speech, recipe.of_sounds, data)
    losses = MixedLosses(transformer, recipe.decoders)
    say(plan(model, recipe, sounds.real.shape[1]))
    average = train(
        losses,
        MixedBatchLoss(MixedBatches(pictures, speech, recipe, workers=workers)),
        optimizers_of(transformer.blocks, losses, recipe),
        loop_of(recipe),
        out,
        evaluate=MixedEvaluation(
            Evaluation(pictures, lambda module: model_of(module).pictures, out / "pictures", sample_prompts, None),
            SpeechEvaluation(speech, lambda module: model_of(module).speech, out / "sounds", None),
        ),
        state={
            "config": asdict(transformer.config),
            "recipe": asdict(recipe),
            "fingerprints": model.speech.fingerprints | model.pictures.fingerprints,
        },
        resume=resume,
        say=say,
    )
    return model_of(average)
