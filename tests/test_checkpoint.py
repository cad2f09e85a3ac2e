"""Laws of pipelines/checkpoint.py: wherever a save is cut short, a whole checkpoint remains, and it is not code."""

import json
import os
import shutil

import pytest
import torch
from torch import nn

from tokenloom.models.optimizers import Muon
from tokenloom.pipelines.checkpoint import (
    checkpoints,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)


def parts_of(step: int) -> dict:
    return {"weights": {"a": torch.full((2, 3), float(step))}, "optimizer0": {"0.step": torch.tensor(step)}}


def save(folder, step: int, **options):
    return save_checkpoint(folder, step, parts_of(step), {"run": {"seed": 1}}, **options)


def loads(folder, step: int) -> bool:
    found = load_checkpoint(folder)
    assert found is not None
    at, parts, state = found
    same = all(torch.equal(parts[p][n], t) for p, tensors in parts_of(step).items() for n, t in tensors.items())
    return at == state["step"] == step and same and state["run"] == {"seed": 1}


def test_what_was_saved_comes_back(tmp_path):
    path = save(tmp_path / "new" / "run", 7)
    assert loads(tmp_path / "new" / "run", 7)
    assert sorted(p.name for p in path.iterdir()) == ["optimizer0.safetensors", "state.json", "weights.safetensors"]


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert load_checkpoint(tmp_path) is None and load_checkpoint(tmp_path / "missing") is None
    (tmp_path / "checkpoint-00000001.tmp").mkdir()
    (tmp_path / "checkpoint-1").mkdir()
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize(("keep", "kept"), [(1, [100]), (2, [20, 100]), (9, [3, 20, 100])])
def test_the_newest_are_kept_and_the_newest_is_loaded(tmp_path, keep, kept):
    for step in (3, 20, 100):
        save(tmp_path, step, keep=keep)
    assert [step for step, _ in checkpoints(tmp_path)] == kept
    assert loads(tmp_path, 100)


def test_saving_a_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, 5, {"weights": {"a": torch.zeros(1)}}, {"run": {}})
    save(tmp_path, 5)
    assert loads(tmp_path, 5) and len(checkpoints(tmp_path)) == 1


class Crash(BaseException):
    """The power goes: nothing after this happens."""


def crash_at(monkeypatch, number: int) -> None:
    """Let the process die at the `number`-th call that changes the disk for good, before it or half-way through."""
    calls = 0

    def counted(function, halfway=None):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == number:
                if halfway:
                    halfway(*arguments)
                raise Crash
            return function(*arguments, **options)

        return call

    def remove_half(folder, *_):
        sorted(folder.iterdir())[0].unlink()

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree, remove_half))


def test_a_crash_at_any_point_leaves_the_old_checkpoint_or_the_new_one_and_the_next_save_works(tmp_path, monkeypatch):
    number, crashed = 0, True
    while crashed:
        number += 1
        folder = tmp_path / str(number)
        for step in (1, 2):
            save(folder, step)
        with monkeypatch.context() as patch:
            crash_at(patch, number)
            try:
                save(folder, 3)
                crashed = False
            except Crash:
                pass
        assert loads(folder, 3) or loads(folder, 2)
        for step, path in checkpoints(folder):  # every one that has its name is whole, not only the newest
            shutil.copytree(path, tmp_path / "alone" / str(number) / path.name)
            assert loads(path.parent, checkpoints(folder)[-1][0]) and (path / "state.json").is_file(), step
            assert loads(tmp_path / "alone" / str(number), step)
            shutil.rmtree(tmp_path / "alone" / str(number))
        save(folder, 4)
        assert loads(folder, 4) and len(list(folder.iterdir())) == 2, "nothing half-written stays behind"
    assert number > 8, "the counted calls: four files, two folders, a rename, and the removal of the oldest"


@pytest.mark.parametrize("damage", ["cut", "missing", "pickle", "no json", "no parts"])
def test_a_damaged_checkpoint_is_one_line_that_names_it_and_is_never_run(tmp_path, damage):
    path = save(tmp_path, 5)
    weights, state = path / "weights.safetensors", path / "state.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "missing":
        weights.unlink()
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, weights)
    else:
        state.write_text("{" if damage == "no json" else json.dumps({"step": 5}))
    with pytest.raises(ValueError, match="checkpoint-00000005 is damaged") as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- optimizers


def model_of(memory_format=torch.contiguous_format) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 1)).to(memory_format=memory_format)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_goes_on_to_the_bit_however_its_weights_lie_in_memory(memory_format, fused):
    """Fused AdamW walks through memory: moments that came back in another layout moved the wrong weights."""

    def adamw(model):
        return torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)

    whole, halves = model_of(memory_format), model_of(memory_format)
    learn(whole, adamw(whole), range(6))
    first = adamw(halves)
    learn(halves, first, range(3))
    saved = {name: tensor.contiguous() for name, tensor in optimizer_tensors(first).items()}  # as a file holds them
    second = adamw(halves)
    load_optimizer_tensors(second, saved)
    learn(halves, second, range(3, 6))
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_that_was_never_moved_has_no_state():
    busy, idle = nn.Parameter(torch.ones(9, 9)), nn.Parameter(torch.ones(9, 9))
    optimizer = Muon([idle, busy], lr=0.1)
    busy.grad = torch.eye(9)
    optimizer.step()
    tensors = optimizer_tensors(optimizer)
    assert list(tensors) == ["1.momentum_buffer"]
    again = Muon([idle, busy], lr=0.1)
    load_optimizer_tensors(again, tensors)
    assert torch.equal(again.state[busy]["momentum_buffer"], tensors["1.momentum_buffer"]) and not again.state[idle]
