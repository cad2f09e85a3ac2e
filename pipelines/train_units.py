"""Train a tokenizer of speech units: k-means first, then the vocoder on units that stay; and show whether it worked.

Prints and draws, on pieces of files held apart, what train_audio_tokenizer.py does of its own: mel distance (nepers),
SI-SDR (dB), STOI and PESQ where their libraries are installed, spectrograms and wavs; of the units how many are in use
and their perplexity, the number of equally frequent units that would tell as much.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.loader import generator_of
from ..tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig
from .code_diagnostics import code_usage
from .picture_sources import VALIDATION_NUMBER
from .sound_sources import SoundSource
from .train_audio_tokenizer import overfit_sound, sound_loss, sound_scores, sound_work, train_on_sounds
from .train_reconstruction import TrainingRecipe

START_BATCHES, START_PIECES = 12, 128  # of pieces in which units are found: 38,400 units of 40 ms


@dataclass(frozen=True, kw_only=True)
class UnitsRecipe(TrainingRecipe):
    batch_size: int = 16
    learning_rate: float = 5e-3
    weight_decay: float = 0.01
    evaluate_every: int = 500


class UnitsLosses(nn.Module):
    """A tokenizer as a module whose forward is the loss: the mel distance, for units say nothing of phases."""

    def __init__(self, tokenizer: UnitsTokenizer, recipe: UnitsRecipe):
        super().__init__()
        self.tokenizer, self.recipe = tokenizer, recipe

    def forward(self, sounds: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Sounds (B, 1, t hop) -> what to minimize, and figures to show."""
        with torch.autocast(sounds.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            outputs, _ = self.tokenizer(sounds)
        return sound_loss(outputs.float(), sounds[:, :, : outputs.shape[2]])


@torch.no_grad()
def diagnose(tokenizer: UnitsTokenizer, sounds: Tensor) -> tuple[dict[str, float], Tensor]:
    """Scores on sounds (N, 1, S) in [-1, 1]; also what comes back of them."""
    ids = tokenizer.encode(sounds)
    heard = tokenizer.decode(ids, (sounds.shape[2],))
    in_use, bits = code_usage(ids)
    return {**sound_scores(heard, sounds), "units_in_use": in_use, "perplexity": 2**bits}, heard


def plan(recipe: UnitsRecipe, losses: UnitsLosses) -> str:
    """What is about to happen: units, bit rate, parameters, arithmetic, memory, and hours."""
    tokenizer = losses.tokenizer
    return (
        f"speech units: {tokenizer.vocab_size} kinds, {tokenizer.config.unit_rate} a second, "
        f"{tokenizer.bits_per_second():.0f} b/s, {sound_work(recipe, losses)}"
    )


def start_units(tokenizer: UnitsTokenizer, source: SoundSource, seed: int) -> None:
    """Find the units in pieces of `source` that no step of training and no validation draws.

    Raises:
        ValueError: the sounds are silent, or hold fewer patches that differ than there are units.
    """
    numbers = range(VALIDATION_NUMBER - START_BATCHES, VALIDATION_NUMBER)
    sounds = torch.cat([source(number, START_PIECES)[0] for number in numbers])
    if not sounds.any():
        raise ValueError("sounds must not all be silent; check the files")
    tokenizer.start(sounds, generator_of(seed, VALIDATION_NUMBER, 3))


def train_units(
    config: UnitsTokenizerConfig,
    recipe: UnitsRecipe,
    source: SoundSource,
    out: Path,
    *,
    resume: bool = False,
    init: UnitsTokenizer | None = None,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = print,
) -> UnitsTokenizer:
    """Train on `source`, whose pieces have `PIECE` samples, and return the tokenizer; the units of `init` stay.

    Checkpoints, curves, pictures and sounds are written under `out`.

    Raises:
        ValueError: the sounds cannot be learned from.
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    tokenizer = init or UnitsTokenizer(config)
    losses = UnitsLosses(tokenizer, recipe)
    say(plan(recipe, losses))
    if init is None:
        start_units(tokenizer, source, recipe.seed)

    def batch(number: int) -> tuple[Tensor]:
        return (source(number, recipe.batch_size)[0],)

    trained = train_on_sounds(losses, recipe, batch, source, diagnose, out, resume=resume, device=device, say=say)
    return cast(UnitsTokenizer, trained)


def overfit_one(config: UnitsTokenizerConfig, source: SoundSource, *, steps: int = 300, seed: int = 0) -> float:
    """Train on one piece alone, each of its units its own kind, and return its mel distance.

    Raises:
        TrainingError: it stays above `train_audio_tokenizer.OVERFIT_DISTANCE`, so something is wrong.
    """
    torch.manual_seed(seed)
    sounds, _ = source(0, 1)
    num_units = min(config.num_units, sounds.shape[2] // config.hop_length)
    tokenizer = UnitsTokenizer(replace(config, num_units=num_units, storage_dtype="float32"))
    tokenizer.start(sounds, generator_of(seed, 0, 3))
    return overfit_sound(tokenizer, sounds, steps)
