"""What all recipes of the shared transformer have in common: rates, their course, the average of the weights."""

from typing import Protocol

import torch
from torch import nn

from ..models.optimizers import muon_and_adamw
from ..models.schedules import trapezoid
from .train_loop import LoopConfig


class TrunkRecipe(Protocol):
    @property
    def steps(self) -> int: ...
    @property
    def muon_lr(self) -> float: ...
    @property
    def adamw_lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def bfloat16(self) -> bool: ...
    @property
    def evaluate_every(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...


def loop_of(recipe: TrunkRecipe) -> LoopConfig:
    return LoopConfig(
        steps=recipe.steps,
        schedule=trapezoid(recipe.steps, warmup=recipe.warmup, decay=recipe.decay),
        ema_decay=recipe.ema_decay,
        evaluate_every=recipe.evaluate_every,
        checkpoint_every=recipe.checkpoint_every,
    )


def optimizers_of(trunk: nn.Module, module: nn.Module, recipe: TrunkRecipe) -> list[torch.optim.Optimizer]:
    """As `muon_and_adamw`: `trunk` is a part of `module`."""
    dtype = torch.bfloat16 if recipe.bfloat16 else torch.float32
    return muon_and_adamw(trunk, module, muon_lr=recipe.muon_lr, adamw_lr=recipe.adamw_lr, dtype=dtype)
