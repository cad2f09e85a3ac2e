"""Losses whose forward and backward passes are CUDA graphs: captured once for each shape of a batch, replayed after.

A small transformer has a thousand short kernels a step, and sending them off one by one takes a processor longer than
they take the GPU. A graph is sent off as one (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs). What it
reads lies where it lay when it was captured, so a batch and its noise are copied there first.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from .objectives import Batch, DecoderLosses, Noise


class CapturedLosses:
    """As a DecoderLosses on a CUDA device, for the parameters that it has now; they may change, but not be replaced.

    All graphs share their memory, so the losses and gradients of a batch must be used before the next batch. Autocast
    must be as it was when a shape first came, and without its cache.
    """

    def __init__(self, losses: DecoderLosses):
        self.losses = losses
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[tuple[bool, torch.Size, torch.Size], nn.Module] = {}

    def __call__(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        tensors = (batch.prompts, batch.real, batch.codes, batch.frames, self.losses.noise(batch, generator))
        shape = batch.describe, batch.prompts.shape, batch.codes.shape
        if shape not in self.captured:
            self.captured[shape] = cast(
                nn.Module,
                torch.cuda.make_graphed_callables(
                    _Losses(self.losses, batch.describe),
                    cast(Any, tensors),
                    allow_unused_input=True,
                    pool=self.pool,
                ),
            )
        return self.captured[shape](*tensors)


class _Losses(nn.Module):
    """The losses as a function of tensors alone."""

    def __init__(self, losses: DecoderLosses, describe: bool):
        super().__init__()
        self.of, self.describe = losses, describe

    def forward(self, prompts: Tensor, real: Tensor, codes: Tensor, frames: Tensor, noise: Noise) -> dict[str, Tensor]:
        return self.of.losses(Batch(prompts, real, codes, frames, self.describe), noise)
