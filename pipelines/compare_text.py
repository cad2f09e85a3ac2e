"""n-grams, a transformer on bytes and one on pieces of words, beside each other on the same text: bits per byte.

All learn from the same texts and are measured on the same held-out ones. The two transformers have one trunk and spend
equally much arithmetic: a step on pieces of words costs more, since its head is larger, so it has fewer of them, and
still reads more text, since a piece is several bytes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..data.files import write_atomically, write_json
from ..models.ngram import NGramModel
from ..models.transformer import TransformerConfig
from ..tokenizers.text import TextTokenizer, check_text
from .checkpoint import checkpoints
from .language_model import LanguageModel
from .text_report import report_html
from .train_language import LanguageRecipe, gigaflops_per_step, train_language
from .train_loop import refuse_run

NUM_BYTES = 256  # vocabulary of byte-level BPE that merges nothing
SHOWN = 240  # bytes of held-out text whose cost is shown piece by piece


@dataclass(frozen=True, kw_only=True)
class TextComparison:
    """What is compared, beside the recipe of the transformer on bytes."""

    prompts: tuple[str, ...]
    orders: tuple[int, ...] = (3, 4, 5, 6)  # of the n-grams, on bytes
    vocab_size: int = 1024  # of the pieces of words
    length: int = 400  # bytes of a continuation
    temperature: float = 0.8
    seed: int = 0  # of the continuations

    def __post_init__(self) -> None:
        if not self.prompts or not self.orders:
            raise ValueError("a comparison needs prompts and orders of n-grams, got none; name some")
        for prompt in self.prompts:
            check_text(prompt)
        if self.vocab_size <= NUM_BYTES:
            raise ValueError(f"pieces of words need a vocabulary above {NUM_BYTES}, got {self.vocab_size}")


@dataclass(frozen=True)
class Arm:
    """A model that was trained, and what that took."""

    name: str
    kind: str  # "ngram", "bytes" or "pieces": its color on the page
    about: str
    model: LanguageModel
    parameters: int
    seconds: float | None  # of training; None of a run that was resumed
    teraflops: float  # of training
    epochs: float  # how often it read its text


def compare_text(
    train_texts: Sequence[str],
    held_out: Sequence[str],
    config: TransformerConfig,
    recipe: LanguageRecipe,
    comparison: TextComparison,
    out: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train all, write report.html and report.json into `out`, and the transformers into folders of it.

    Of `config` the trunk counts; its text_vocab_size is that of each tokenizer. Returns what is in report.json.

    Raises:
        TrainingError, ValueError: as `train_language` and NGramModel.
    """
    for folder in ("bytes", "pieces"):
        if not resume:
            refuse_run(out / folder)
    on_bytes, on_pieces = (
        TextTokenizer.train(train_texts, vocab_size=size) for size in (NUM_BYTES, comparison.vocab_size)
    )
    arms = _ngrams(train_texts, on_bytes, comparison.orders)
    for arm in arms:
        say(f"{arm.name}: {arm.parameters} counts in {arm.seconds:.2f} s")

    def transformer(kind: str, tokenizer: TextTokenizer, own: LanguageRecipe) -> Arm:
        folder, sized = out / kind, _sized(config, tokenizer)
        resumed = resume and bool(checkpoints(folder))
        say(f"transformer on {kind}:")
        began = time.monotonic()
        model = train_language(sized, own, train_texts, held_out, tokenizer, folder, resume=resume, say=say)
        seconds = None if resumed else time.monotonic() - began
        model.save_pretrained(folder / "final")
        num_tokens = sum(map(len, tokenizer.encode_batch(train_texts)))
        return Arm(
            name=f"transformer on {kind}",
            kind=kind,
            about=f"{tokenizer.vocab_size} tokens, {_num_bytes(train_texts) / num_tokens:.2f} bytes each",
            model=model,
            parameters=sum(p.numel() for p in model.transformer.parameters()),
            seconds=seconds,
            teraflops=gigaflops_per_step(sized, own) * own.steps / 1e3,
            epochs=own.steps * own.batch_size * own.window / num_tokens,
        )

    costs = [gigaflops_per_step(_sized(config, tokenizer), recipe) for tokenizer in (on_bytes, on_pieces)]
    fewer = replace(recipe, steps=max(1, round(recipe.steps * costs[0] / costs[1])))
    arms += [transformer("bytes", on_bytes, recipe), transformer("pieces", on_pieces, fewer)]
    report = _report(arms, train_texts, held_out, recipe, comparison)
    write_json(out / "report.json", report)
    write_atomically(out / "report.html", report_html(report).encode("utf-8", "backslashreplace"))
    return report


def held_out_prompts(texts: Sequence[str], count: int = 2, letters: int = 60) -> list[str]:
    """Beginnings of lines spread over the held-out texts, the same for every run on the same data."""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    chosen = lines[:: max(1, len(lines) // count)][:count]
    return [line[:letters] for line in chosen]


def _sized(config: TransformerConfig, tokenizer: TextTokenizer) -> TransformerConfig:
    return replace(config, text_vocab_size=tokenizer.vocab_size)


def _num_bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _ngrams(texts: Sequence[str], tokenizer: TextTokenizer, orders: Sequence[int]) -> list[Arm]:
    ids = [torch.tensor(tokens, dtype=torch.long) for tokens in tokenizer.encode_batch(texts)]
    arms = []
    for order in orders:
        began = time.monotonic()
        model = NGramModel(ids, order=order, num_tokens=tokenizer.vocab_size)
        seconds = time.monotonic() - began
        about = f"{'byte' if order == 2 else f'{order - 1} bytes'} before, modified Kneser-Ney"
        arms.append(
            Arm(f"{order}-gram", "ngram", about, LanguageModel(tokenizer, model), model.num_counts, seconds, 0.0, 1.0)
        )
    return arms


def _report(
    arms: Sequence[Arm],
    train_texts: Sequence[str],
    held_out: Sequence[str],
    recipe: LanguageRecipe,
    comparison: TextComparison,
) -> dict[str, Any]:
    shown = held_out[0].encode()[:SHOWN].decode("utf-8", "ignore")
    return {
        "data": list(recipe.data),
        "train_bytes": _num_bytes(train_texts),
        "held_out_bytes": _num_bytes(held_out),
        "window": recipe.window,
        "temperature": comparison.temperature,
        "seed": comparison.seed,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "prompts": list(comparison.prompts),
        "arms": [
            {
                "name": arm.name,
                "kind": arm.kind,
                "about": arm.about,
                "bits_per_byte": round(arm.model.bits_per_byte(*held_out), 4),
                "parameters": arm.parameters,
                "seconds": arm.seconds if arm.seconds is None else round(arm.seconds, 3),
                "teraflops": round(arm.teraflops, 3),
                "epochs": round(arm.epochs, 2),
                "costs": _costs(arm.model, shown),
                "continuations": [
                    arm.model.continue_text(
                        prompt,
                        torch.Generator().manual_seed(comparison.seed + number),
                        comparison.length,
                        comparison.temperature,
                    )
                    for number, prompt in enumerate(comparison.prompts)
                ],
            }
            for arm in arms
        ],
    }


def _costs(model: LanguageModel, text: str) -> list[tuple[str, float]]:
    """Each token of a text, and its bits per byte; a token that is half a letter is shown as U+FFFD."""
    tokens = [model.tokenizer.decode_bytes([token]) for token in model.tokenizer.encode(text)]
    costs = zip(tokens, model.bits(text), strict=True)
    return [(token.decode("utf-8", "replace"), round(bits / len(token), 2)) for token, bits in costs]
