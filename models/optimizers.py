"""Optimizers: Muon for the matrices of the trunk, AdamW for everything else.

Muon (Jordan et al. 2024) takes the momentum of a weight matrix and makes it nearly orthogonal by a few Newton-Schulz
steps. torch.optim.Muon does these in bfloat16, which is slow on CPUs without units for it; here the caller chooses, and
all matrices of one shape go at once. Updates are scaled to the size of AdamW's (arXiv:2502.16982, 2.2).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

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
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
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
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():  # in a few operations each: a device is quicker than their start
                scale = group["lr"] * 0.2 * math.sqrt(max(shape))
                moments = torch.stack(self._momenta(parameters, group["momentum"]))
                update = orthogonalize(moments.to(self.dtype)).to(moments.dtype)
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(update.unbind()), alpha=-scale)

    def _momenta(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Nesterov momenta of the gradients."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, buffers, momentum))


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
