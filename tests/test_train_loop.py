"""Laws of pipelines/train_loop.py: killed and resumed is as never killed, to the bit; a bad end keeps what was good.

The module is a small network that learns a fixed function; batch and noise come from the step alone, as they must.
"""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tokenloom.models.optimizers import muon_and_adamw
from tokenloom.models.schedules import cosine
from tokenloom.pipelines.checkpoint import checkpoints, load_checkpoint
from tokenloom.pipelines.train_loop import LoopConfig, TrainingError, ema_factor, train

STEPS = 12


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Dropout(0.0), nn.Linear(16, 12), nn.BatchNorm1d(12))


def loss(module: nn.Module, stream: int) -> tuple[Tensor, dict[str, float]]:
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(stream))
    value = (module(x) - x.flip(1)).square().mean()
    return value, {"twice": 2 * float(value.detach())}


def config(**changes) -> LoopConfig:
    every = {"log_every": 2, "evaluate_every": 4, "checkpoint_every": 3}
    return LoopConfig(**({"steps": STEPS, "schedule": cosine(STEPS, warmup=2)} | every | changes))


def run(out: Path, loss=loss, say=lambda line: None, loop: LoopConfig | None = None, **options) -> nn.Module:
    """Train a fresh network with both of our optimizers; `options` go to `train`."""
    module = network()
    optimizers = muon_and_adamw(module, module, muon_lr=0.02, adamw_lr=0.01)
    run.module = module  # type: ignore[attr-defined]
    return train(module, loss, optimizers, loop or config(), out, say=say, **options)


