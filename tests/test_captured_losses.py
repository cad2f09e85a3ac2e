"""Laws of models/captured_losses.py: a graph gives what the code that it was captured from gives.

A graph needs losses that look at no number while they are computed; that much can be seen without a device.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.doubles import toy_transformer
from tokenloom.models.captured_losses import CapturedLosses
from tokenloom.models.objectives import ROLES, Batch, DecoderLosses
from tokenloom.models.transformer import SharedTransformer

LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "repeat_interleave", "unique", "lift_fresh", "is_nonzero")
SHAPES = [(0, False), (2, False), (0, True), (2, True)]  # given frames, describe


def model_of(device: str = "cpu") -> SharedTransformer:
    return toy_transformer(num_frames=3).train().to(device)


def batch_of(given: int, describe: bool, seed: int = 0, device: str = "cpu") -> Batch:
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(5, 20, (3, 6), generator=generator)
    real = torch.arange(6) < torch.tensor([[6], [2], [4]])
    codes = torch.randint(12, (3, given + 1, 4), generator=generator)
    frames = torch.arange(given + 1).expand(3, -1)
    return Batch(*(tensor.to(device) for tensor in (prompts, real, codes, frames)), describe)


class Looks(TorchDispatchMode):
    """Notes every operation whose result, or the shape of it, is known only when the numbers are."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = "index.Tensor" in str(function) and any(
            isinstance(at, Tensor) and at.dtype == torch.bool for at in args[1]
        )
        if by_mask or any(name in str(function) for name in LOOKS):
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("given", "describe"), SHAPES)
def test_losses_look_at_no_number(given, describe):
    losses = DecoderLosses(model_of(), tuple(ROLES))
    batch = batch_of(given, describe)
    noise = losses.noise(batch, torch.Generator().manual_seed(1))
    with Looks() as looks:
        torch.stack(list(losses.losses(batch, noise).values())).mean().backward()
    assert not looks.seen


def test_what_looks_at_numbers_is_noticed():
    with Looks() as looks:
        x = torch.arange(3)
        _ = x[x > 1], float(x[0])
    assert len(looks.seen) > 1


def gradients(losses: DecoderLosses) -> Tensor:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in losses.parameters()]
    losses.zero_grad(set_to_none=True)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graphs_give_the_values_and_gradients_of_plain_code():
    losses = DecoderLosses(model_of("cuda"), tuple(ROLES))
    captured = CapturedLosses(losses)
    for seed in range(2):  # what was captured, and what is replayed
        for given, describe in SHAPES:
            results = []
            for function in (losses, captured):
                values = function(batch_of(given, describe, seed, "cuda"), torch.Generator().manual_seed(seed))
                torch.stack(list(values.values())).mean().backward()
                results.append((torch.stack(list(values.values())).detach().clone(), gradients(losses)))
                del values
            torch.testing.assert_close(results[0], results[1])
