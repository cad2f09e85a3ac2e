"""Laws of text alone: who sees whom as a decoder, as an encoder, and as both; what was read serves what is written."""

import torch

from tests.doubles import toy_transformer
from tokenloom.models.encoder_decoder import encode, nothing
from tokenloom.models.transformer import Role

TEXT = torch.tensor([[300, 5, 6, 7, 8, 9], [300, 9, 9, 5, 1, 0]])  # 300: BEGIN
EXACT = {"rtol": 1e-4, "atol": 1e-4}


def text_model(**changes):
    model = toy_transformer(image_levels=(), **changes)
    assert model.vocabulary.special("begin") == TEXT[0, 0]
    return model


def all_real(ids: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(ids, dtype=torch.bool)


def changed(ids: torch.Tensor, place: int) -> torch.Tensor:
    other = ids.clone()
    other[:, place] = (other[:, place] + 1) % 300
    return other


@torch.no_grad()
def test_as_a_decoder_a_token_sees_what_came_before_and_all_of_it():
    model = text_model()
    before = nothing(model, 2)
    hidden, _ = model.write(TEXT, before.start, before)
    for place in range(TEXT.shape[1]):
        other, _ = model.write(changed(TEXT, place), before.start, before)
        assert torch.equal(other[:, :place], hidden[:, :place])
        assert (other[:, place:] != hidden[:, place:]).any(-1).all()


@torch.no_grad()
def test_token_by_token_after_nothing_gives_what_the_whole_text_gives():
    model = text_model()
    seen = nothing(model, 2)
    whole, _ = model.write(TEXT, seen.start, seen)
    for place, token in enumerate(TEXT.unbind(1)):
        hidden, seen = model.write(token[:, None], seen.start + place, seen)
        torch.testing.assert_close(hidden[:, 0], whole[:, place], **EXACT)


@torch.no_grad()
def test_as_an_encoder_every_token_sees_every_other():
    model = text_model()
    hidden, _ = encode(model, TEXT, all_real(TEXT), Role.MASKED)
    for place in range(TEXT.shape[1]):
        other, _ = encode(model, changed(TEXT, place), all_real(TEXT), Role.MASKED)
        assert (other != hidden).any(-1).all()


@torch.no_grad()
def test_what_is_written_sees_all_that_was_read_and_nothing_that_comes_later():
    model = text_model()
    _, read = encode(model, TEXT, all_real(TEXT))
    answer = TEXT.flip(1)
    hidden, _ = model.write(answer, read.start, read)
    for place in range(TEXT.shape[1]):
        _, other = encode(model, changed(TEXT, place), all_real(TEXT))
        assert (model.write(answer, other.start, other)[0] != hidden).any(-1).all()
        later, _ = model.write(changed(answer, place), read.start, read)
        assert torch.equal(later[:, :place], hidden[:, :place])


@torch.no_grad()
def test_padding_is_seen_by_nobody_and_moves_nothing():
    model = text_model()
    real = all_real(TEXT)
    real[0, 4:] = False
    _, read = encode(model, TEXT, real)
    alone_hidden, alone = encode(model, TEXT[:1, :4], all_real(TEXT[:1, :4]))
    hidden, _ = encode(model, TEXT, real)
    torch.testing.assert_close(hidden[:1, :4], alone_hidden, **EXACT)
    answer = TEXT.flip(1)
    written, _ = model.write(answer, read.start, read)
    expected, _ = model.write(answer[:1], alone.start, alone)
    torch.testing.assert_close(written[:1], expected, **EXACT)


@torch.no_grad()
def test_a_model_that_draws_pictures_reads_and_writes_text_alone_too():
    model = toy_transformer()
    _, read = encode(model, TEXT, all_real(TEXT))
    hidden, _ = model.write(TEXT, read.start, read)
    assert hidden.shape == (*TEXT.shape, model.config.width)
