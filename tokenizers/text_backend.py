"""Makes the byte-level BPE inside a TextTokenizer: by training, from published files, from a tokenizer.json.

Byte-level (GPT-2): every byte has a letter, a token is a string of such letters, and pairs of tokens are merged
inside the words that GPT-2's split pattern finds. All functions return a `tokenizers.Tokenizer`.
"""

import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MAX_FILE_BYTES = 256 << 20  # the largest published tokenizer.json files have about 35 MB
MAX_VOCAB_SIZE = 1 << 20  # beyond it, training would ask for any amount of memory
NORMALIZERS = {"NFC": normalizers.NFC, "NFKC": normalizers.NFKC}

log = logging.getLogger(__name__)


def byte_alphabet() -> list[str]:
    """The letter of each of the 256 bytes: itself (Latin-1) if it is visible, otherwise the next one from U+0100."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in visible else chr(next(spare)) for byte in range(256)]


def train(
    texts: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    normalization: str | None,
    lowercase: bool,
    min_frequency: int,
) -> Tokenizer:
    """Learn the merges; see TextTokenizer.train."""
    if normalization is not None and normalization not in NORMALIZERS:
        raise ValueError(f"normalization must be None or one of {', '.join(NORMALIZERS)}, got {normalization!r}")
    if vocab_size < 256 + len(special_tokens):
        raise ValueError(f"vocab_size must hold 256 bytes and {len(special_tokens)} special tokens, got {vocab_size}")
    if vocab_size > MAX_VOCAB_SIZE:
        raise ValueError(f"vocab_size must be at most {MAX_VOCAB_SIZE}, got {vocab_size}; take fewer")
    if min_frequency < 1:
        raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
    backend = _byte_level(models.BPE())
    steps = [NORMALIZERS[normalization]()] if normalization else []
    steps += [normalizers.Lowercase()] if lowercase else []
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special_tokens),
        min_frequency=min_frequency,
        initial_alphabet=byte_alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    _add_special_tokens(backend, special_tokens, learned=backend.get_vocab())
    reached = backend.get_vocab_size()
    if reached < vocab_size:
        log.warning("vocab_size is %d, not %d: no other pair occurs %d times", reached, vocab_size, min_frequency)
    return backend


def from_vocab_and_merges(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], special_tokens: Sequence[str]
) -> Tokenizer:
    """From tokens in letters of the byte alphabet with their ids, and the merges, best first."""
    try:
        backend = _byte_level(models.BPE(vocab=dict(vocab), merges=list(merges)))
    except Exception as error:  # the library has no narrower class
        raise ValueError(f"vocabulary and merges do not fit together: {error}") from error
    _add_special_tokens(backend, special_tokens, learned={*byte_alphabet(), *(left + right for left, right in merges)})
    return backend


def read_gpt2_files(vocab_file: Path, merges_file: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges from encoder.json (or vocab.json) and vocab.bpe (or merges.txt)."""
    try:
        vocab = json.loads(_read_text(vocab_file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{vocab_file} is not JSON: {error}") from error
    if not isinstance(vocab, dict) or not all(type(token_id) is int for token_id in vocab.values()):
        raise ValueError(f"{vocab_file} must hold one JSON object of tokens and their ids")
    merges = []
    for number, line in enumerate(_read_text(merges_file).split("\n"), start=1):  # tokens may hold other separators
        if line and not line.startswith("#version"):
            left, space, right = line.partition(" ")
            if not left or not right or " " in right:
                raise ValueError(f"{merges_file}, line {number}: must be two tokens and one space, got {line[:80]!r}")
            merges.append((left, right))
    return vocab, merges


def read_tokenizer_json(file: Path) -> Tokenizer:
    """Open a tokenizer.json of any kind. Template tokens, truncation, padding and dropout are not taken over."""
    text = _read_text(file)
    try:
        backend = Tokenizer.from_str(text)
    except Exception as error:  # the library has no narrower class
        raise ValueError(f"{file} is not a tokenizer.json that this version reads: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None) is not None:
        backend.model.dropout = None  # ids must be a function of the text
    return backend


_LOSSLESS = ("ByteLevel", "Split", "Digits", "UnicodeScripts")  # steps that cut a text up and keep all of it


def is_byte_level(backend: Tokenizer) -> bool:
    """Whether tokens are strings of bytes, all 256 bytes are tokens, nothing is put in between, and nothing is lost."""
    config = json.loads(backend.to_str())
    splits = config["pre_tokenizer"] or {}
    splits = splits.get("pretokenizers", [splits])
    if any(split.get("type") not in _LOSSLESS or split.get("behavior") == "Removed" for split in splits):
        return False
    if any((token["lstrip"] or token["rstrip"]) and not token["special"] for token in config["added_tokens"]):
        return False
    writes_bytes = any(split.get("type") == "ByteLevel" and not split["add_prefix_space"] for split in splits)
    reads_bytes = (config["decoder"] or {}).get("type") == "ByteLevel"
    affixes = config["model"].get("end_of_word_suffix") or config["model"].get("continuing_subword_prefix")
    return writes_bytes and reads_bytes and not affixes and backend.get_vocab().keys() >= set(byte_alphabet())


def cuts_before_spaces(backend: Tokenizer) -> bool:
    """Whether a text may be cut before a space or a line break that follows something else, and keeps its ids.

    So it is by GPT-2's pattern, in which spaces only begin a word, where nothing else looks beyond words.
    """
    config = json.loads(backend.to_str())
    splits = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    whole = config["normalizer"] is None and all(token["special"] for token in config["added_tokens"])
    return whole and splits.items() <= (config["pre_tokenizer"] or {}).items()


def _byte_level(model: models.Model) -> Tokenizer:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits by GPT-2's pattern
    backend.decoder = decoders.ByteLevel()
    return backend


def _add_special_tokens(backend: Tokenizer, tokens: Sequence[str], learned: Collection[str]) -> None:
    """Give every special token an id; `learned` are the tokens that ordinary text can produce, which would share it."""
    if not all(isinstance(token, str) and token for token in tokens) or len(set(tokens)) < len(tokens):
        raise ValueError(f"special tokens must be different strings, none of them empty, got {list(tokens)}")
    for token in tokens:
        if token in learned:
            raise ValueError(f"{token!r} cannot be special, ordinary text produces it too; take '<|{token}|>'")
    backend.add_special_tokens(list(tokens))


def _read_text(file: str | os.PathLike[str]) -> str:
    with open(file, "rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB, which no vocabulary needs")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8 text: {error}") from error
