"""Train a text tokenizer on captions and text files, and show whether it pays: bytes per token on what it read."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..data.find_files import find_files
from ..data.folders import NothingFoundError
from ..data.media import MediaError, read_bytes
from ..tokenizers.text import TextTokenizer
from .picture_sources import open_source, parse_spec, whole

SUFFIXES = (".txt", ".text", ".md")
BLOCK = 1 << 16  # letters: long texts are cut about here, so that all cores can read them
SAMPLE = 2000  # texts that are measured


@dataclass(frozen=True, kw_only=True)
class TextTokenizerRecipe:
    vocab_size: int = 1024  # 256 bytes, merges, special tokens
    special_tokens: Sequence[str] = ()
    normalization: Literal["NFC", "NFKC"] | None = None
    lowercase: bool = False
    min_frequency: int = 2


def documents_of(specs: Sequence[str]) -> Iterator[str]:
    """The texts of "scenes", of folders and tars (their captions), and of text files, one after the other.

    Of a folder that holds neither pictures nor clips, its text files.

    Raises:
        ValueError: a spec is neither, or a text file cannot be read.
    """
    for name, _ in map(parse_spec, specs):
        path = Path(name)
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            yield _read(path)
            continue
        try:
            source = open_source([name], 64, 0, whole)
        except NothingFoundError:
            if not path.is_dir():
                raise
            yield from map(_read, find_files([path], "text").values())
        else:
            yield from filter(None, source.captions())


def texts_of(specs: Sequence[str]) -> Iterator[str]:
    """`documents_of` the specs, long ones cut between paragraphs."""
    for document in documents_of(specs):
        yield from _blocks(document)


def _read(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(str(path), f"must be UTF-8 text ({error.reason} at byte {error.start})") from error


def _blocks(text: str) -> Iterator[str]:
    start = 0
    for match in re.finditer(r"\n(?=\S)", text):
        if match.end() - start >= BLOCK:
            yield text[start : match.end()]
            start = match.end()
    yield text[start:]


def train_text_tokenizer(
    texts: Sequence[str], recipe: TextTokenizerRecipe, out: Path, *, say: Callable[[str], None] = print
) -> TextTokenizer:
    """Train on `texts` and write tokenizer.json into `out`.

    Raises:
        ValueError: there is no text, or no room for the special tokens.
    """
    if not any(texts):
        raise ValueError("a text tokenizer needs texts, got none; name pictures with captions, or text files")
    size = sum(len(text.encode()) for text in texts)
    say(f"text tokenizer: {recipe.vocab_size} tokens from {len(texts)} texts, {size / 1e6:.2f} MB")
    tokenizer = TextTokenizer.train(
        texts,
        vocab_size=recipe.vocab_size,
        special_tokens=recipe.special_tokens,
        normalization=recipe.normalization,
        lowercase=recipe.lowercase,
        min_frequency=recipe.min_frequency,
    )
    tokenizer.save_pretrained(out)
    sample = texts[:: -(-len(texts) // SAMPLE)]
    counts = [len(ids) for ids in tokenizer.encode_batch(sample)]
    read = sum(len(text.encode()) for text in sample)
    say(
        f"{tokenizer.vocab_size} tokens learned; {read / max(1, sum(counts)):.2f} bytes per token, "
        f"{sum(counts) / len(counts):.1f} tokens per text, at most {max(counts)}"
    )
    return tokenizer
