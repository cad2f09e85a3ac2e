"""Ours beside the peers on the same shapes, in one go: milliseconds, and ratios with their spread.

Every section runs all its cases in turn, for several rounds after a warm-up. Nothing is judged: the targets are printed
beside what was reached. A section whose peer is not installed says so.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, main_of
from tokenloom.scripts.option_types import whole_number
from tokenloom.scripts.side_by_side import side_by_side, spread

ROOT = Path(__file__).resolve().parent.parent
MODEL = "tokenloom-mini"
PROMPT = "a red circle on a white background"


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each case (default: 5)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16], help="of ar-decode (default: 1 16)")
    parser.add_argument("--tokens", type=int, default=256, help="of ar-decode, at most 256 (default: 256)")
    parser.add_argument("--train-batch", type=int, default=8, help="sequences of train-step (default: 8)")
    parser.add_argument("--compile", action="store_true", help="train-step also with torch.compile, both sides")
    parser.add_argument("--threads", type=whole_number(1, 1024), help="threads of torch (default: one per core)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        raise UsageError(f"sections are {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    if min(arguments.rounds, arguments.train_batch, *arguments.batch_sizes) < 1 or not 1 <= arguments.tokens <= 256:
        raise UsageError("--rounds, --batch-sizes and --train-batch must be at least 1, --tokens 1 to 256")
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(machine(torch.get_num_threads()), flush=True)
    for name in arguments.sections or SECTIONS:
        try:
            SECTIONS[name](arguments)
        except ModuleNotFoundError as missing:
            print(f"{name}: skipped, its peer needs {missing.name}, which is not installed", flush=True)
        print(flush=True)
    return 0


def machine(threads: int) -> str:
    """What ran where: versions, threads, and whether the machine was busy with something else."""
    found = []
    for package in ("torch", "transformers", "diffusers", "tokenizers", "gigatoken"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    lines = [f"Python {platform.python_version()}, {', '.join(found)}; {threads} threads on {os.cpu_count()} cores"]
    load = os.getloadavg()[0]
    if load > 0.5:
        lines.append(
            f"the machine is busy (load {load:.1f}): figures are worse than they could be, ratios less certain"
        )
    return "\n".join(lines) + "\n"


def ar_decode(arguments: argparse.Namespace) -> None:
    from tokenloom.scripts import benchmark_models

    for batch in arguments.batch_sizes:
        target = 2.5 if batch == 1 else 3.0
        print(benchmark_models.ar_decode(arguments.rounds, batch=batch, tokens=arguments.tokens, target=target))


def diffusion(arguments: argparse.Namespace) -> None:
    from tokenloom.scripts import benchmark_models

    print(benchmark_models.diffusion(arguments.rounds, target=4.0))


def train_step(arguments: argparse.Namespace) -> None:
    from tokenloom.scripts import benchmark_models

    batch, compiled = arguments.train_batch, arguments.compile
    print(benchmark_models.train_step(arguments.rounds, batch=batch, compiled=compiled, target=1.2))


def tokenize_video(arguments: argparse.Namespace) -> None:
    from tokenloom.scripts import benchmark_video

    print(benchmark_video.speed(arguments.rounds, target=0.9), flush=True)
    print(benchmark_video.memory(target=1.1))


def text_corpus(arguments: argparse.Namespace) -> None:
    from tokenloom.scripts import benchmark_text

    print("text-corpus, the target is 20 times")
    benchmark_text.run(benchmark_text.build_parser().parse_args(["--rounds", str(arguments.rounds)]))


def _run(words: Sequence[str], folder: str) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ValueError(f"{' '.join(words)} must run, and ended with {done.returncode}: {told[-1]}")


def cold_start(arguments: argparse.Namespace) -> None:
    """Wall time of whole processes, in seconds; a picture is judged by what it takes beyond `import torch`."""
    command = [sys.executable, "-m", "tokenloom.scripts.cli"]
    with tempfile.TemporaryDirectory() as folder:
        drawing = [*command, "text-to-image", PROMPT, "--model", MODEL, "--seed", "0", "--out", f"{folder}/x.png"]
        runs = {"tokenloom --help": [*command, "--help"], "import torch": [sys.executable, "-c", "import torch"]}
        if (ROOT / "models" / "weights" / MODEL).is_dir():
            for decoder in ("ar", "masked", "diffusion"):
                runs[f"prompt to PNG by {decoder}"] = [*drawing, "--decoder", decoder]
        cases: dict[str, Callable[[], object]] = {name: partial(_run, words, folder) for name, words in runs.items()}
        seconds = side_by_side(cases, arguments.rounds)
    print(
        "cold-start, seconds of a whole process; targets are 0.5 for --help and 2.5 beyond import torch for a picture"
    )
    for name, values in seconds.items():
        beyond = [value - torch for value, torch in zip(values, seconds["import torch"], strict=True)]
        more = f"   {spread(beyond)} beyond import torch" if name.startswith("prompt") else ""
        print(f"  {name:34}{spread(values):>32}{more}")
    if len(runs) == 2:
        print(f"  no picture was drawn: {MODEL} is not among the shipped weights here")


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "ar-decode": ar_decode,
    "diffusion": diffusion,
    "train-step": train_step,
    "text-corpus": text_corpus,
    "tokenize-video": tokenize_video,
    "cold-start": cold_start,
}

if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
