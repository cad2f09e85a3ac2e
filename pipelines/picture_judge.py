"""Who judges drawings of things that no detector knows: a classifier of their names, trained apart on real pictures.

It sees every picture, and what it is to name it has never seen: drawings. So that it looks at what makes a thing and
not at pixels, training pictures are moved, turned and stretched, in other light and colors, blurred and noisy.

B pictures, S pixels per side, in [-1, 1].
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.media import from_uint8
from ..models.picture_classifier import PictureClassifier, PictureClassifierConfig
from ..models.schedules import cosine
from .named_pictures import NamedPictures
from .train_loop import LoopConfig, train
from .training_cost import counted, work

TURN = math.radians(12)  # at most, either way
SCALES = (0.8, 1.2)  # of each axis
SHIFT = 0.12  # of the side, at most
COLORS = 0.12  # standard deviation of a matrix that mixes colors, around one that keeps them
LIGHT = 0.12  # of what is added to each color
LEAST_PIXELS = 0.3  # of the side, to which the most blurred are scaled down and up again
NOISE = 0.1  # standard deviation at most
BATCH = 64  # pictures judged at once
CHECKPOINT_EVERY = 500  # steps


@dataclass(frozen=True, kw_only=True)
class PictureJudgeRecipe:
    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.995
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or not 0 < self.learning_rate < 1:
            raise ValueError(f"steps, batch_size and learning_rate must be positive, got {self}")


def varied_pictures(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1] -> the same things, seen otherwise: (B, 3, S, S) in [-1, 1]."""
    count, size = len(pictures), pictures.shape[-1]

    def evenly(least: float, most: float, *shape: int) -> Tensor:
        return least + (most - least) * torch.rand(count, *shape, generator=generator)

    angle, scales, shift = evenly(-TURN, TURN), evenly(*SCALES, 2), evenly(-2 * SHIFT, 2 * SHIFT, 2)
    turned = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1)
    affine = torch.cat([rearrange(turned, "B (i j) -> B i j", i=2) * scales[:, None], shift[:, :, None]], dim=2)
    grid = F.affine_grid(affine, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    mix = torch.eye(3) + COLORS * torch.randn(count, 3, 3, generator=generator)
    light = LIGHT * torch.randn(count, 3, 1, 1, generator=generator)
    seen = torch.einsum("B i j, B j h w -> B i h w", mix, moved) + light

    sharp = max(1, round(size * float(LEAST_PIXELS + (1 - LEAST_PIXELS) * torch.rand((), generator=generator))))
    blurred = torch.rand(count, generator=generator) < 0.5  # to one size, which costs least; others stay as they are
    small = F.interpolate(seen[blurred], (sharp, sharp), mode="area") if blurred.any() else seen[:0]
    seen[blurred] = F.interpolate(small, (size, size), mode="bilinear", align_corners=False) if len(small) else small
    noise = evenly(0, NOISE, 1, 1, 1) * torch.randn(pictures.shape, generator=generator)
    return (seen + noise).clamp(-1, 1)


def plan(
    classifier: PictureClassifier, recipe: PictureJudgeRecipe, *, bfloat16: bool = False, gigaflops: float = 150.0
) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    parameters, size = sum(p.numel() for p in classifier.parameters()), classifier.config.size
    told = f"judge of pictures: {len(classifier.config.names)} names, {parameters / 1e6:.2f} M parameters\n"
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        each = counted(classifier, (torch.zeros(2, 3, size, size),))
    return told + work(recipe, each, parameters, f"pictures of {size} x {size}", gigaflops=gigaflops)


def train_picture_judge(
    config: PictureClassifierConfig,
    recipe: PictureJudgeRecipe,
    pictures: NamedPictures,
    out: Path,
    *,
    bfloat16: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> PictureClassifier:
    """Train a classifier of `config.names` on `pictures`, all of them; checkpoints lie under `out`.

    Raises:
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)
    classifier = PictureClassifier(config)
    say(plan(classifier, recipe, bfloat16=bfloat16))
    numbers = {name: number for number, name in enumerate(config.names)}
    labels = torch.tensor([numbers[name] for name in pictures.names])
    digest = hashlib.sha256(labels.numpy().tobytes() + pictures.pixels.contiguous().numpy().tobytes()).hexdigest()

    def loss(module: nn.Module, number: int) -> tuple[Tensor, dict[str, float]]:
        generator = generator_of(recipe.seed, number)
        rows = torch.randint(len(labels), (recipe.batch_size,), generator=generator)
        shown = varied_pictures(from_uint8(pictures.pixels[rows]), generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = module(shown)
        right = logits.argmax(1) == labels[rows]
        return F.cross_entropy(logits, labels[rows]), {"right": float(right.float().mean())}

    decayed = [p for p in classifier.parameters() if p.ndim > 1]
    others = [p for p in classifier.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )
    loop = LoopConfig(
        steps=recipe.steps,
        schedule=cosine(recipe.steps, warmup=min(100, recipe.steps)),
        ema_decay=recipe.ema_decay,
        log_every=100,
        checkpoint_every=CHECKPOINT_EVERY,
    )
    state = {"config": asdict(config), "recipe": asdict(recipe), "bfloat16": bfloat16, "pictures": digest}
    return cast(PictureClassifier, train(classifier, loss, [optimizer], loop, out, state=state, resume=resume, say=say))


def recognized(classifier: PictureClassifier, pictures: Tensor, names: list[str], count: int) -> list[bool]:
    """Whether the name that a picture of (B, 3, S, S) in [-1, 1] is to go by is among its `count` likeliest."""
    numbers = {name: number for number, name in enumerate(classifier.config.names)}
    ranks = torch.cat([classifier.ranked(part, count) for part in pictures.split(BATCH)])
    return [numbers[name] in row for name, row in zip(names, ranks.tolist(), strict=True)]
