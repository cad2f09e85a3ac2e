"""Of several drawings of one prompt, the one about which the model itself would most likely write that prompt.

A model that also writes knows P(prompt | drawing), and is better at telling what it sees than at drawing it. To draw
some and keep the likeliest is what DALL-E does with a second model (arXiv:2102.12092, 2.6); here one does both.
B prompts, K drawings of each, T frames, h w codes of a frame; a picture has one frame.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.likeliest import log_probabilities
from ..models.transformer import SharedTransformer
from ..tokenizers.text import TextTokenizer
from .clip_order import seen_frames
from .seen_media import begun_frames

AT_ONCE = 32  # drawings that are looked at together


def candidates(generators: Sequence[torch.Generator], count: int) -> list[torch.Generator]:
    """`count` generators seeded from each of those given; for 1, those given themselves."""
    if count == 1:
        return list(generators)
    seeds = [torch.randint(1 << 62, (count,), generator=generator).tolist() for generator in generators]
    return [torch.Generator().manual_seed(seed) for row in seeds for seed in row]


@torch.no_grad()
def likelihoods(
    model: SharedTransformer, text_tokenizer: TextTokenizer, ids: Tensor, tokens: Sequence[list[int]]
) -> Tensor:
    """Codes int64 (N, T, h, w) of drawings -> log P(prompt | drawing) (N,), in nats; `tokens` are of N prompts."""
    numbers = torch.tensor(seen_frames(ids.shape[1]), device=ids.device)
    scores = []
    for start in range(0, len(ids), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        frames = begun_frames(model.vocabulary, ids[part][:, numbers])
        seen, position = model.see(frames, numbers.repeat(len(frames), 1))
        scores.append(log_probabilities(model, seen, position, tokens[part], num_tokens=text_tokenizer.vocab_size))
    return torch.cat(scores)


@torch.no_grad()
def best_of(
    model: SharedTransformer, text_tokenizer: TextTokenizer, ids: Tensor, tokens: Sequence[list[int]], count: int
) -> Tensor:
    """Codes int64 (B K, T, h, w), `count` drawings of each prompt in turn -> those of the best of each, (B, T, h, w).

    `tokens` are those of the B prompts. Of drawings that are equally good the first is taken.
    """
    asked = [text for text in tokens for _ in range(count)]
    chosen = likelihoods(model, text_tokenizer, ids, asked).view(-1, count).argmax(1)
    return ids[torch.arange(len(tokens), device=ids.device) * count + chosen]
