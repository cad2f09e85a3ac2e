"""Laws of models/optimizers.py: singular values become nearly one, and Muon takes the steps of torch.optim.Muon."""

import pytest
import torch
from torch import Tensor, nn

from tests.doubles import toy_transformer
from tokenloom.models.objectives import DecoderLosses
from tokenloom.models.optimizers import Muon, muon_and_adamw, orthogonalize


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 16, 48), (2, 48, 16), (1, 10, 11), (4, 64, 32)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape):
    matrices = random(*shape)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    turned = u.mT @ orthogonalize(matrices) @ vh.mT  # in the basis of the singular vectors
    values = turned.diagonal(dim1=1, dim2=2)
    assert 0.6 < values[s > 0.1 * s.amax()].min() and values.max() < 1.25
    torch.testing.assert_close(turned, torch.diag_embed(values), atol=2e-4, rtol=0)


def test_scale_does_not_count_and_nothing_stays_nothing():
    matrices = random(2, 8, 12)
    torch.testing.assert_close(orthogonalize(1000 * matrices), orthogonalize(matrices), atol=1e-4, rtol=1e-4)
    assert (orthogonalize(torch.zeros(1, 8, 12)) == 0).all()


def train(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 4) -> None:
    for step in range(steps):
        for number, parameter in enumerate(parameters):
            parameter.grad = random(*parameter.shape, seed=10 * step + number)
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_that_of_torch_optim_muon(weight_decay, dtype):
    """Theirs iterates in bfloat16, so the way travelled may differ by some percent."""
    ours, theirs = ([nn.Parameter(random(16, 48)), nn.Parameter(random(48, 16, seed=1))] for _ in range(2))
    start = [p.detach().clone() for p in ours]
    options = {"lr": 0.02, "momentum": 0.9, "weight_decay": weight_decay}
    train(Muon(ours, dtype=dtype, **options), ours)
    train(torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options), theirs)
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.03 * (a - before).norm()


def test_matrices_of_one_shape_go_together_but_each_as_by_itself():
    together, alone = ([nn.Parameter(random(12, 20, seed=n)) for n in range(3)] for _ in range(2))
    train(Muon(together, lr=0.1), together)
    for n, parameter in enumerate(alone):
        optimizer = Muon([parameter], lr=0.1)
        for step in range(4):
            parameter.grad = random(12, 20, seed=10 * step + n)
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_parameter_without_a_gradient_stays():
    idle, busy = nn.Parameter(random(12, 20)), nn.Parameter(random(12, 20))
    optimizer = Muon([idle, busy], lr=0.1)
    busy.grad = random(12, 20, seed=1)
    optimizer.step()
    assert torch.equal(idle, random(12, 20)) and not torch.equal(busy, random(12, 20))
    assert idle not in optimizer.state


def test_what_is_not_a_matrix_is_refused():
    with pytest.raises(ValueError, match="Muon takes matrices, got a parameter of shape"):
        Muon([nn.Parameter(torch.ones(3))], lr=0.1)


def test_every_parameter_is_moved_by_exactly_one_of_the_two():
    model = toy_transformer()
    losses = DecoderLosses(model, ["ar"])
    muon, adamw = muon_and_adamw(model.blocks, losses, muon_lr=0.1, adamw_lr=0.01)
    given = [p for optimizer in (muon, adamw) for group in optimizer.param_groups for p in group["params"]]
    assert len(given) == len({id(p) for p in given})
    assert {id(p) for p in given} == {id(p) for p in losses.parameters()}
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)].split(".", 2)[2] for group in muon.param_groups for p in group["params"]}
    assert by_muon == {"attention.qkv.weight", "attention.out.weight", "mlp_in.weight", "mlp_out.weight"}
