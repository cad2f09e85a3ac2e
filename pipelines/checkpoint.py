"""Checkpoints that are whole or not there: safetensors and JSON in a folder that appears by one rename.

A checkpoint holds named parts (weights, their moving average, optimizer state), each a flat dict of tensors, and a JSON
state. It is written beside its final place, synced to disk and renamed; a crash leaves at most a `.tmp` folder behind,
which the next save removes. Nothing is pickled.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..data.files import read_json

_NAME = re.compile(r"checkpoint-(\d{8})")
Parts = dict[str, dict[str, Tensor]]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints as (step, path), the newest last."""
    found = ((_NAME.fullmatch(p.name), p) for p in folder.iterdir()) if folder.is_dir() else ()
    return sorted((int(match[1]), path) for match, path in found if match)


def save_checkpoint(folder: Path, step: int, parts: Parts, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Write a checkpoint atomically, then delete all but the newest `keep`."""
    final = folder / f"checkpoint-{step:08d}"
    temporary = final.with_suffix(".tmp")
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("checkpoint-*.tmp"):
        shutil.rmtree(stale)
    temporary.mkdir()
    for name, tensors in parts.items():
        path = temporary / f"{name}.safetensors"
        save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, path)
        _sync(path)
    (temporary / "state.json").write_text(json.dumps({"step": step, "parts": sorted(parts), **state}, indent=1))
    _sync(temporary / "state.json")
    _sync(temporary)
    if final.exists():
        _remove(final)
    os.replace(temporary, final)
    _sync(folder)
    for _, old in checkpoints(folder)[:-keep]:
        _remove(old)
    return final


def _remove(checkpoint: Path) -> None:
    """Delete a checkpoint, whose name goes first: a crash on the way must not leave half of one under it."""
    condemned = checkpoint.with_suffix(".old.tmp")
    os.replace(checkpoint, condemned)
    shutil.rmtree(condemned)


def load_checkpoint(folder: Path) -> tuple[int, Parts, dict[str, Any]] | None:
    """The newest checkpoint of a run as (step, parts, state), or None if there is none.

    Raises:
        ValueError: its files are damaged or missing.
    """
    found = checkpoints(folder)
    if not found:
        return None
    step, path = found[-1]
    try:
        state = read_json(path / "state.json")
        return step, {name: load_file(path / f"{name}.safetensors") for name in state["parts"]}, state
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to go on from the checkpoint before it") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as one flat dict: "<parameter number>.<state name>" -> tensor."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value) for number, entry in state.items() for name, value in entry.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Undo `optimizer_tensors` on an optimizer built over the same parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            # Fused kernels walk through memory: a moment must lie there as its parameter does (channels last, say).
            tensor = torch.empty_like(parameter, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
