"""Byte-level BPE text tokens: lossless on any bytes (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2).

The work is done by Hugging Face's `tokenizers` (text_backend.py), for whole corpora by gigatoken (text_corpus.py).
On disk a tokenizer is its tokenizer.json, which `transformers.PreTrainedTokenizerFast(tokenizer_file=...)` opens
with the same ids.

Text from users cannot forge special tokens: "<|end|>" typed in a prompt is plain text unless `allow_special` is set.
transformers does the opposite, unless it is called with `split_special_tokens=True`.
"""

import json
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Tokenizer

from ..data.files import write_atomically
from . import text_backend
from .text_backend import byte_alphabet

if TYPE_CHECKING:
    from .text_corpus import CorpusEncoder, CorpusIds

FORMAT_VERSION = 1
FILE_NAME = "tokenizer.json"
MAX_VOCAB_SIZE = 1 << 22  # tables are allocated by the largest id; the largest published ones are about 2**20
PIECE = 1 << 18  # characters that are encoded at once, where a text can be cut
WORD_END = re.compile(r"(?<=\S)[ \n]")


class TextTokenizer:
    """Text or bytes <-> lists of ints in [0, vocab_size).

    `train` and `from_vocab_and_merges` make byte-level tokenizers, which lose nothing unless they normalize.
    `from_pretrained` opens any tokenizer.json: one that is not byte-level encodes and decodes as it was published,
    and the methods on bytes refuse. Tokens that a file would add by template (a leading BOS) are left to the caller.
    """

    def __init__(self, backend: Tokenizer):
        backend.encode_special_tokens = True  # as text; files do not hold this flag
        self._backend = backend
        self._ids = backend.get_vocab(with_added_tokens=True)
        if not self._ids or len(set(self._ids.values())) < len(self._ids) or self.vocab_size > MAX_VOCAB_SIZE:
            raise ValueError(f"a vocabulary must have tokens, each with its own id below {MAX_VOCAB_SIZE}")

    def __reduce__(self):
        return type(self), (self._backend,)  # the copy in a worker process sets the flag again

    # ---- made, loaded, saved ----

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        normalization: Literal["NFC", "NFKC"] | None = None,
        lowercase: bool = False,
        min_frequency: int = 2,
    ) -> "TextTokenizer":
        """Learn merges, always the same ones from the same texts in any order. Special tokens get the last ids.

        Training ends at `vocab_size`, or when no other pair occurs `min_frequency` times. The vocabulary is then
        smaller than asked: the result's `vocab_size` is the real one, and a line in the log gives both.

        Raises:
            ValueError: no room for 256 bytes and the special tokens, or plain text can produce a special token.
        """
        return cls(
            text_backend.train(
                _checked(texts), vocab_size, special_tokens, normalization, lowercase, min_frequency=min_frequency
            )
        )

    @classmethod
    def from_vocab_and_merges(
        cls, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], special_tokens: Sequence[str] = ()
    ) -> "TextTokenizer":
        """From a published vocabulary (tokens in letters of the byte alphabet) and its merges, best first."""
        return cls(text_backend.from_vocab_and_merges(vocab, merges, special_tokens))

    @classmethod
    def from_gpt2_files(
        cls,
        vocab_file: str | os.PathLike[str],
        merges_file: str | os.PathLike[str],
        special_tokens: Sequence[str] = ("<|endoftext|>",),
    ) -> "TextTokenizer":
        """From encoder.json (or vocab.json) and vocab.bpe (or merges.txt), as GPT-2 was published."""
        vocab, merges = text_backend.read_gpt2_files(Path(vocab_file), Path(merges_file))
        return cls.from_vocab_and_merges(vocab, merges, special_tokens)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> "TextTokenizer":
        """Open a tokenizer.json, or the folder that holds one."""
        return cls(text_backend.read_tokenizer_json(Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json into `folder`, whole or not at all."""
        write_atomically(Path(folder) / FILE_NAME, self._backend.to_str().encode())

    # ---- text and bytes to ids, and back ----

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of `text`; with `allow_special`, special tokens written in it become their own ids."""
        backend = self._backend_with_special if allow_special else self._backend
        return backend.encode(check_text(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of every text, on all cores (with TOKENIZERS_PARALLELISM=false, on one)."""
        encodings = self._backend.encode_batch_fast(list(_checked(texts)), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_corpus(self, texts: Iterable[str]) -> "CorpusIds":
        """The ids of `encode_batch`, many times faster, as one flat array. Needs `pip install tokenloom[corpus]`."""
        return self._corpus_encoder(list(_checked(texts)))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes: those of `encode` where they are valid UTF-8, and one id for each byte that is not."""
        self._require_byte_level()
        letters = byte_alphabet()
        ids: list[int] = []
        # surrogateescape turns exactly the invalid bytes into U+DC80..U+DCFF, which valid UTF-8 cannot hold.
        for valid, invalid in re.findall("([^\udc80-\udcff]+)|(.)", data.decode("utf-8", "surrogateescape")):
            if invalid:
                ids.append(self._ids[letters[ord(invalid) - 0xDC00]])
            else:
                ids += (token_id for piece in self._pieces(valid) for token_id in self.encode(piece))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens included; bytes that are not UTF-8 (half a character) become U+FFFD."""
        if self.is_byte_level:
            return self.decode_bytes(ids).decode("utf-8", "replace")
        return self._backend.decode(self._check_ids(ids), skip_special_tokens=False)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of ids: exactly what `encode_bytes` was given, unless the tokenizer normalizes."""
        self._require_byte_level()
        return b"".join([self._tokens[token_id] for token_id in self._check_ids(ids)])

    # ---- vocabulary ----

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._ids.values()) + 1

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids, in the order of the ids."""
        added = sorted(self._backend.get_added_tokens_decoder().items())
        return {token.content: token_id for token_id, token in added if token.special}

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether tokens are strings of bytes and every byte is a token, so that no text is unknown."""
        return text_backend.is_byte_level(self._backend)

    def id_to_token(self, token_id: int) -> bytes:
        """Bytes of one token; a special token gives its name in UTF-8."""
        return self._tokens[self._check_ids([token_id])[0]]

    def token_to_id(self, token: str | bytes) -> int:
        """Id of the token that is exactly this text or these bytes; of a special token, by its name."""
        data = token.encode() if isinstance(token, str) else token
        if data not in self._ids_by_bytes:
            raise ValueError(f"{token!r} is not one of the {len(self._ids)} tokens; encode takes any text")
        return self._ids_by_bytes[data]

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over all that decides the ids and how they are read, equal after saving and loading."""
        from .protocol import fingerprint_of  # imports torch, which text does not need otherwise

        config = json.loads(self._backend.to_str())
        deciding = ("added_tokens", "normalizer", "pre_tokenizer", "decoder", "model")
        return fingerprint_of("TextTokenizer", FORMAT_VERSION, _without_nulls({k: config[k] for k in deciding}), {})

    def __repr__(self) -> str:
        return f"TextTokenizer(vocab_size={self.vocab_size}, special_tokens={list(self.special_tokens)})"

    # ---- inside ----

    def _pieces(self, text: str) -> Iterator[str]:
        """The text in pieces of the same ids: the library takes 300 bytes for each byte of a text."""
        start = 0
        while self._cuts_before_spaces and len(text) - start > PIECE:
            end = WORD_END.search(text, start + PIECE)
            if end is None:
                break
            yield text[start : end.start()]
            start = end.start()
        yield text[start:]

    @cached_property
    def _cuts_before_spaces(self) -> bool:
        return text_backend.cuts_before_spaces(self._backend)

    @cached_property
    def _backend_with_special(self) -> Tokenizer:
        return Tokenizer.from_str(self._backend.to_str())  # without the flag of __init__

    @cached_property
    def _corpus_encoder(self) -> "CorpusEncoder":
        from .text_corpus import CorpusEncoder  # imports an optional extra

        return CorpusEncoder(self._backend)

    @cached_property
    def _tokens(self) -> dict[int, bytes]:
        """Bytes of every id."""
        byte_of = {letter: byte for byte, letter in enumerate(byte_alphabet())}
        names = self._backend.get_added_tokens_decoder()  # these are spelled in plain text
        return {
            token_id: bytes(map(byte_of.__getitem__, token))
            if self.is_byte_level and token_id not in names and byte_of.keys() >= set(token)
            else token.encode()
            for token, token_id in self._ids.items()
        }

    @cached_property
    def _ids_by_bytes(self) -> dict[bytes, int]:
        return {token: token_id for token_id, token in sorted(self._tokens.items())}

    def _check_ids(self, ids: Iterable[int]) -> list[int]:
        checked = [operator.index(token_id) for token_id in ids]
        for token_id in checked:
            if token_id not in self._tokens:
                raise ValueError(f"ids must be tokens in [0, {self.vocab_size}), got {token_id}")
        return checked

    def _require_byte_level(self) -> None:
        if not self.is_byte_level:
            raise ValueError("this tokenizer is not byte-level, so it cannot hold any bytes: use encode and decode")


def _checked(texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of strings, got one str: put it into a list")
    return map(check_text, texts)


def check_text(text: str) -> str:
    """The text itself.

    Raises:
        TypeError, ValueError: it is no str, or no Unicode.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}; encode_bytes takes bytes")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text must be valid Unicode, got half a surrogate pair at {error.start}") from error
    return text


def _without_nulls(value: Any) -> Any:
    # A later version of the library may write more unset options as null: fingerprints must not depend on it.
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
