"""Laws of the transformer as a model of what comes next: windows, chance, and nothing that the tokenizer lacks."""

import pytest
import torch
import torch.nn.functional as F

from tests.doubles import toy_transformer
from tokenloom.models.encoder_decoder import nothing
from tokenloom.models.next_token import NextTokenTransformer

NUM_TOKENS = 30
TEXT = torch.randint(NUM_TOKENS, (41,), generator=torch.Generator().manual_seed(0))


def told_by(window: int = 8, *, num_tokens: int = NUM_TOKENS, room: int = NUM_TOKENS) -> NextTokenTransformer:
    model = toy_transformer(image_levels=(), text_vocab_size=room)
    return NextTokenTransformer(model, window=window, num_tokens=num_tokens)


@torch.no_grad()
def never_ends(told: NextTokenTransformer) -> None:
    told.model.embedding.weight[told.model.vocabulary.special("end")] = 0  # its logit


@torch.no_grad()
def logits_after(told: NextTokenTransformer, seen: list[int]) -> torch.Tensor:
    """Logits of the next token, the whole past in one pass."""
    model = told.model
    ids = F.pad(torch.tensor([seen], dtype=torch.long), (1, 0), value=model.vocabulary.special("begin"))
    hidden, _ = model.write(ids, nothing(model, 1).start, nothing(model, 1))
    return told.model.text_logits(hidden[0, -1], told.num_tokens)


@pytest.mark.parametrize("length", [0, 1, 4, 7, 8, 9, 12, 13, 41])
def test_each_token_is_told_from_what_its_window_holds_before_it(length):
    told = told_by(8)
    expected = []
    for place in range(length):
        first = 0 if place < 8 else (place // 4 - 1) * 4  # at least 4 tokens before, at most 7
        expected.append(logits_after(told, TEXT[first:place].tolist()).log_softmax(-1)[TEXT[place]])
    result = told.log_probabilities(TEXT[:length])
    assert result.shape == (length,) and result.dtype == torch.float64
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_a_text_costs_the_same_in_a_window_that_is_larger_than_it():
    short, long = (told_by(window).log_probabilities(TEXT[:12]) for window in (12, 64))
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-4)


def test_what_may_come_next_adds_up_to_one_with_end():
    told = told_by(num_tokens=20)
    each = [told.log_probabilities(torch.tensor([3, token]))[1].exp() for token in range(20)]
    last = logits_after(told, [3]).softmax(-1)[told.model.vocabulary.special("end")]
    assert last > 0 and float(sum(each) + last) == pytest.approx(1, abs=1e-5)


def test_each_token_that_is_written_is_the_likeliest_after_what_its_window_held():
    told = told_by(8)
    never_ends(told)
    written = TEXT[:2].tolist()
    tokens = told.continue_ids(written, torch.Generator(), 0.0)
    seen = list(written)
    for _ in range(25):
        token = next(tokens)
        assert token == int(logits_after(told, seen).argmax())
        written.append(token)
        seen.append(token)
        if len(seen) == 8:  # with BEGIN, more than the window: on from its latest half
            seen = written[-4:]


def test_a_long_prompt_counts_by_its_latest_half_window():
    told = told_by(8)
    for prompt in (TEXT[:4], TEXT[:30]):
        written = next(told.continue_ids(prompt.tolist(), torch.Generator(), 0.0))
        assert written == int(logits_after(told, prompt[-4:].tolist()).argmax())


def test_the_same_generator_writes_the_same_and_another_writes_another():
    told = told_by()
    texts = []
    for seed in (5, 5, 6):
        tokens = told.continue_ids([1, 2], torch.Generator().manual_seed(seed), 1.0)
        texts.append([token for _, token in zip(range(12), tokens, strict=False)])
    assert texts[0] == texts[1] != texts[2]


def test_end_ends_a_text():
    told = told_by()
    weight = told.model.embedding.weight
    with torch.no_grad():
        hidden, _ = told.model.write(torch.tensor([[30]]), nothing(told.model, 1).start, nothing(told.model, 1))
        weight[told.model.vocabulary.special("end")] = 100 * hidden[0, 0]
    assert list(told.continue_ids([], torch.Generator(), 0.0)) == []


def test_what_the_tokenizer_does_not_have_is_never_written():
    told = told_by(num_tokens=3)
    tokens = told.continue_ids([], torch.Generator().manual_seed(0), 50.0)
    assert {token for _, token in zip(range(200), tokens, strict=False)} <= {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "even number of at least 2 tokens, got 0"),
        ({"window": 7}, "even number of at least 2 tokens, got 7"),
        ({"num_tokens": 31}, "has 31 tokens and the transformer was built for 30"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        told_by(**options)
