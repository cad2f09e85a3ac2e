"""What every test shares: the data packs when they are there, and one thread."""

import os
from pathlib import Path

import pytest
import torch

PACKS = os.environ.get("TOKENLOOM_DATA", "")

needs_packs = pytest.mark.skipif(
    not (PACKS and Path(PACKS, "images").is_dir()),
    reason="needs the data packs: set TOKENLOOM_DATA to their folder",
)

torch.set_num_threads(1)  # toy shapes gain nothing from a second thread, and it spins where the machine is busy


@pytest.fixture(autouse=True)
def own_chance():
    """Torch's global generator is after a test what it was before, so that no test depends on those before it."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="session")
def packs() -> Path:
    """The folder of the data packs; only for tests marked with `needs_packs`."""
    return Path(PACKS)
