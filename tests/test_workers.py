"""Laws of pipelines/workers.py: whoever works, the results are the same and in order, and nobody is left behind."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenloom.data.media import MediaError
from tokenloom.data.shards import Source, Tokens
from tokenloom.pipelines.workers import here, processes

CREWS = {"here": here, "1 process": processes(1), "2 processes": processes(2), "5 processes": processes(5)}


def sources_of(names: str) -> list[Source]:
    return [Source(n, Path("nowhere", n), hashlib.sha256(n.encode()).hexdigest(), len(n)) for n in names.split()]


def task(source, report):
    if source.name == "broken":
        return MediaError(source.name, "broken")
    time.sleep(int(source.sha256[:2], 16) / 5000)  # so that they do not end as they began
    report(0.5)
    report(0.5)
    return Tokens(np.frombuffer(source.sha256.encode(), np.uint8), {"threads": torch.get_num_threads()})


def shown(made):
    return [str(m) if isinstance(m, MediaError) else (m.ids.tobytes(), m.media) for m in made]


@pytest.mark.parametrize("crew", CREWS.values(), ids=CREWS)
def test_results_are_the_same_and_in_order_whoever_works(crew):
    sources = sources_of("a b c d broken e f g h i j")
    threads = torch.get_num_threads()
    reports = []
    with crew(task) as work:
        made = shown(work(sources, reports.append))
        again = shown(work(sources[:2], reports.append))
    assert made[4] == "broken: broken"
    assert [ids for ids, _ in made[:4] + made[5:]] == [s.sha256.encode() for s in sources if s.name != "broken"]
    assert all(media == {"threads": 1} for _, media in made[:4] + made[5:])
    assert again == made[:2] and sum(reports) == 12
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("crew", CREWS.values(), ids=CREWS)
def test_an_error_that_is_no_fault_of_a_file_is_raised(crew):
    def fail(source, report):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"), crew(fail) as work:
        list(work(sources_of("a b c"), print))


@pytest.mark.skipif(sys.platform != "linux", reason="the task is local: it crosses by a fork only")
def test_a_process_that_dies_costs_its_file_alone():
    def die(source, report):
        if source.name in ("c", "e"):
            os.kill(os.getpid(), signal.SIGKILL)
        return task(source, report)

    sources = sources_of("a b c d e f")
    with processes(2)(die) as work:
        made = list(work(sources, lambda done: None))
    assert [isinstance(m, MediaError) for m in made] == [False, False, True, False, True, False]
    assert str(made[2]) == (
        "nowhere/c: its worker process ended (-9), for want of memory or by a fault of a decoder; "
        "run again with fewer workers"
    )


def test_a_crew_has_a_worker():
    with pytest.raises(ValueError, match="at least 1"):
        processes(0)


PARENT = """
import multiprocessing, time
from pathlib import Path
from tokenloom.data.shards import Source
from tokenloom.pipelines.workers import processes

def task(source, report):
    report(1.0)
    time.sleep(600)

with processes(2)(task) as work:
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    sources = [Source(name, Path(name), name * 64, 1) for name in "ab"]
    for made in work(sources, lambda done: print("busy", flush=True)):
        pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nobody_works_on_when_the_parent_was_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert [parent.stdout.readline() for _ in range(2)] == ["busy\n"] * 2
        assert len(pids) == 2 and all(map(alive, pids))
        parent.kill()
    end = time.monotonic() + 10
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.02)
    assert not [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_dies_idle_costs_no_file():
    crew = processes(2)
    with crew(task) as work:
        list(work(sources_of("a b"), lambda done: None))
        for process in multiprocessing.active_children()[:1]:
            process.kill()
            process.join()
        made = list(work(sources_of("c d e f"), lambda done: None))
    assert not any(isinstance(m, MediaError) for m in made) and len(made) == 4
