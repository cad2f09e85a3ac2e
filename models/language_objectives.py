"""What is learned from text alone: to continue it, to fill gaps in it, or to turn one text into another.

B texts, L tokens. One loss for each use of the trunk that encoder_decoder.py shows, all by cross-entropy in nats per
token through the head that is the embedding (`SharedTransformer.text_head`). Ids of text are the same in the tokenizer
and in the vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokenizers.sequence import following
from .corruption import mask_ids
from .encoder_decoder import encode, nothing
from .head_loss import head_loss
from .transformer import Role, SharedTransformer

MASKED_SHARE = 0.15  # of the tokens of a text (BERT, arXiv:1810.04805)


def next_token_loss(model: SharedTransformer, ids: Tensor) -> Tensor:
    """Decoder-only: every token of windows int64 (B, L) from those before it; BEGIN is put before the first."""
    before = nothing(model, len(ids))
    read = F.pad(ids[:, :-1], (1, 0), value=model.vocabulary.special("begin"))
    hidden, _ = model.write(read, before.start, before)
    return head_loss(hidden.flatten(0, 1), model.text_head(), ids.flatten())


def masked_token_loss(
    model: SharedTransformer, ids: Tensor, generator: torch.Generator, *, masked_share: float = MASKED_SHARE
) -> Tensor:
    """Encoder-only: the tokens of windows int64 (B, L) that are masked, from all others on both sides.

    A share of each window is masked, drawn from the CPU `generator`, and at least one token.
    """
    vocabulary = model.vocabulary
    shares, order = torch.full((len(ids),), masked_share), torch.rand(ids.shape, generator=generator)
    shown, hidden_from_view = mask_ids(ids, shares.to(ids.device), order.to(ids.device), vocabulary.special("mask"))
    read = F.pad(shown, (1, 0), value=vocabulary.special("begin"))
    hidden, _ = encode(model, read, torch.ones_like(read, dtype=torch.bool), Role.MASKED)
    return head_loss(hidden[:, 1:][hidden_from_view], model.text_head(), ids[hidden_from_view])


def translation_loss(
    model: SharedTransformer, sources: Tensor, sources_real: Tensor, targets: Tensor, targets_real: Tensor
) -> Tensor:
    """Encoder-decoder: every token of a target and the END after it, from the whole source and the tokens before.

    Sources int64 (B, S) and targets (B, L) begin with BEGIN and are padded on the right, where `real` is false, as
    `prompt_batch` makes them.
    """
    _, read = encode(model, sources, sources_real)
    learned = following(targets, targets_real, model.vocabulary)
    hidden, _ = model.write(targets, read.start, read)
    return head_loss(hidden[targets_real], model.text_head(), learned[targets_real])
