"""A Ray cluster as the crew of workers.py: the same task, mapped by Ray Data, the same results in the same order.

For corpora beyond one machine. The cluster's machines must see the files under the same paths, as on a shared disk;
the shards are written by the process that asks. Ray (the extra `ray`) is imported on use.
"""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..data.media import MediaError
from ..data.shards import Source, Tokens
from .workers import Crew, Made, Map, Report, Task

KNOCK = 5.0  # seconds for a cluster to take a connection
MAX_BLOCKS = 10_000  # stretches of sources that Ray hands out; below that number each holds one source


def ray_cluster(address: str, workers: int | None = None) -> Crew:
    """A crew on the cluster at `address`, or on one that is started here ("local"); None: a worker for every core."""

    @contextmanager
    def crew(task: Task) -> Iterator[Map]:
        try:
            import ray
            import ray.data
        except ImportError as missing:
            raise ValueError(f"a cluster needs Ray, got {missing}; install tokenloom[ray]") from None
        check_reachable(address)
        local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, **local)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster can be reached at {address!r} ({error}); check the address") from error
        try:
            yield partial(_map, task, workers)
        finally:
            ray.shutdown()

    return crew


def check_reachable(address: str) -> None:
    """Knock at HOST:PORT, since Ray itself asks for minutes before it gives up; other addresses are Ray's to judge.

    Raises:
        ValueError: nobody listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster can be reached at {address!r} ({error}); check the address") from error


def _map(task: Task, workers: int | None, sources: Sequence[Source], report: Report) -> Iterator[Made]:
    import ray

    if not sources:
        return
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    rows = [{"name": s.name, "path": str(s.path), "sha256": s.sha256, "num_bytes": s.num_bytes} for s in sources]
    actors = ray.data.ActorPoolStrategy(size=workers or int(ray.cluster_resources()["CPU"]))
    made = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map(
        cast(Any, Actor),
        fn_constructor_args=(task,),
        compute=actors,
        num_cpus=1,  # a class, which its types leave out
    )
    for source, row in zip(sources, made.iter_rows(), strict=True):
        report(source.num_bytes)
        yield from_row(row, source)


class Actor:
    """One worker: a process of the cluster that runs the task on one source after the other, on one thread."""

    def __init__(self, task: Task):
        torch.set_num_threads(1)
        self.task = task

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        source = Source(row["name"], Path(row["path"]), row["sha256"], row["num_bytes"])
        return to_row(self.task(source, lambda done: None))


def to_row(made: Made) -> dict[str, Any]:
    """What was made of a source, in types that every row of a table has; `from_row` undoes it."""
    if isinstance(made, MediaError):
        return {"error": made.reason, "ids": b"", "dtype": "", "shape": "[]", "media": "{}"}
    shape, media = json.dumps(made.ids.shape), json.dumps(made.media)
    return {"error": "", "ids": made.ids.tobytes(), "dtype": str(made.ids.dtype), "shape": shape, "media": media}


def from_row(row: dict[str, Any], source: Source) -> Made:
    if row["error"]:
        return MediaError(str(source.path), row["error"])
    ids = np.frombuffer(row["ids"], row["dtype"]).reshape(json.loads(row["shape"]))
    return Tokens(ids, json.loads(row["media"]))
