"""Training a learned tokenizer to give back what it gets: all that pictures, clips and sounds share.

Pictures are (B, 3, H, W), clips (B, 3, T, H, W); where only frames matter, clips are read as pictures. Sounds are
(B, 1, S), and share the recipe and the training, but not the losses.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..data.made_ahead import MadeAhead
from ..models.adversarial import PatchDiscriminator, adversarial_losses
from ..models.image_metrics import psnr
from ..models.losses import reconstruction_loss
from ..models.schedules import cosine
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.video import VideoTokenizer
from .code_diagnostics import entropy_cliff
from .train_loop import LoopConfig, TrainingError, train
from .training_cost import counted, work

Learned = ImageTokenizer | VideoTokenizer
Source = Callable[[int, int], tuple[Tensor, list[str]]]  # (number, count) -> `count` examples, captions
Batches = Callable[[int], tuple[Tensor, ...]]  # number -> a batch, as the module to train takes it
Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]  # media, their reconstructions, latents z_q -> what is added


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    data: tuple[str, ...] = ()  # where the examples come from, in words: a resumed run must have the same
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.0
    freeze_encoder: bool = False  # train the decoder alone: ids made before stay good
    freeze_decoder: bool = False  # train the encoder alone: ids go on meaning what a model learned that they mean
    bfloat16: bool = False  # products in bfloat16; pays where the processor has bfloat16 units
    seed: int = 0
    evaluate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")
        if self.freeze_encoder and self.freeze_decoder:
            raise ValueError("with encoder and decoder frozen nothing is left to train; freeze one of them")


@dataclass(frozen=True, kw_only=True)
class ReconstructionRecipe(TrainingRecipe):
    absolute: float = 0.3  # weight of the absolute error
    edges: float = 0.3  # weight of the perceptual term
    adversarial: float = 0.0  # weight of the adversarial term; 0: no discriminator


def to_range(media: Tensor) -> Tensor:
    """Uint8 -> float32 in [-1, 1]."""
    return media.float() / 127.5 - 1


def frames_of(media: Tensor) -> Tensor:
    """Pictures as they are, and clips (B, C, T, H, W) as pictures (B T, C, H, W)."""
    return media if media.ndim == 4 else rearrange(media, "B C T H W -> (B T) C H W")


def check_input(media: Tensor, name: str = "pictures") -> None:
    """Refuse what cannot teach anything: wrong type, or all of one color.

    Raises:
        ValueError: not uint8 RGB, or no contrast at all.
    """
    if media.dtype != torch.uint8 or media.ndim < 4 or media.shape[1] != 3:
        raise ValueError(f"{name} must be uint8 (B, 3, ..., H, W), got {media.dtype} {tuple(media.shape)}")
    values = rearrange(media, "B C ... -> C (B ...)")
    low, high = values.amin(1), values.amax(1)
    if torch.equal(low, high):
        raise ValueError(f"{name} must have contrast, but every pixel is {tuple(low.tolist())}; check the files")


class ReconstructionLosses(nn.Module):
    """A tokenizer, and the discriminator if there is one, as a module whose forward is the loss.

    `penalty` is what only pictures or only clips can be blamed for.
    """

    def __init__(self, tokenizer: Learned, recipe: ReconstructionRecipe, penalty: Penalty | None = None):
        super().__init__()
        self.tokenizer, self.recipe, self.penalty = tokenizer, recipe, penalty
        self.discriminator = PatchDiscriminator() if recipe.adversarial else None
        tokenizer.encoder.requires_grad_(not recipe.freeze_encoder)
        tokenizer.decoder.requires_grad_(not recipe.freeze_decoder)

    def forward(self, media: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Pictures or clips in [-1, 1] -> what to minimize, and figures to show."""
        with torch.autocast(media.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            outputs, z_q = self.tokenizer(media)
        outputs = outputs.float()
        frames, targets = frames_of(outputs), frames_of(media)
        value = reconstruction_loss(frames, targets, absolute=self.recipe.absolute, edges=self.recipe.edges)
        if self.penalty is not None:
            value = value + self.penalty(media, outputs, z_q)
        figures = {"psnr_train": float(psnr(frames.detach(), targets).mean())}
        if self.discriminator is not None:
            deceive, detect = adversarial_losses(self.discriminator, frames, targets)
            value = value + self.recipe.adversarial * deceive + detect
            figures["discriminator"] = float(detect.detach())
        return value, figures


def batches_in_range(source: Source, batch_size: int, device: str | torch.device, workers: int = 0) -> Batches:
    """The uint8 batches of a source of pictures or clips, in [-1, 1], read ahead by `workers` processes."""
    read = MadeAhead(lambda number: source(number, batch_size)[0], workers)
    return lambda number: (to_range(read(number).to(device)),)


def train_reconstruction(
    losses: nn.Module,
    recipe: TrainingRecipe,
    batches: Batches,
    out: Path,
    *,
    evaluate: Callable[[Any], dict[str, float]],
    resume: bool,
    device: str | torch.device,
    say: Callable[[str], None],
) -> Any:
    """Train `losses` and return its average; `evaluate` scores the average now and then.

    `losses` is a module that gives of a batch the loss and figures to show; `losses.tokenizer` is what it is for.

    Raises:
        TrainingError: see `train`.
    """
    losses.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(module: nn.Module, stream: int) -> tuple[Tensor, dict[str, float]]:
        return module(*batches(stream))

    optimizer = torch.optim.AdamW(
        [p for p in losses.parameters() if p.requires_grad],
        lr=recipe.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    loop = LoopConfig(
        steps=recipe.steps,
        schedule=cosine(recipe.steps, warmup=recipe.warmup),
        ema_decay=0.998,
        evaluate_every=recipe.evaluate_every,
        checkpoint_every=recipe.checkpoint_every,
    )
    average = train(
        losses,
        loss,
        [optimizer],
        loop,
        out,
        evaluate=lambda module, step: evaluate(module),
        state={"config": asdict(cast(Any, losses.tokenizer).config), "recipe": asdict(recipe)},
        resume=resume,
        say=say,
    )
    return cast(Any, average).to(memory_format=torch.contiguous_format)


def plan(
    name: str,
    recipe: ReconstructionRecipe,
    losses: ReconstructionLosses,
    size: tuple[int, ...],
    *,
    gigaflops: float = 150.0,
) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    tokenizer = losses.tokenizer
    parameters = sum(p.numel() for p in losses.parameters())
    examples, vocab_size, codes = (
        recipe.steps * recipe.batch_size,
        tokenizer.vocab_size,
        math.prod(tokenizer.grid(size)),
    )
    has_ids = tokenizer.quantizer.has_ids
    codebook = str(vocab_size) if has_ids else f"2^{math.log2(vocab_size):.0f}"
    each = counted(losses, (torch.zeros(2, 3, *size),))
    return (
        f"{name}: {codebook} codes, {parameters / 1e6:.2f} M parameters, "
        f"{codes * math.log2(vocab_size) / math.prod(size):.3f} bits per pixel\n"
        + work(recipe, each, parameters, f"of {' x '.join(map(str, size))}", gigaflops=gigaflops)
        + (f"\nentropy cliff t* = {entropy_cliff(examples, vocab_size)} codes of {codes}" if has_ids else "")
    )


def overfit(tokenizer: Learned, media: Tensor, *, steps: int, target: float, name: str) -> float:
    """Train on one example alone, (1, 3, H, W) or (1, 3, T, H, W) in [-1, 1], and return the PSNR in dB.

    Raises:
        TrainingError: the target is missed, so something in data or network is wrong.
    """
    tokenizer.start_linear(media)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = cosine(steps, warmup=10)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * schedule(step)
        outputs, _ = tokenizer(media)
        optimizer.zero_grad()
        F.mse_loss(outputs, media).backward()
        optimizer.step()
    reached = float(psnr(frames_of(tokenizer.decode(tokenizer.encode(media))), frames_of(media)).mean())
    if reached < target:
        raise TrainingError(f"one {name} must reach {target} dB, got {reached:.1f}; check data range and network")
    return reached
