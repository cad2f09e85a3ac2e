"""Whole corpora to ids by gigatoken, an optional extra: many times faster than `tokenizers`, the same ids.

gigatoken gets the merges and the split pattern only. It knows fewer normalizers and finds special tokens in plain
text, so texts are normalized before by `tokenizers` itself and the special tokens are kept from it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .text_backend import is_byte_level

# What BPE implementations disagree on: contractions, runs of spaces, scripts, marks, odd numbers, special tokens.
PROBES = (
    "I'll've DON'T can't\r\n\r\n  x   \t y  \u3000\u00a0z 12345 ٣٤ Ⅷ² 3.14e-5 __init__(self):\n        return -1\n",
    "Ünïcödé e\u0301 ﬁ İı ß Привет мир 中文字符 日本語テキスト ภาษาไทย हिन्दी עברית العربية",
    "👩‍👩‍👧‍👦 🏳️‍🌈\ufeff\u200b\u2028",
    "",
    " ",
    "\x00\x7f\x85\U0010ffff<|endoftext|> <s> [MASK]",
)


@dataclass(frozen=True)
class CorpusIds:
    """Ids of N texts, end to end: those of text i are ids[offsets[i]:offsets[i + 1]], which is also self[i]."""

    ids: NDArray[np.uint32]  # (L,)
    offsets: NDArray[np.int64]  # (N + 1,), from 0 to L

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint32]:
        index = range(len(self))[index]  # negative ones count from the end, others raise
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.uint32]]:
        return map(self.__getitem__, range(len(self)))


class CorpusEncoder:
    """The fast twin of one `tokenizers.Tokenizer` whose special tokens are plain text."""

    def __init__(self, backend: Tokenizer):
        """
        Raises:
            ValueError: gigatoken is not installed, or cannot give the ids of this tokenizer (`encode_batch` does).
        """
        try:
            import gigatoken
        except ModuleNotFoundError as error:
            raise ValueError("encode_corpus needs gigatoken: pip install tokenloom[corpus]") from error
        config = json.loads(backend.to_str())
        if not is_byte_level(backend) or not all(token["special"] for token in config["added_tokens"]):
            raise ValueError("encode_corpus needs byte-level BPE without added words: use encode_batch")
        self._normalizer = backend.normalizer
        try:
            self._encoder = gigatoken.Tokenizer.from_json(
                json.dumps(config | {"added_tokens": [], "normalizer": None, "post_processor": None})
            )
        except Exception as error:  # the library has no narrower class
            reason = str(error).partition("\n")[0]
            raise ValueError(f"gigatoken does not read this tokenizer: use encode_batch ({reason})") from error
        expected = [encoding.ids for encoding in backend.encode_batch_fast(list(PROBES), add_special_tokens=False)]
        if [ids.tolist() for ids in self(PROBES)] != expected:
            raise ValueError("gigatoken reads this tokenizer differently: use encode_batch")

    def __call__(self, texts: Sequence[str]) -> CorpusIds:
        """Ids of every text, on all cores."""
        if self._normalizer is not None:
            texts = [self._normalizer.normalize_str(text) for text in texts]
        layout = self._encoder.encode_batch(list(texts)).layout
        return CorpusIds(np.asarray(layout.content.data), np.asarray(layout.offsets.data))