def bits(out: Path) -> dict[str, Tensor]:
    """All that the last checkpoint of a finished run holds."""
    found = load_checkpoint(out)
    assert found is not None and found[0] == STEPS
    return {f"{part}.{name}": tensor for part, tensors in found[1].items() for name, tensor in tensors.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    run(out, evaluate=lambda average, step: {"seen": step})
    return out


# ----------------------------------------------------------------------------------------------------- killed, resumed


@pytest.mark.parametrize("last_step", [1, 3, 5, 9, 11])
def test_a_run_that_dies_in_a_step_and_is_resumed_ends_in_the_same_bits(tmp_path, uninterrupted, last_step):
    class Death(BaseException):
        pass

    def deadly(module, stream):
        if stream == last_step:
            raise Death
        return loss(module, stream)

    with pytest.raises(Death):
        run(tmp_path, deadly, evaluate=lambda average, step: {"seen": step})
    run(tmp_path, resume=True, evaluate=lambda average, step: {"seen": step})
    assert same(bits(tmp_path), bits(uninterrupted))
    assert metrics(tmp_path) == metrics(uninterrupted)


def test_a_run_killed_with_signal_9_and_resumed_ends_in_the_same_bits(tmp_path, uninterrupted):
    """The child says when it is in the middle of step 7, and waits there to be killed."""
    child = (
        "import time\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from tests import test_train_loop as here\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "def waiting(module, stream):\n"
        "    value = here.loss(module, stream)\n"
        "    if stream == 7:\n"
        "        value[0].backward()\n"
        "        print('now', flush=True)\n"
        "        time.sleep(600)\n"
        "    return value\n"
        f"here.run(Path({str(tmp_path)!r}), waiting, evaluate=lambda average, step: {{'seen': step}})\n"
    )
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen([sys.executable, "-c", child], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "now\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert checkpoints(tmp_path)[-1][0] == 6
    run(tmp_path, resume=True, evaluate=lambda average, step: {"seen": step})
    assert same(bits(tmp_path), bits(uninterrupted))
    assert metrics(tmp_path) == metrics(uninterrupted)


def test_a_line_of_metrics_that_was_cut_off_is_written_again(tmp_path, uninterrupted):
    class Death(BaseException):
        pass

    def deadly(module, stream):
        if stream == 7:
            raise Death
        return loss(module, stream)

    with pytest.raises(Death):
        run(tmp_path, deadly, evaluate=lambda average, step: {"seen": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run(tmp_path, resume=True, evaluate=lambda average, step: {"seen": step})
    assert metrics(tmp_path) == metrics(uninterrupted)


def test_resuming_a_finished_run_gives_its_average_and_changes_nothing(tmp_path):
    average = run(tmp_path)
    before = bits(tmp_path)
    again = run(tmp_path, resume=True)
    assert same(average.state_dict(), again.state_dict()) and same(bits(tmp_path), before)


def test_resuming_where_nothing_was_saved_starts_at_the_beginning(tmp_path, uninterrupted):
    run(tmp_path, resume=True, evaluate=lambda average, step: {"seen": step})
    assert same(bits(tmp_path), bits(uninterrupted))


def test_the_end_does_not_depend_on_how_often_is_saved_logged_or_evaluated(tmp_path, uninterrupted):
    run(tmp_path, loop=config(log_every=1, evaluate_every=1, checkpoint_every=100))
    assert same(bits(tmp_path), bits(uninterrupted))


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_run_that_is_there_is_not_overwritten(tmp_path):
    run(tmp_path)
    before = bits(tmp_path)
    with pytest.raises(TrainingError, match="already holds a run; add --resume to continue it, or name another folder"):
        run(tmp_path)
    assert same(bits(tmp_path), before)


def test_a_resumed_run_must_keep_its_settings(tmp_path):
    run(tmp_path, state={"recipe": {"seed": 1, "rates": (1, 2)}})
    run(tmp_path, state={"recipe": {"seed": 1, "rates": (1, 2)}}, resume=True)
    with pytest.raises(TrainingError, match=r"must keep its settings, but recipe.seed was 1 and is 2") as caught:
        run(tmp_path, state={"recipe": {"seed": 2, "rates": (1, 2)}}, resume=True)
    assert "\n" not in str(caught.value)


class Two:
    """As much of an accelerator of two processes, of which this is the first, as the loop sees."""

    num_processes, process_index = 2, 0

    def prepare(self, *parts):
        return parts

    def backward(self, value: Tensor) -> None:
        value.backward()


def test_a_resumed_run_must_keep_its_number_of_processes_for_it_says_which_batches_come(tmp_path):
    run(tmp_path / "one")
    with pytest.raises(TrainingError, match="keep its settings, but processes was 1 and is 2"):
        run(tmp_path / "one", resume=True, accelerator=Two())
    run(tmp_path / "two", accelerator=Two())
    with pytest.raises(TrainingError, match="keep its settings, but processes was 2 and is 1"):
        run(tmp_path / "two", resume=True)
    run(tmp_path / "two", resume=True, accelerator=Two())


def test_checkpoints_that_do_not_say_how_many_processes_made_them_are_of_one(tmp_path):
    run(tmp_path)
    for _, folder in checkpoints(tmp_path):
        state = json.loads((folder / "state.json").read_text())
        assert state["run"].pop("processes") == 1
        (folder / "state.json").write_text(json.dumps(state))
    run(tmp_path, resume=True)
    with pytest.raises(TrainingError, match="processes was 1 and is 2"):
        run(tmp_path, resume=True, accelerator=Two())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_the_last_checkpoint_stays_good(tmp_path, bad):
    def broken(module, stream):
        value, extra = loss(module, stream)
        return value * (bad if stream == 7 else 1), extra

    with pytest.raises(TrainingError, match=f"loss {bad}.* at step 7; start anew with a lower learning rate"):
        run(tmp_path, broken)
    found = load_checkpoint(tmp_path)
    assert found is not None and found[0] == 6
    assert all(tensor.isfinite().all() for part in found[1].values() for tensor in part.values())


def test_a_gradient_that_is_no_number_stops_too(tmp_path):
    def broken(module, stream):
        value, extra = loss(module, stream)
        if stream == 7:
            value = value + 0 * module[0].weight.flatten()[:1].sub(module[0].weight.flatten()[:1]).sqrt().sum()
        return value, extra

    with pytest.raises(TrainingError, match="gradient nan at step 7"):
        run(tmp_path, broken)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_of_memory_says_so_in_one_line_and_keeps_the_last_checkpoint(tmp_path, error):
    def greedy(module, stream):
        if stream == 7:
            raise error
        return loss(module, stream)

    with pytest.raises(TrainingError, match="out of memory at step 7; free some and --resume, or start anew") as caught:
        run(tmp_path, greedy)
    assert "\n" not in str(caught.value) and checkpoints(tmp_path)[-1][0] == 6


def test_an_error_that_only_speaks_of_memory_is_not_taken_for_it(tmp_path):
    def broken(module, stream):
        raise RuntimeError("required rank 4 tensor to use channels_last memory format")

    with pytest.raises(RuntimeError, match="channels_last memory format") as caught:
        run(tmp_path, broken)
    assert not isinstance(caught.value, TrainingError)


# -------------------------------------------------------------------------------------------------------- what it does


def test_the_average_follows_the_weights_slowly_and_from_the_start():
    assert ema_factor(0, 0.999) == 0.1
    assert [ema_factor(step, 0.9) for step in (79, 80, 81, 10_000)] == pytest.approx([80 / 89, 0.9, 0.9, 0.9])


def test_the_average_is_the_one_of_all_weights_so_far(tmp_path):
    """One number that a plain gradient descent moves by -1 each step: the average can be computed by hand."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

    module = One()
    loop = config(schedule=lambda step: 1.0, clip=math.inf, ema_decay=0.5)
    average = train(
        module,
        lambda module, stream: (module.weight.sum(), {}),
        [torch.optim.SGD(module.parameters(), lr=1.0)],
        loop,
        tmp_path,
        say=lambda line: None,
    )
    expected = 0.0
    for step in range(STEPS):
        old = min(0.5, (1 + step) / (10 + step))
        expected = old * expected + (1 - old) * -(step + 1)
    assert module.weight.item() == -STEPS and average.weight.item() == pytest.approx(expected)


def test_rates_follow_the_schedule_and_gradients_are_clipped(tmp_path):
    class Watch(torch.optim.SGD):
        seen: list[tuple[float, float]] = []

        def step(self, closure=None):
            norm = math.hypot(*(float(p.grad.norm()) for g in self.param_groups for p in g["params"]))
            self.seen.append((self.param_groups[0]["lr"], norm))

    module = network()
    schedule = cosine(STEPS, warmup=3)
    loop = config(schedule=schedule, clip=0.01)
    train(module, loss, [Watch(module.parameters(), lr=0.5)], loop, tmp_path, say=lambda line: None)
    assert [rate for rate, _ in Watch.seen] == pytest.approx([0.5 * schedule(step) for step in range(STEPS)])
    assert all(norm == pytest.approx(0.01, rel=1e-3) for _, norm in Watch.seen)


def test_evaluation_sees_the_average_in_evaluation_mode_and_training_the_module_in_training_mode(tmp_path):
    seen: list[tuple[int, bool]] = []

    def evaluate(average: nn.Module, step: int) -> dict[str, float]:
        assert average is not run.module  # type: ignore[attr-defined]
        seen.append((step, average.training))
        return {"score": 1.5}

    def checked(module, stream):
        assert module.training
        return loss(module, stream)

    average = run(tmp_path, checked, evaluate=evaluate)
    assert seen == [(4, False), (8, False), (12, False)] and not average.training
    assert not any(p.requires_grad for p in average.parameters())


def test_the_metrics_and_the_words_tell_the_loss_the_pace_and_the_time_left(tmp_path):
    words: list[str] = []
    run(tmp_path, say=words.append, evaluate=lambda average, step: {"score": 1.5})
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows if "loss" in row] == [0, 2, 4, 6, 8, 10, 11]
    assert [row["step"] for row in rows if "score" in row] == [4, 8, 12]
    assert all({"loss", "twice", "grad_norm", "rate"} <= row.keys() for row in rows if "loss" in row)
    assert words[0].startswith("step 0/12  loss ") and "s/step" in words[0] and words[0].endswith("min left")
    assert "step 4: score 1.5" in words


def test_curves_are_written_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    run(tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
