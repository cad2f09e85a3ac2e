"""How likely texts are about what a model sees; and which of many are the likeliest, exactly, without reading all.

No text is likelier than its beginning. So the likeliest beginnings are read on until whole texts come before every
beginning that is left (best-first search; texts that begin alike share their beginning). L tokens, V vocabulary.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from .attention import KVCache
from .transformer import SharedTransformer

AT_ONCE = 16  # beginnings that are read on together

Tokens = tuple[int, ...]


@torch.no_grad()
def likeliest(
    model: SharedTransformer,
    seen: KVCache,
    start: Tensor,
    texts: Sequence[Sequence[int]],
    count: int,
    *,
    num_tokens: int,
) -> list[tuple[int, float]]:
    """Numbers of the `count` likeliest of `texts`, ids of the text tokenizer, and log P of each with END, best first.

    `seen` and `start` (1,) are those of one picture or clip, as `write` takes them, and so is `num_tokens`.

    Raises:
        ValueError: `seen` is not of one picture, a text is empty or there twice, or there are none.
    """
    if len(start) != 1:
        raise ValueError(f"one picture or clip is looked at, got {len(start)}; pass them one after the other")
    end = model.vocabulary.special("end")
    numbers = {(*text, end): number for number, text in enumerate(texts)}
    if not texts or len(numbers) < len(texts) or not all(texts):
        raise ValueError(f"{len(texts)} texts must each hold tokens and be there once; leave out what is there twice")
    follows: dict[Tokens, set[int]] = defaultdict(set)
    for text in numbers:
        for place, token in enumerate(text):
            follows[text[:place]].add(token)

    found: list[tuple[int, float]] = []
    heap: list[tuple[float, Tokens]] = [(0.0, ())]  # -log P of a beginning, or of a whole text
    while heap and len(found) < count:
        if heap[0][1] in numbers:
            cost, text = heapq.heappop(heap)
            found.append((numbers[text], -cost))
            continue
        open_now = [item for item in heapq.nsmallest(AT_ONCE, heap) if item[1] not in numbers]
        heap = [item for item in heap if item not in open_now]
        heapq.heapify(heap)
        nexts = _next_log_probabilities(model, seen, start, [text for _, text in open_now], num_tokens)
        for (cost, text), row in zip(open_now, nexts, strict=True):
            for token in follows[text]:
                heapq.heappush(heap, (cost - float(row[token]), (*text, token)))
    return found


def _next_log_probabilities(
    model: SharedTransformer, seen: KVCache, start: Tensor, beginnings: Sequence[Tokens], num_tokens: int
) -> Tensor:
    """Log-probabilities of what follows each beginning: (len(beginnings), V), on the CPU."""
    begin, rows = model.vocabulary.special("begin"), len(beginnings)
    longest = max(map(len, beginnings))
    ids = torch.full((rows, 1 + longest), begin)  # what stands behind a beginning is not seen from within it
    for row, text in enumerate(beginnings):
        ids[row, 1 : 1 + len(text)] = torch.tensor(text, dtype=torch.long)
    hidden, _ = model.write(ids.to(start.device), start.repeat(rows), seen.repeat(rows))
    last = hidden[torch.arange(rows), torch.tensor([len(text) for text in beginnings])]
    return model.text_logits(last, num_tokens).log_softmax(-1).cpu()


@torch.no_grad()
def log_probabilities(
    model: SharedTransformer, seen: KVCache, start: Tensor, texts: Sequence[Sequence[int]], *, num_tokens: int
) -> Tensor:
    """log P that just `texts[b]` and END is written about what is seen of b: (B,), in nats.

    Texts are ids of the text tokenizer; the rest is as in `likeliest`, for B pictures or clips.
    """
    begin, end = model.vocabulary.special("begin"), model.vocabulary.special("end")
    longest = max(map(len, texts))
    ids = torch.full((len(texts), 1 + longest), begin)  # what stands behind a text is not seen from within it
    targets, real = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, 1 : 1 + len(text)] = torch.tensor(text, dtype=torch.long)
        targets[row, : 1 + len(text)] = torch.tensor([*text, end])
        real[row, : 1 + len(text)] = True
    hidden, _ = model.write(ids.to(start.device), start, seen)
    said = (
        model.text_logits(hidden, num_tokens)
        .log_softmax(-1)
        .gather(-1, targets.to(start.device).unsqueeze(-1))
        .squeeze(-1)
    )
    return said.masked_fill(~real.to(start.device), 0).sum(1)
