"""Models that say what comes next, whatever they are inside: one Protocol, and the transformer as one of them.

L tokens of a text, W tokens of a window. Ids are those of the text tokenizer; END, one past its last, is a model's own.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoder_decoder import nothing
from .sampling import sample
from .transformer import SharedTransformer

BATCH = 32  # windows at once


class NextTokenModel(Protocol):
    """A distribution over texts, one token at a time."""

    def log_probabilities(self, ids: Tensor) -> Tensor:
        """Of each token of a text given those before it: int64 (L,) -> float64 (L,), nats, at most 0."""
        ...

    def continue_ids(self, ids: Sequence[int], generator: torch.Generator, temperature: float) -> Iterator[int]:
        """What follows `ids`, one token after the other, until END; it may never come.

        Chance comes from the CPU `generator`, one number a token; temperature 0 takes the likeliest.
        """
        ...


class NextTokenTransformer:
    """The shared transformer, decoder-only, on texts of any length: it sees at most `window` tokens at a time.

    The window moves on by half its length, so that behind the first half of a text every token is told from at least
    half a window before it.
    """

    def __init__(self, model: SharedTransformer, *, window: int, num_tokens: int):
        if window < 2 or window % 2:
            raise ValueError(f"a window must be an even number of at least 2 tokens, got {window}")
        if num_tokens > model.config.text_vocab_size:
            raise ValueError(
                f"the text tokenizer has {num_tokens} tokens and the transformer was built for "
                f"{model.config.text_vocab_size}; take the tokenizer it was trained with"
            )
        self.model = model.eval()
        self.window = window
        self.num_tokens = num_tokens  # of the tokenizer; the model may have room for more

    @torch.no_grad()
    def log_probabilities(self, ids: Tensor) -> Tensor:
        half, count = self.window // 2, len(ids)
        if not count:
            return torch.zeros(0, dtype=torch.float64)
        num_windows = max(1, -(-count // half) - 1)
        windows = F.pad(ids, (0, (num_windows + 1) * half - count)).unfold(0, self.window, half)  # (num_windows, W)
        told = torch.cat([self._told(part) for part in windows.split(BATCH)])
        return torch.cat([told[0], told[1:, half:].flatten()])[:count]

    def _told(self, windows: Tensor) -> Tensor:
        """Windows int64 (B, W) -> log-probabilities of their tokens, float64 (B, W) on the CPU."""
        windows = windows.to(self.model.embedding.weight.device)
        before = nothing(self.model, len(windows))
        read = F.pad(windows[:, :-1], (1, 0), value=self.model.vocabulary.special("begin"))
        hidden, _ = self.model.write(read, before.start, before)
        log_p = self.model.text_logits(hidden, self.num_tokens).log_softmax(-1)
        return log_p.gather(2, windows.unsqueeze(2)).squeeze(2).cpu().double()

    @torch.no_grad()
    def continue_ids(self, ids: Sequence[int], generator: torch.Generator, temperature: float) -> Iterator[int]:
        begin, end = self.model.vocabulary.special("begin"), self.model.vocabulary.special("end")
        kept = deque(ids, maxlen=self.window // 2)
        while True:  # each time from half a window of what was written last
            seen, new = nothing(self.model, 1), [begin, *kept]
            position = seen.start
            while int(position) + len(new) <= self.window:
                hidden, seen = self.model.write(torch.tensor([new], device=position.device), position, seen)
                position = position + len(new)
                uniform = torch.rand((), generator=generator).to(position.device)
                token = int(
                    sample(self.model.text_logits(hidden[0, -1], self.num_tokens), uniform, temperature=temperature)
                )
                if token == end:
                    return
                yield token
                kept.append(token)
                new = [token]
