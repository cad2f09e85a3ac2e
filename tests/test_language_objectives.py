"""What is learned from text: each loss is the cross-entropy that it says, and a tiny model overfits one batch of it."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.doubles import toy_transformer
from tokenloom.models import encoder_decoder
from tokenloom.models.encoder_decoder import encode, nothing
from tokenloom.models.language_objectives import masked_token_loss, next_token_loss, translation_loss
from tokenloom.models.optimizers import muon_and_adamw
from tokenloom.models.transformer import Role
from tokenloom.models.writing import write
from tokenloom.tokenizers.sequence import prompt_batch

TEXTS = torch.randint(30, (6, 12), generator=torch.Generator().manual_seed(0))


def text_model(*, alive: bool = True):
    return toy_transformer(image_levels=(), text_vocab_size=30, alive=alive)


def learn(model, loss, steps: int) -> None:
    optimizers = muon_and_adamw(model.blocks, model.train(), muon_lr=0.02, adamw_lr=0.02)
    for step in range(steps):
        loss(step).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def test_next_token_loss_is_the_mean_over_all_tokens_each_from_those_before():
    model = text_model()
    losses = []
    for length in range(TEXTS.shape[1]):  # one prefix after the other: no mask at work
        prefix = F.pad(TEXTS[:, :length], (1, 0), value=model.vocabulary.special("begin"))
        hidden, _ = model.write(prefix, nothing(model, 6).start, nothing(model, 6))
        losses.append(F.cross_entropy(hidden[:, -1] @ model.text_head().T, TEXTS[:, length]))
    torch.testing.assert_close(next_token_loss(model, TEXTS), torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@torch.no_grad()
def test_masked_token_loss_asks_for_what_is_masked_and_for_nothing_else(share, monkeypatch):
    model = text_model()
    read = []
    embedding = model.embedding.forward
    monkeypatch.setattr(model.embedding, "forward", lambda ids: read.append(ids) or embedding(ids))
    loss = masked_token_loss(model, TEXTS, torch.Generator().manual_seed(1), masked_share=share)
    masked = read[0][:, 1:] == model.vocabulary.special("mask")
    assert masked.sum(1).tolist() == [max(1, round(share * 12))] * 6
    assert torch.equal(read[0][:, 1:][~masked], TEXTS[~masked])
    hidden, _ = encode(model, read[0], torch.ones_like(read[0], dtype=torch.bool), Role.MASKED)
    expected = F.cross_entropy((hidden[:, 1:] @ model.text_head().T)[masked], TEXTS[masked])
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_the_same_generator_masks_the_same():
    model = text_model()
    losses = [masked_token_loss(model, TEXTS, torch.Generator().manual_seed(seed)).item() for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


@torch.no_grad()
def test_translation_loss_is_the_mean_over_real_tokens_and_each_end():
    model = text_model()
    sources, targets = [[1, 2, 3], [4]], [[5], [6, 7, 8]]
    batch = (*prompt_batch(sources, model.vocabulary), *prompt_batch(targets, model.vocabulary))
    total, count, end = 0.0, 0, model.vocabulary.special("end")
    for source, target in zip(sources, targets, strict=True):  # alone: no padding at work
        _, read = encode(model, *prompt_batch([source], model.vocabulary))
        ids, _ = prompt_batch([target], model.vocabulary)
        hidden, _ = model.write(ids, read.start, read)
        total += float(F.cross_entropy(hidden[0] @ model.text_head().T, torch.tensor([*target, end]), reduction="sum"))
        count += len(target) + 1
    assert float(translation_loss(model, *batch)) == pytest.approx(total / count, rel=1e-4)


# ------------------------------------------------------------------------------------------ a tiny model learns each


def test_a_tiny_decoder_learns_to_continue():
    model = text_model(alive=False)
    learn(model, lambda step: next_token_loss(model, TEXTS), 120)
    begin = model.vocabulary.special("begin")
    given = F.pad(TEXTS[:, :2], (1, 0), value=begin)
    _, seen = model.write(given[:, :2], nothing(model, 6).start, nothing(model, 6))
    written = []
    token = given[:, 2:]
    for place in range(2, 12):
        hidden, seen = model.write(token, seen.start + place, seen)
        token = (hidden[:, -1:] @ model.text_head().T).argmax(-1)
        written.append(token)
    assert torch.equal(torch.cat(written, dim=1), TEXTS[:, 2:])


def test_a_tiny_encoder_learns_to_fill_gaps():
    model = text_model(alive=False)
    learn(model, lambda step: masked_token_loss(model, TEXTS, torch.Generator().manual_seed(step)), 400)
    for place in range(TEXTS.shape[1]):
        gap = TEXTS.clone()
        gap[:, place] = model.vocabulary.special("mask")
        read = F.pad(gap, (1, 0), value=model.vocabulary.special("begin"))
        hidden, _ = encode(model, read, torch.ones_like(read, dtype=torch.bool), Role.MASKED)
        filled = (hidden[:, 1 + place] @ model.text_head().T).argmax(-1)
        assert torch.equal(filled, TEXTS[:, place])


def test_a_tiny_encoder_decoder_learns_to_reverse():
    model = text_model(alive=False)
    sources = [row[: 4 + number].tolist() for number, row in enumerate(TEXTS)]
    targets = [source[::-1] for source in sources]
    batch = (*prompt_batch(sources, model.vocabulary), *prompt_batch(targets, model.vocabulary))
    learn(model, lambda step: translation_loss(model, *batch), 150)
    _, read = encode(model, *batch[:2])
    assert write(model, read, read.start, torch.zeros(6, 12), num_tokens=30) == targets


def test_the_examples_of_the_three_uses_say_what_they_print():
    text = (Path(encoder_decoder.__file__).parent / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4  # what they share, and one each
    names: dict = {}
    for block in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed, torch.random.fork_rng(devices=[]):
            exec(block, names)  # noqa: S102
        assert printed.getvalue().splitlines() == re.findall(r"^# (.*)$", block, flags=re.MULTILINE)
