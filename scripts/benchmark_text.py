"""Speed of whole corpora of text to ids, beside the peer: `TextTokenizer.encode_corpus` and `tokenizers` encode_batch.

The corpus is Python source that is installed anyway, each file once; the vocabulary is trained on it. Every round runs
all settings one after the other, so that other load on the machine meets them alike. Ours starts cold: in each round
it is opened anew, and both that and the check of the texts are in its time.
"""

import argparse
import os
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.scripts.cli import CommandParser, main_of

if TYPE_CHECKING:
    from tokenloom.tokenizers.text import TextTokenizer

OURS = "encode_corpus"
PEERS = ("encode_batch", "encode_batch_fast", "encode_batch, one core")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description="text to ids: our encode_corpus beside encode_batch of the tokenizers library")
    parser.add_argument("--megabytes", type=float, default=20.0, help="size of the corpus (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting (default: 3)")
    parser.add_argument("--vocab-size", type=int, default=8192, help="size of the vocabulary (default: 8192)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.tokenizers.text import TextTokenizer

    if arguments.megabytes <= 0 or arguments.rounds < 1:
        raise ValueError("--megabytes and --rounds must be positive")
    texts = python_sources(int(arguments.megabytes * 1e6))
    tokenizer = TextTokenizer.train(texts[::4], vocab_size=arguments.vocab_size)
    print(f"{sum(len(text.encode()) for text in texts) / 1e6:.1f} MB in {len(texts)} texts, {tokenizer}", flush=True)
    print(report(measure(tokenizer, texts, arguments.rounds)))
    return 0


def python_sources(num_bytes: int) -> list[str]:
    """Source files of the installed packages and the standard library, in the order of their names, up to a size."""
    texts: list[str] = []
    for folder in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
        for path in sorted(Path(folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if 2_000 <= len(text) <= 200_000 and num_bytes > 0:  # longer ones are mostly tables
                texts.append(text)
                num_bytes -= len(text.encode())
    return texts


def measure(tokenizer: "TextTokenizer", texts: list[str], rounds: int) -> dict[str, list[float]]:
    """MB/s of each setting, once per round.

    Raises:
        ValueError: the ids are not the same.
    """
    from tokenizers import Tokenizer

    from tokenloom.tokenizers.text import TextTokenizer

    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    speeds: dict[str, list[float]] = {name: [] for name in (OURS, *PEERS)}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        peer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
        settings: dict[str, tuple[str, Callable[[], Any]]] = {
            OURS: ("true", lambda: TextTokenizer.from_pretrained(folder).encode_corpus(texts)),
            PEERS[0]: ("true", lambda: peer.encode_batch(texts)),
            PEERS[1]: ("true", lambda: peer.encode_batch_fast(texts)),
            PEERS[2]: ("false", lambda: peer.encode_batch(texts)),
        }
        tokenizer.encode_corpus(texts[:1])  # imports gigatoken, which is not what is measured
        for _ in range(rounds):
            for name, (parallel, encode) in settings.items():
                results.pop(name, None)  # freed before the clock starts
                seconds, results[name] = _timed(encode, parallel)
                speeds[name].append(megabytes / seconds)
    if [ids.tolist() for ids in results[OURS]] != [encoding.ids for encoding in results[PEERS[0]]]:
        raise ValueError("encode_corpus and encode_batch give different ids; report this with the two versions")
    return speeds


def report(speeds: dict[str, list[float]]) -> str:
    """One line per setting: MB/s, and how many times faster ours is; median, then the lowest and highest round."""
    lines = [f"{'':24}{'MB/s':>22}{'ours is faster by':>26}"]
    for name, values in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds[OURS], values, strict=True)]
        lines.append(f"{name:24}{_spread(values):>22}{'' if name == OURS else _spread(ratios):>26}")
    return "\n".join(lines)


def _timed(encode: Callable[[], Any], parallel: str) -> tuple[float, Any]:
    """Seconds and result of a call under a value of the variable that `tokenizers` reads at every call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = parallel
    try:
        start = time.perf_counter()
        result = encode()
        return time.perf_counter() - start, result
    finally:
        os.environ.pop("TOKENIZERS_PARALLELISM")
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
