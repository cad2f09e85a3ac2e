"""Optimizers: Muon for the matrices of the trunk, AdamW for everything else.

Muon (Jordan et al. 2024) takes the momentum of a weight matrix and makes it nearly orthogonal by a few Newton-Schulz
steps. torch.optim.Muon does these in bfloat16, which is slow on CPUs without units for it; here the caller chooses, and
all matrices of one shape go at once. Updates are scaled to the size of AdamW's (arXiv:2502.16982, 2.2).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic, from the author


def orthogonalize(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """(N, rows, columns) -> the same with singular values near 1 (0.7 to 1.2)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized; for two-dimensional weights only."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.float32,  # of the Newton-Schulz steps
    ):
        self.dtype = dtype
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.ndim != 2:
                raise ValueError(f"Muon takes matrices, got a parameter of shape {tuple(parameter.shape)}; use AdamW")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                scale = group["lr"] * 0.2 * math.sqrt(max(shape))
                moments = torch.stack([self._momentum(p, group["momentum"]) for p in parameters])
                update = orthogonalize(moments.to(self.dtype)).to(moments.dtype)
                for parameter, direction in zip(parameters, update, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-scale)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov momentum of the gradient."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def muon_and_adamw(
    trunk: nn.Module, module: nn.Module, *, muon_lr: float, adamw_lr: float, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of `trunk`, a part of `module`, and AdamW without decay on all other parameters.

    `dtype` is that of Muon's own products.
    """
    matrices = [p for p in trunk.parameters() if p.ndim == 2 and min(p.shape) > 8]
    chosen = {id(p) for p in matrices}
    others = [p for p in module.parameters() if id(p) not in chosen and p.requires_grad]
    adamw = torch.optim.AdamW(others, lr=adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [Muon(matrices, lr=muon_lr, dtype=dtype), adamw]
