"""Laws of models/head_loss.py: it is F.cross_entropy on a linear layer, value and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenloom.models import head_loss as module
from tokenloom.models.head_loss import head_loss

N, D, V = 23, 8, 31


def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden, weight, targets, prior"""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(rows, D, generator=generator, requires_grad=True) for rows in (N, V))
    return (
        hidden,
        weight,
        torch.randint(V, (N,), generator=generator),
        5 * torch.randn(N, V, generator=generator),
    )


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, prior: Tensor | None) -> Tensor:
    logits = F.linear(hidden, weight)
    return F.cross_entropy(logits if prior is None else logits + prior, targets)


@pytest.mark.parametrize("rows", [1, 7, N, 100])
@pytest.mark.parametrize("with_prior", [False, True])
def test_value_and_gradients_are_those_of_cross_entropy(monkeypatch, rows, with_prior):
    monkeypatch.setattr(module, "BLOCK", rows * V)
    hidden, weight, targets, prior = example()
    results = []
    for loss in (head_loss, plain):
        value = loss(hidden, weight, targets, prior if with_prior else None)
        results.append((value, *torch.autograd.grad(3 * value, (hidden, weight))))
    torch.testing.assert_close(*results)


def test_under_autocast_it_is_as_near_to_float32_as_torch():
    hidden, weight, targets, prior = example()
    exact = torch.autograd.grad(plain(hidden, weight, targets, prior), (hidden, weight))
    errors = []
    for loss in (head_loss, plain):
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(hidden, weight, targets, prior)
        assert value.dtype == torch.float32
        grads = torch.autograd.grad(value, (hidden, weight))
        assert [g.dtype for g in grads] == [torch.float32] * 2
        errors.append(max(float((g - e).norm() / e.norm()) for g, e in zip(grads, exact, strict=True)))
    assert errors[0] < 0.02 and errors[0] < 2 * errors[1]


def test_without_gradients_the_value_is_the_same():
    hidden, weight, targets, prior = example()
    with torch.no_grad():
        value = head_loss(hidden, weight, targets, prior)
    assert not value.requires_grad
    torch.testing.assert_close(value, plain(hidden, weight, targets, prior).detach())


@pytest.mark.parametrize("rows", [1, 7, N])
def test_rows_that_are_not_learned_count_for_nothing(monkeypatch, rows):
    monkeypatch.setattr(module, "BLOCK", rows * V)
    hidden, weight, targets, prior = example()
    learned = torch.arange(N) % 3 != 1
    values = (
        head_loss(hidden, weight, targets, prior, learned),
        plain(hidden[learned], weight, targets[learned], prior[learned]),
    )
    torch.testing.assert_close(*((value, *torch.autograd.grad(3 * value, (hidden, weight))) for value in values))
