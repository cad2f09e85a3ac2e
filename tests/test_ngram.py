"""Laws of n-grams: they are the formula of the paper, counted another way; what may follow a history adds up to 1."""

import math
from collections import Counter
from functools import lru_cache

import pytest
import torch

from tokenloom.models.ngram import NGramModel

NUM_TOKENS = 5
END, BEGIN = NUM_TOKENS, NUM_TOKENS + 1


def some_texts(seed: int = 0) -> list[list[int]]:
    """Texts in which some tokens are frequent, so that every kind of count occurs."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.tensor([16.0, 8, 4, 2, 1])
    drawn = torch.multinomial(weights, 206, replacement=True, generator=generator)
    return [text.tolist() for text in drawn.split([60, 1, 25, 0, 80, 40])]


def model_of(texts: list[list[int]], order: int) -> NGramModel:
    return NGramModel([torch.tensor(text, dtype=torch.long) for text in texts], order=order, num_tokens=NUM_TOKENS)


def from_the_paper(texts: list[list[int]], order: int):
    """Chen and Goodman 1998, sec. 3, with tuples and dictionaries: P(w | h) for a history of up to n - 1 tokens."""
    counts = {order: Counter[tuple[int, ...]]()}
    for text in texts:
        padded = [BEGIN] * (order - 1) + text + [END]
        counts[order].update(tuple(padded[i : i + order]) for i in range(len(text) + 1))
    for n in range(order - 1, 0, -1):  # continuation counts: how many different tokens stood before
        counts[n] = Counter(gram[1:] for gram in counts[n + 1])

    def discount(n: int, count: int) -> float:
        n1, n2, n3, n4 = (sum(c == k for c in counts[n].values()) for k in (1, 2, 3, 4))
        y = n1 / max(1, n1 + 2 * n2)
        of, more = {1: (n1, n2), 2: (n2, n3), 3: (n3, n4)}[k := min(count, 3)]
        return min(max(k - (k + 1) * y * more / max(1, of), 0.1), k - 0.1)

    @lru_cache(None)
    def p(history: tuple[int, ...], token: int) -> float:
        n = len(history) + 1
        shorter = p(history[1:], token) if n > 1 else 1 / (NUM_TOKENS + 1)
        after = {gram[-1]: count for gram, count in counts[n].items() if gram[:-1] == history}
        if not after:
            return shorter
        taken = sum(discount(n, count) for count in after.values())
        rest = after[token] - discount(n, after[token]) if token in after else 0.0
        return (rest + taken * shorter) / sum(after.values())

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_is_the_formula_of_the_paper(order):
    texts = some_texts()
    p = from_the_paper(texts, order)
    model = model_of(texts, order)
    for text in (some_texts(1)[0], some_texts()[2], [4, 4, 4, 4, 4], []):
        padded = [BEGIN] * (order - 1) + text
        expected = [math.log(p(tuple(padded[i : i + order - 1]), token)) for i, token in enumerate(text)]
        told = model.log_probabilities(torch.tensor(text, dtype=torch.long))
        torch.testing.assert_close(told, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", [1, 3, 6])
def test_what_may_come_next_adds_up_to_one_after_any_history(order):
    model = model_of(some_texts(), order)
    for history in ([], [0, 1], [4, 4, 4, 4, 4, 4, 4], some_texts(2)[0]):
        each = [model.log_probabilities(torch.tensor([*history, token]))[-1].exp() for token in range(NUM_TOKENS)]
        (last,) = model._probabilities(model._keys(torch.tensor(history, dtype=torch.long), order)[-1:])  # END
        assert min(each) > 0 and last > 0
        assert float(sum(each) + last) == pytest.approx(1, abs=1e-12)


def test_only_the_last_tokens_count():
    model = model_of(some_texts(), 3)
    one, other = torch.tensor([0, 0, 0, 1, 2, 3]), torch.tensor([4, 3, 2, 1, 2, 3])
    assert torch.equal(model.log_probabilities(one)[-1:], model.log_probabilities(other)[-1:])
    assert model.log_probabilities(one)[3] != model.log_probabilities(other)[3]


def test_a_token_that_follows_few_others_is_unlikely_after_new_ones():
    """ "Francisco" is frequent, but only after "San": the idea of Kneser and Ney."""
    san, francisco, other, glass, new = range(5)
    texts = [[san, francisco], [other, glass], [new, glass], [glass, glass], [san, francisco], [san, francisco]]
    model = model_of(texts, 2)
    p_francisco, p_glass = (float(model.log_probabilities(torch.tensor([francisco, w]))[1]) for w in (francisco, glass))
    assert p_francisco < p_glass


def test_it_continues_what_it_knows_and_ends_where_its_text_ended():
    text = [0, 1, 2, 3, 4, 0, 2, 4, 1, 3]
    model = model_of([text], 4)
    written = list(model.continue_ids(text[:3], torch.Generator(), 0.0))
    assert written == text[3:]


def test_draws_have_the_probabilities_that_it_tells():
    model = model_of(some_texts(), 2)
    generator = torch.Generator().manual_seed(0)
    draws = Counter(next(model.continue_ids([1], generator, 1.0), END) for _ in range(4000))
    for token in range(NUM_TOKENS):
        p = float(model.log_probabilities(torch.tensor([1, token]))[1].exp())
        assert draws[token] / 4000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 4000))


@pytest.mark.parametrize(
    ("texts", "order", "told"),
    [
        ([[0, 1]], 0, "order must be 1 to 22 with 5 tokens, got 0"),
        ([[0, 1]], 23, "order must be 1 to 22 with 5 tokens, got 23"),
        ([[], []], 2, "needs texts"),
        ([], 2, "needs texts"),
    ],
)
def test_what_cannot_be_counted_is_refused(texts, order, told):
    with pytest.raises(ValueError, match=told):
        model_of(texts, order)


def test_an_order_is_refused_whose_last_power_is_one_too_large_for_int64():
    with pytest.raises(ValueError, match="order must be 1 to 20 with 6 tokens, got 21"):
        NGramModel([torch.tensor([0, 1])], order=21, num_tokens=6)  # 8 ** 21 = 2 ** 63


def test_keys_of_the_longest_order_do_not_overflow():
    model = model_of([[4] * 40], 22)
    assert model.log_probabilities(torch.full((40,), 4))[22:].exp().min() > 0.8
