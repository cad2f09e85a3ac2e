"""Who does the work on files: this process, or several processes. The results are the same, and in the same order.

A task turns a `Source` into tokens, or into the error by which that file is skipped; while it works it reports bytes
of the file that are done. A crew is opened with its task and maps that over sources. Every task runs on one thread
of torch, wherever it runs, because sums in another order would give other ids.
"""

import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, cast

import torch

from ..data.media import MediaError
from ..data.shards import Source, Tokens

Made = Tokens | MediaError
Report = Callable[[float], None]  # bytes of the source that are done since the last report
Task = Callable[[Source, Report], Made]
Map = Callable[[Sequence[Source], Report], Iterator[Made]]
Crew = Callable[[Task], AbstractContextManager[Map]]

AHEAD = 4  # results per process that may wait for an earlier one


@contextmanager
def here(task: Task) -> Iterator[Map]:
    """The crew that is this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield lambda sources, report: (task(source, report) for source in sources)
    finally:
        torch.set_num_threads(threads)


def processes(number: int) -> Crew:
    """A crew of `number` processes of this machine. One that dies costs the file that it was at, and is replaced."""
    if number < 1:
        raise ValueError(f"a crew must have at least 1 worker, got {number}")

    @contextmanager
    def crew(task: Task) -> Iterator[Map]:
        workers = _Workers(task, number)
        try:
            yield workers.map
        finally:
            workers.close()

    return crew


@dataclass(frozen=True)
class _Raised:
    """An error that is no fault of the file, to be raised in the parent."""

    error: Exception


class _Workers:
    def __init__(self, task: Task, number: int):
        self.task = task
        # A fork costs nothing and is safe where torch runs on one thread, as in torch's own loader; not on macOS.
        self.context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.processes: dict[Connection, Any] = {}
        self.idle = [self._start() for _ in range(number)]

    def map(self, sources: Sequence[Source], report: Report) -> Iterator[Made]:
        todo = deque(enumerate(sources))
        busy: dict[Connection, int] = {}
        made: dict[int, Made] = {}
        for number in range(len(sources)):
            while number not in made:
                while todo and self.idle and todo[0][0] < number + AHEAD * len(self.processes):
                    connection = self.idle.pop()
                    try:
                        connection.send(todo[0][1])
                    except ConnectionError:  # it died while it had nothing to do, and costs no file
                        self._replace(connection)
                        continue
                    busy[connection], _ = todo.popleft()
                for ready in wait(list(busy)):
                    connection = cast(Connection, ready)
                    try:
                        message = connection.recv()
                    except (EOFError, ConnectionError):
                        source = sources[busy[connection]]
                        made[busy.pop(connection)] = MediaError(str(source.path), self._replace(connection))
                        continue
                    if isinstance(message, _Raised):
                        raise message.error
                    if isinstance(message, float):
                        report(message)
                    else:
                        made[busy.pop(connection)] = message
                        self.idle.append(connection)
            yield made.pop(number)

    def close(self) -> None:
        for connection, process in self.processes.items():
            process.kill()
            process.join()
            connection.close()
        self.processes.clear()

    def _start(self) -> Connection:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.task), daemon=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork")
            process.start()
        theirs.close()
        self.processes[ours] = process
        return ours

    def _replace(self, connection: Connection) -> str:
        """Start another in the place of one that died; says how that died."""
        process = self.processes.pop(connection)
        process.join()
        connection.close()
        self.idle.append(self._start())
        return (
            f"its worker process ended ({process.exitcode}), for want of memory or by a fault of a decoder; "
            "run again with fewer workers"
        )


def _serve(connection: Connection, task: Task) -> None:
    """What a process of the crew does: one file after the other, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its crew
    torch.set_num_threads(1)
    Thread(target=_die_with_parent, daemon=True).start()
    while True:
        source = connection.recv()
        try:
            connection.send(task(source, lambda done: connection.send(float(done))))
        except Exception as error:
            connection.send(_Raised(error))


def _die_with_parent() -> None:
    """A parent that is killed cannot end its crew, and a film may have hours to go."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
