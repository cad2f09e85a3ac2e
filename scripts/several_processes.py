"""One run on several processes: through accelerate where a command can, refused where it cannot.

`torchrun` and `accelerate launch` start a command once per process. A command that does not share out its work would do
all of it in each, and write it N times into one folder.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HELP = "train through accelerate; `accelerate launch` and torchrun need no option"


def num_processes() -> int:
    """How many times this command was started, as launchers tell it."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def refuse_several(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with one line where several processes were started on a command that has no --accelerate."""
    if num_processes() > 1 and not hasattr(arguments, "accelerate"):
        parser.error(
            f"this runs in one process, and WORLD_SIZE is {num_processes()}; start it without torchrun or accelerate"
        )


def open_accelerator(asked: bool) -> Any:
    """An Accelerator if it was asked for or a launcher started us, else None."""
    if not asked and num_processes() == 1 and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return None
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ValueError("training through accelerate needs it: pip install tokenloom[train]") from error
    # No step has a gradient for every weight: a step on captions has none for the head of pictures, none has one for
    # the first block's share of its own values. What no process used keeps no gradient, as in a run of one process.
    return Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])


@contextmanager
def main_process_first(accelerator: Any) -> Iterator[bool]:
    """The block, once the main process is through it, so that the others find what it left; whether we are the main."""
    if accelerator is None:
        yield True
        return
    with accelerator.main_process_first():
        yield accelerator.is_main_process
