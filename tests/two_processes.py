"""A command on two processes that torch.distributed.run starts, and on one that takes the batches of both in each step.

Run as a module it is one of the two: it runs the command and leaves what it trained, and the numbers of its batches.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent


def run_on_two(trainer: str, words: Sequence[object], left: Path) -> list[tuple[dict[str, Tensor], list[int]]]:
    """Weights and numbers of batches of each process; `trainer` is the module of pipelines that trains."""
    left.mkdir()
    launcher = [*"-m torch.distributed.run --standalone --nproc-per-node 2".split(), "-m", "tests.two_processes"]
    command = [sys.executable, *launcher, trainer, str(left), *map(str, words)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        (load_file(left / f"{rank}.safetensors"), json.loads((left / f"{rank}.json").read_text())) for rank in range(2)
    ]


def both_batches(call: Callable[..., tuple[Tensor, dict]]) -> Callable[..., tuple[Tensor, dict]]:
    """A loss of (self, module, number) as the mean over the batches that two processes would draw."""

    def mean(self: Any, module: Any, number: int) -> tuple[Tensor, dict]:
        values, logged = zip(*(call(self, module, 2 * number + rank) for rank in range(2)), strict=True)
        return torch.stack(values).mean(), logged[0]

    return mean


def main(trainer: str, left: str, *words: str) -> int:
    from importlib import import_module

    from tokenloom.scripts import cli

    pipeline = import_module(f"tokenloom.pipelines.{trainer}")
    train, rank, numbers = pipeline.train, os.environ["RANK"], []

    def watched(module: Any, loss: Any, *rest: Any, **options: Any) -> Any:
        def noted(running: Any, number: int) -> Any:
            numbers.append(number)
            return loss(running, number)

        average = train(module, noted, *rest, **options)
        save_file(module.state_dict(), Path(left) / f"{rank}.safetensors")
        (Path(left) / f"{rank}.json").write_text(json.dumps(numbers))
        return average

    pipeline.train = watched
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
