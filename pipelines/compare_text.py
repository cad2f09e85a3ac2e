"""n-grams, a transformer on bytes and one on pieces of words, beside each other on the same text: bits per byte.

All learn from the same texts and are measured on the same held-out ones. The two transformers have one trunk and spend
equally much arithmetic: a step on pieces of words costs more, since its head is larger, so it has fewer of them, and
still reads more text, since a piece is several bytes.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..data.files import write_atomically
from ..models.ngram import NGramModel
from ..models.transformer import SharedTransformer, TransformerConfig
from ..tokenizers.text import TextTokenizer
from .language_model import LanguageModel
from .text_report import report_html
from .train_language import LanguageRecipe, gigaflops_per_step, train_language

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
        if self.vocab_size <= NUM_BYTES:
            raise ValueError(f"pieces of words need a vocabulary above {NUM_BYTES}, got {self.vocab_size}")


@dataclass(frozen=True)
class Arm:
    """A model that was trained, and what that took."""

    name: str
    about: str
    model: LanguageModel
    parameters: int
    seconds: float
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
    bytes_tokenizer = TextTokenizer.train(train_texts, vocab_size=NUM_BYTES)
    arms = [_ngram(train_texts, bytes_tokenizer, order) for order in comparison.orders]
    for arm in arms:
        say(f"{arm.name}: {arm.parameters} counts in {arm.seconds:.1f} s")
    pieces_tokenizer = TextTokenizer.train(train_texts, vocab_size=comparison.vocab_size)
    costs = [gigaflops_per_step(SharedTransformer(_sized(config, t)), recipe) for t in (bytes_tokenizer, pieces_tokenizer)]
    fewer = replace(recipe, steps=max(1, round(recipe.steps * costs[0] / costs[1])))
    for name, tokenizer, own in (("bytes", bytes_tokenizer, recipe), ("pieces", pieces_tokenizer, fewer)):
        say(f"transformer on {name}:")
        began = time.monotonic()
        model = train_language(
            _sized(config, tokenizer), own, train_texts, held_out, tokenizer, out / name, resume=resume, say=say
        )
        seconds = time.monotonic() - began
        model.save_pretrained(out / name / "final")
        tokens = sum(map(len, tokenizer.encode_batch(train_texts)))
        parameters = sum(p.numel() for p in model.transformer.parameters())
        about = f"{tokenizer.vocab_size} tokens, {sum(len(t.encode()) for t in train_texts) / tokens:.2f} bytes each"
        teraflops = gigaflops_per_step(model.transformer, own) * own.steps / 1e3
        epochs = own.steps * own.batch_size * own.window / tokens
        arms.append(Arm(f"transformer on {name}", about, model, parameters, seconds, teraflops, epochs))
    report = _report(arms, train_texts, held_out, recipe, comparison)
    write_atomically(out / "report.json", (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(out / "report.html", report_html(report).encode())
    return report


def held_out_prompts(texts: Sequence[str], count: int = 2, letters: int = 60) -> list[str]:
    """Beginnings of lines spread over the held-out texts, the same for every run on the same data."""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    chosen = lines[:: max(1, len(lines) // count)][:count]
    return [line[:letters] for line in chosen]


def _sized(config: TransformerConfig, tokenizer: TextTokenizer) -> TransformerConfig:
    return replace(config, text_vocab_size=tokenizer.vocab_size)


def _ngram(texts: Sequence[str], tokenizer: TextTokenizer, order: int) -> Arm:
    began = time.monotonic()
    ids = [torch.tensor(tokens, dtype=torch.long) for tokens in tokenizer.encode_batch(texts)]
    model = NGramModel(ids, order=order, num_tokens=tokenizer.vocab_size)
    about = f"the last {order - 1} bytes, modified Kneser-Ney"
    seconds = time.monotonic() - began
    return Arm(f"{order}-gram", about, LanguageModel(tokenizer, model), model.num_counts, seconds, 0.0, 1.0)


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
        "train_bytes": sum(len(text.encode()) for text in train_texts),
        "held_out_bytes": sum(len(text.encode()) for text in held_out),
        "window": recipe.window,
        "temperature": comparison.temperature,
        "seed": comparison.seed,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "prompts": list(comparison.prompts),
        "arms": [
            {
                "name": arm.name,
                "about": arm.about,
                "bits_per_byte": round(arm.model.bits_per_byte(*held_out), 4),
                "parameters": arm.parameters,
                "seconds": round(arm.seconds, 2),
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
    """Each token of a text, and its bits; a token that is half a letter is shown as U+FFFD."""
    ids = model.tokenizer.encode(text)
    return [(model.tokenizer.decode([token]), round(bits, 2)) for token, bits in zip(ids, model.bits(text), strict=True)]
