"""A language model as its user sees it: text in, bits per byte or more text out, whatever it is inside.

Characters, pieces of words, n-grams, transformers: a text tokenizer and a model of what comes next. Bits per byte
compare them all, because a byte is the same for everybody and a token is not.
"""

import math
from codecs import getincrementaldecoder

import torch

from ..models.next_token import NextTokenModel
from ..tokenizers.text import TextTokenizer


class LanguageModel:
    def __init__(self, tokenizer: TextTokenizer, model: NextTokenModel):
        self.tokenizer = tokenizer
        self.model = model

    def bits(self, text: str) -> list[float]:
        """What each token of a text costs: -log2 of its probability given those before it."""
        ids = torch.tensor(self.tokenizer.encode(text), dtype=torch.long)
        return (-self.model.log_probabilities(ids) / math.log(2)).tolist()

    def bits_per_byte(self, *texts: str) -> float:
        """Bits that the texts cost, over their bytes in UTF-8: what an arithmetic coder would need, 8 for chance.

        A tokenizer spells a text in one of many ways, so what it gives is a bound from above.

        Raises:
            ValueError: the texts are empty, or the tokenizer changes them.
        """
        num_bytes = sum(len(text.encode()) for text in texts)
        if not num_bytes:
            raise ValueError("bits per byte need a text, got an empty one; give some")
        for text in texts:
            if self.tokenizer.decode(self.tokenizer.encode(text)) != text:
                raise ValueError("bits per byte need a tokenizer that loses nothing, got one that changes the text")
        return sum(sum(self.bits(text)) for text in texts) / num_bytes

    def continue_text(self, prompt: str, generator: torch.Generator, length: int, temperature: float = 1.0) -> str:
        """What follows a prompt, without it: at most `length` bytes, fewer where the model ends the text.

        Chance comes from the CPU `generator`; temperature 0 takes the likeliest token. Bytes that are no UTF-8 are
        shown as U+FFFD, and a last letter that was cut in two is left out.

        Raises:
            ValueError: the length is negative, or the temperature is not a number of at least 0.
        """
        if length < 0 or not 0 <= temperature < math.inf:
            raise ValueError(f"length and temperature must be at least 0, got {length} bytes and {temperature:g}")
        written = bytearray()
        tokens = self.model.continue_ids(self.tokenizer.encode(prompt), generator, temperature)
        while len(written) < length and (token := next(tokens, None)) is not None:
            written += self.tokenizer.decode_bytes([token])
        return getincrementaldecoder("utf-8")("replace").decode(written[:length])  # keeps half a letter to itself
