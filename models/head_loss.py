"""Cross-entropy through a linear head, a block of rows at a time.

N rows, D width, V codes. Logits and their gradients, N x V each, are by far the largest tensors of a training step, and
they are read and written many times. The gradient of a row's logits, softmax - one-hot, is known as soon as they are.
So a block of rows goes the whole way, to the loss and to its share of both gradients, while it is in the processor's
cache, and nothing of size N x V is ever stored (as in cut cross-entropy, arXiv:2411.09009, which recomputes instead).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1 << 21  # logits at once: small enough for the cache, large enough for fast products
DEVICE_BLOCK = 1 << 27  # the same on a device, where starting an operation costs more than memory does


def head_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, prior: Tensor | None = None, learned: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy in nats of logits hidden @ weight.T + prior against int64 `targets` (N,).

    `hidden` (N, D), `weight` (V, D); `prior` (N, V) gets no gradient. `learned` bool (N,) leaves rows out of the mean,
    at the price of computing them: how many are left need not be known, which on a device would mean waiting for it.
    Under autocast the products are in its type, sums and softmax in float32, as torch does it.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    learns = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets, prior, learned, dtype, learns)
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        prior: Tensor | None,
        learned: Tensor | None,
        dtype: torch.dtype,
        learns: bool,
    ) -> Tensor:
        block_size = BLOCK if hidden.device.type == "cpu" else DEVICE_BLOCK
        size = max(1, block_size // len(weight))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_grad, weight_grad = torch.empty_like(hidden), torch.zeros_like(weight)
        with torch.autocast(hidden.device.type, enabled=False):
            rows, columns = hidden.to(dtype), weight.to(dtype)
            for start in range(0, len(rows), size):
                block = slice(start, start + size)
                target = targets[block].unsqueeze(1)
                logits = torch.mm(rows[block], columns.t()).float()
                if prior is not None:
                    logits += prior[block]
                log_p = logits.log_softmax(1)
                said = log_p.gather(1, target)
                total -= (said if learned is None else said * learned[block, None]).sum()
                if learns:
                    logits_grad = log_p.exp_().scatter_add_(1, target, log_p.new_full(target.shape, -1.0))
                    if learned is not None:
                        logits_grad *= learned[block, None]
                    logits_grad = logits_grad.to(dtype)
                    hidden_grad[block] = torch.mm(logits_grad, columns)
                    if dtype == weight_grad.dtype:
                        weight_grad.addmm_(logits_grad.t(), rows[block])
                    else:
                        weight_grad += torch.mm(logits_grad.t(), rows[block])
            count = total.new_full((), len(hidden)) if learned is None else learned.sum()
        ctx.save_for_backward(hidden_grad, weight_grad, count)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, weight_grad, count = ctx.saved_tensors
        scale = grad / count
        return hidden_grad * scale, weight_grad * scale, None, None, None, None, None
