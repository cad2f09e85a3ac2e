"""Train a sound tokenizer, and show whether the training worked.

Prints and draws, on pieces of files held apart: mel distance (nepers) and SI-SDR (dB), with few codebooks and with all;
STOI and PESQ where their libraries are installed; codes in use and bits per code of each codebook; spectrograms, the
original above its reconstruction; and both as wav.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.media import write_png
from ..data.write_audio import write_audio
from ..models.audio_metrics import si_sdr
from ..models.schedules import cosine
from ..models.spectral_loss import mel_distance, phase_distance
from ..tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from ..tokenizers.units import UnitsTokenizer
from ..tokenizers.vocoder import DELAY, HOP, SAMPLE_RATE
from .code_diagnostics import code_usage
from .picture_sources import VALIDATION_NUMBER
from .sound_sources import SoundSource
from .spectrograms import side_by_side
from .speech_scores import missing, speech_scores
from .train_loop import TrainingError
from .train_reconstruction import TrainingRecipe, train_reconstruction
from .training_cost import counted, work

PIECE = 50 * HOP  # samples of a training piece: 1 s
FEWEST = 2  # codebooks with which training reckons
OVERFIT_DISTANCE = 0.15  # nepers
START_PIECES = 128
VALIDATION_PIECES = 32
DRAWN = 8  # pieces that are drawn and written


@dataclass(frozen=True, kw_only=True)
class AudioTokenizerRecipe(TrainingRecipe):
    batch_size: int = 16
    learning_rate: float = 5e-3
    weight_decay: float = 0.01
    phases: float = 0.1  # weight of the error of the complex spectrum, beside that of log-mel energies
    evaluate_every: int = 1000


class AudioLosses(nn.Module):
    """A tokenizer as a module whose forward is the loss: how far its sounds are from the originals, to the ear."""

    def __init__(self, tokenizer: AudioTokenizer, recipe: AudioTokenizerRecipe):
        super().__init__()
        self.tokenizer, self.recipe = tokenizer, recipe
        tokenizer.encoder.requires_grad_(not recipe.freeze_encoder)
        tokenizer.decoder.requires_grad_(not recipe.freeze_decoder)

    def forward(self, sounds: Tensor, num_levels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Sounds (B, 1, t HOP), told by so many codebooks each, int64 (B,) -> what to minimize, and figures to show."""
        with torch.autocast(sounds.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            outputs, _ = self.tokenizer(sounds, num_levels)
        return sound_loss(outputs.float(), sounds[:, :, : outputs.shape[2]], phases=self.recipe.phases)


def sound_loss(outputs: Tensor, targets: Tensor, *, phases: float = 0.0) -> tuple[Tensor, dict[str, float]]:
    """What is to be less of sounds (B, 1, S) beside their targets, to the ear, and figures to show.

    `phases` is the weight of the error of the complex spectrum, beside that of log-mel energies.
    """
    value = mel_distance(outputs, targets, SAMPLE_RATE).mean()
    figures = {"mel_train": float(value.detach()), "si_sdr_train": float(si_sdr(outputs.detach(), targets).mean())}
    if phases:
        value = value + phases * phase_distance(outputs, targets, SAMPLE_RATE).mean()
    return value, figures


def random_levels(num_codebooks: int, count: int, seed: int, number: int) -> Tensor:
    """How many codebooks each example of a batch is told by, int64 (count,) in [`FEWEST`, num_codebooks]."""
    fewest = min(FEWEST, num_codebooks)
    return torch.randint(fewest, num_codebooks + 1, (count,), generator=generator_of(seed, number, 2))


def sound_scores(heard: Tensor, sounds: Tensor) -> dict[str, float]:
    """Mean mel distance and SI-SDR of what came back of sounds (N, 1, S), and STOI and PESQ where installed."""
    return {
        "mel": float(mel_distance(heard, sounds, SAMPLE_RATE).mean()),
        "si_sdr": float(si_sdr(heard, sounds).mean()),
        **speech_scores(heard, sounds, SAMPLE_RATE),
    }


def write_heard(out: Path, sounds: Tensor, heard: Tensor) -> None:
    """The first `DRAWN` of sounds (N, 1, S) and what came back of them: spectrograms.png, and a wav of each kind."""
    drawn, heard = sounds[:DRAWN].cpu(), heard[:DRAWN].cpu()
    write_png(out / "spectrograms.png", side_by_side(drawn, heard, SAMPLE_RATE))
    for name, wave in (("original", drawn), ("reconstruction", heard)):
        write_audio(out / f"{name}.wav", wave.transpose(0, 1).flatten(1), SAMPLE_RATE)


@torch.no_grad()
def diagnose(tokenizer: AudioTokenizer, sounds: Tensor) -> tuple[dict[str, float], Tensor]:
    """Scores on sounds (N, 1, S) in [-1, 1]; also what comes back of them by all codebooks."""
    ids = tokenizer.encode(sounds)
    scores: dict[str, float] = {}
    for count in sorted({min(FEWEST, tokenizer.num_codebooks), tokenizer.num_codebooks}):
        heard = tokenizer.decode(ids[:, :count], (sounds.shape[2],))
        scores |= {f"{name}_of_{count}": value for name, value in sound_scores(heard, sounds).items()}
    for level, of_level in enumerate(ids.unbind(1), 1):
        in_use, bits = code_usage(of_level)
        scores |= {f"codes_in_use_{level}": in_use, f"bits_per_code_{level}": bits}
    return scores, heard


def plan(recipe: AudioTokenizerRecipe, losses: AudioLosses) -> str:
    """What is about to happen: codebooks, bit rates, parameters, arithmetic, memory, and hours."""
    tokenizer = losses.tokenizer
    count = tokenizer.num_codebooks
    rates = f"{tokenizer.bits_per_second(1) / 1000:.2f} to {tokenizer.bits_per_second(count) / 1000:.2f} kb/s"
    told = f"sound tokenizer: {count} codebooks of {tokenizer.vocab_size} codes, {rates}"
    return f"{told}, {sound_work(recipe, losses, torch.full((2,), count))}"


def sound_work(recipe: TrainingRecipe, losses: nn.Module, *more: Tensor, gigaflops: float = 50.0) -> str:
    """Parameters, arithmetic, memory, and hours at `gigaflops` a second. `losses` takes sounds, and `more` of two."""
    parameters = sum(p.numel() for p in losses.parameters())
    each = counted(losses, (torch.zeros(2, 1, PIECE), *more))
    pieces = f"pieces of {PIECE / SAMPLE_RATE:g} s"
    return f"{parameters / 1e6:.2f} M parameters\n" + work(recipe, each, parameters, pieces, gigaflops=gigaflops)


def train_audio_tokenizer(
    config: AudioTokenizerConfig,
    recipe: AudioTokenizerRecipe,
    source: SoundSource,
    out: Path,
    *,
    resume: bool = False,
    init: AudioTokenizer | None = None,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = print,
) -> AudioTokenizer:
    """Train on `source`, whose pieces have `PIECE` samples, and return the tokenizer.

    Checkpoints, curves, pictures and sounds are written under `out`.

    Raises:
        ValueError: the sounds cannot be learned from.
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    tokenizer = init or AudioTokenizer(config)
    start, _ = source(VALIDATION_NUMBER - 1, START_PIECES)
    if not start.any():
        raise ValueError("sounds must not all be silent; check the files")
    if init is None:
        tokenizer.start_linear(start)
    losses = AudioLosses(tokenizer, recipe)
    say(plan(recipe, losses))

    def batch(number: int) -> tuple[Tensor, Tensor]:
        sounds, _ = source(number, recipe.batch_size)
        return sounds, random_levels(tokenizer.num_codebooks, len(sounds), recipe.seed, number)

    trained = train_on_sounds(losses, recipe, batch, source, diagnose, out, resume=resume, device=device, say=say)
    return cast(AudioTokenizer, trained)


def train_on_sounds(
    losses: nn.Module,
    recipe: TrainingRecipe,
    batch: Callable[[int], tuple[Tensor, ...]],
    source: SoundSource,
    diagnose: Callable[[Any, Tensor], tuple[dict[str, float], Tensor]],
    out: Path,
    *,
    resume: bool,
    device: str | torch.device,
    say: Callable[[str], None],
) -> nn.Module:
    """`train_reconstruction` for tokenizers of sounds, which are heard, drawn and scored at each evaluation.

    `batch` gives what `losses` takes at a step, `diagnose` the scores of a tokenizer on sounds and what comes back.
    """
    for line in missing():
        say(line)
    validation = source(VALIDATION_NUMBER, VALIDATION_PIECES)[0].to(device)

    def evaluate(average: nn.Module) -> dict[str, float]:
        scores, heard = diagnose(average.tokenizer, validation)
        write_heard(out, validation, heard)
        return scores

    def batches(number: int) -> tuple[Tensor, ...]:
        return tuple(tensor.to(device) for tensor in batch(number))

    trained = train_reconstruction(
        losses, recipe, batches, out, evaluate=evaluate, resume=resume, device=device, say=say
    )
    return cast(nn.Module, trained.tokenizer)


def overfit_one(config: AudioTokenizerConfig, source: SoundSource, *, steps: int = 600, seed: int = 0) -> float:
    """Train on one piece alone and return its mel distance; a sound tokenizer comes below `OVERFIT_DISTANCE`.

    Raises:
        TrainingError: the target is missed, so something in data or network is wrong.
    """
    torch.manual_seed(seed)
    tokenizer = AudioTokenizer(replace(config, storage_dtype="float32"))
    sounds, _ = source(0, 1)
    tokenizer.start_linear(sounds)
    return overfit_sound(tokenizer, sounds, steps)


def overfit_sound(tokenizer: AudioTokenizer | UnitsTokenizer, sounds: Tensor, steps: int) -> float:
    """Train on one sound (1, 1, S) alone; as `overfit_one`."""
    # a long average of squared gradients, or no warm-up, left one seed in two at a bad start for good
    rate, schedule = 3e-3, cosine(steps, warmup=50)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        outputs, _ = tokenizer(sounds)
        optimizer.zero_grad()
        mel_distance(outputs, sounds[:, :, :-DELAY], SAMPLE_RATE).mean().backward()
        nn.utils.clip_grad_norm_(tokenizer.parameters(), 1.0)
        optimizer.step()
    heard = tokenizer.decode(tokenizer.encode(sounds), (sounds.shape[2],))
    reached = float(mel_distance(heard, sounds, SAMPLE_RATE))
    if reached > OVERFIT_DISTANCE:
        raise TrainingError(
            f"one sound must come as near as {OVERFIT_DISTANCE}, got {reached:.3f}; check data range and network"
        )
    return reached
