"""The one training loop: tokenizers and transformers, on one machine or on many through `accelerate`.

What is trained is a module and a function `loss(module, stream)` that draws its batch and all its noise from the number
`stream` alone (step x processes + rank). So a run that is killed and resumed ends in the same bits as one that is not.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.files import write_atomically
from ..models.schedules import RateSchedule
from .checkpoint import checkpoints, load_checkpoint, load_optimizer_tensors, optimizer_tensors, save_checkpoint
from .out_of_memory import is_out_of_memory

Figures = Mapping[str, float | Tensor]
Loss = Callable[[nn.Module, int], tuple[Tensor, Figures]]
Evaluate = Callable[[nn.Module, int], dict[str, float]]


class TrainingError(ValueError):
    """Training cannot go on; the last good checkpoint is kept."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    steps: int
    schedule: RateSchedule  # factor of every optimizer's own learning rate
    clip: float = 1.0  # largest norm of the gradient
    ema_decay: float = 0.999  # of the moving average of the weights, reached after a warm-up
    log_every: int = 20
    evaluate_every: int = 500
    checkpoint_every: int = 200


class Curves:
    """Scalars over steps: a line in metrics.jsonl each, and TensorBoard events when it is installed."""

    def __init__(self, out: Path, start: int):
        self.path = out / "metrics.jsonl"
        if self.path.exists():  # a resumed run writes the steps after its checkpoint again
            lines = self.path.read_text().splitlines(keepends=True)
            write_atomically(self.path, "".join(line for line in lines if _was_before(line, start)).encode())
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=start)
        except ImportError:
            self.writer = None

    def add(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **{k: round(float(v), 6) for k, v in values.items()}}) + "\n")
        for name, value in values.items() if self.writer else ():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def _was_before(line: str, start: int) -> bool:
    """Whether a line of metrics.jsonl was written before the checkpoint of step `start`: scores come before it."""
    if not start or not line.endswith("\n"):  # a new run, or a line cut off by a kill
        return False
    row = json.loads(line)
    return row["step"] < start or (row["step"] == start and "loss" not in row)


def refuse_run(out: Path) -> None:
    """
    Raises:
        TrainingError: `out` holds checkpoints of a run, which a new one would mix with its own.
    """
    if checkpoints(out):
        raise TrainingError(f"{out} already holds a run; add --resume to continue it, or name another folder")


def ema_factor(step: int, decay: float) -> float:
    """Weight of the old average at a step: rises as (1 + step) / (10 + step), then stays at `decay`."""
    return min(decay, (1 + step) / (10 + step))


def train(
    module: nn.Module,
    loss: Loss,
    optimizers: Sequence[torch.optim.Optimizer],
    config: LoopConfig,
    out: Path,
    *,
    evaluate: Evaluate | None = None,
    state: dict[str, Any] | None = None,
    resume: bool = False,
    accelerator: Any = None,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Train `module` in place for `config.steps` steps and return the moving average of its weights.

    Writes checkpoints, metrics.jsonl and TensorBoard events under `out`. `evaluate` gets the moving average. `state` is
    saved in each checkpoint and must be the same on resume.

    Raises:
        TrainingError: the loss is not finite, memory ran out, or the run to resume had other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    processes, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    state = json.loads(json.dumps({"processes": processes} | (state or {})))  # they say which batch a step draws
    average = deepcopy(module).requires_grad_(False).eval()
    start = _restore(out, module, average, optimizers, state) if resume else 0
    if not resume:
        refuse_run(out)
    curves = Curves(out, start) if rank == 0 else None
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    running: nn.Module = module
    if accelerator is not None:
        running, *optimizers = accelerator.prepare(module, *optimizers)
    began = time.monotonic()
    last: _Step | None = None  # what came of it is looked at when a device has the next to do, or before it is saved
    for step in range(start, config.steps + 1):
        if last and (step == config.steps or step % config.evaluate_every == 0 or step % config.checkpoint_every == 0):
            last.check()
            last = None
        if evaluate and curves and (step % config.evaluate_every == 0 or step == config.steps) and step > start:
            curves.add(step, scores := evaluate(average, step))
            say(f"step {step}: " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))
        if rank == 0 and (step % config.checkpoint_every == 0 or step == config.steps) and step > start:
            _save(out, step, module, average, optimizers, state)
        if step == config.steps:
            break

        factor = config.schedule(step)
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        running.train()
        try:
            value, logged = loss(running, step * processes + rank)
            accelerator.backward(value) if accelerator else value.backward()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory at step {step}; free some and --resume, or start anew with a smaller --batch-size"
            ) from error
        gradient = nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            old = ema_factor(step, config.ema_decay)
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - old)
        if last:
            last.check()
        last = _Step(step, value.detach(), gradient)

        if curves and (step % config.log_every == 0 or step == config.steps - 1):
            figures = {"loss": float(value.detach()), **{name: float(v) for name, v in logged.items()}}
            curves.add(step, {"grad_norm": float(gradient), "rate": factor, **figures})
            pace = (time.monotonic() - began) / (step - start + 1)
            left = (config.steps - step - 1) * pace
            words = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
            say(f"step {step}/{config.steps}  {words}  {pace:.2f} s/step  {left / 60:.0f} min left")
        del value  # and with it what its backward pass held on to
    if curves:
        curves.close()
    return average


@dataclass(frozen=True)
class _Step:
    """What came of a step: scalars, on the device. To look at them is to wait for them."""

    number: int
    loss: Tensor
    gradient: Tensor

    def check(self) -> None:
        level, norm = float(self.loss), float(self.gradient)
        if not math.isfinite(level) or not math.isfinite(norm):
            raise TrainingError(
                f"loss {level}, gradient {norm} at step {self.number}; start anew with a lower learning rate: "
                "with the same settings it would come to this again"
            )


def _save(
    out: Path,
    step: int,
    module: nn.Module,
    average: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    state: dict[str, Any],
) -> None:
    parts = {"weights": module.state_dict(), "average": average.state_dict()}
    for number, optimizer in enumerate(optimizers):
        parts[f"optimizer{number}"] = optimizer_tensors(optimizer)
    save_checkpoint(out, step, parts, {"run": state})


def _flat(state: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"recipe": {"seed": 1}} -> {"recipe.seed": 1}."""
    flat: dict[str, Any] = {}
    for key, value in state.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _restore(
    out: Path,
    module: nn.Module,
    average: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    state: dict[str, Any],
) -> int:
    found = load_checkpoint(out)
    if found is None:
        return 0
    step, parts, saved = found
    old, new = {"processes": 1} | _flat(saved["run"]), _flat(state)  # earlier checkpoints are of one, and do not say so
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise TrainingError(
                f"a resumed run must keep its settings, but {key} was {old.get(key)!r} and is {new.get(key)!r}; "
                "set it back, or start anew in another folder"
            )
    module.load_state_dict(parts["weights"])
    average.load_state_dict(parts["average"])
    for number, optimizer in enumerate(optimizers):
        load_optimizer_tensors(optimizer, parts[f"optimizer{number}"])
    return step
