"""Laws of models/likeliest.py: the order is that of the whole texts' probabilities, and few of them are read."""

import pytest
import torch

from tests.doubles import CAPTIONS, toy_pictures, toy_text_tokenizer, toy_transformer
from tests.test_writing import frames_of, learned
from tokenloom.models.likeliest import likeliest
from tokenloom.pipelines.media_to_text import MediaToTextPipeline
from tokenloom.tokenizers.vocabulary import Vocabulary

NUM_TOKENS = 20
TEXTS = [[3], [3, 4], [3, 4, 5], [5, 4], [5, 4, 3, 2, 1, 0], [7], [0], [19, 19]]


def by_hand(model, seen, start, text: list[int]) -> float:
    """Log P of a text and END, read whole."""
    vocabulary: Vocabulary = model.vocabulary
    ids = torch.tensor([[vocabulary.special("begin"), *text]])
    logits = model.write(ids, start, seen)[0][0] @ model.text_head().T
    end = vocabulary.special("end")
    allowed = torch.tensor([*range(NUM_TOKENS), end])
    rows = logits[:, allowed].log_softmax(-1)
    return sum(float(rows[place, allowed.tolist().index(token)]) for place, token in enumerate([*text, end]))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_and_the_figures_are_those_of_texts_read_whole(seed):
    model = toy_transformer(seed)
    with torch.no_grad():
        seen, start = model.see(frames_of(model, seed, rows=1), torch.zeros(1, 1, dtype=torch.long))
        figures = [by_hand(model, seen, start, text) for text in TEXTS]
    best = sorted(range(len(TEXTS)), key=lambda number: -figures[number])
    for count in (1, 3, len(TEXTS), 99):
        found = likeliest(model, seen, start, TEXTS, count, num_tokens=NUM_TOKENS)
        assert [number for number, _ in found] == best[:count]
        assert [figure for _, figure in found] == pytest.approx([figures[number] for number in best[:count]], abs=1e-4)


def test_texts_that_cannot_be_among_the_first_are_not_read_to_their_end(monkeypatch):
    model = toy_transformer()
    with torch.no_grad():
        model.norm.weight.mul_(10)  # a model that is sure of what it sees
    seen, start = model.see(frames_of(model, rows=1), torch.zeros(1, 1, dtype=torch.long))
    texts = [[a, b, c, d] for a in range(4) for b in range(4) for c in range(4) for d in range(4)]
    read: list[torch.Tensor] = []
    write = model.write
    monkeypatch.setattr(model, "write", lambda ids, *rest: (read.append(ids), write(ids, *rest))[1])
    likeliest(model, seen, start, texts, 1, num_tokens=NUM_TOKENS)
    whole = 1 + 4 + 16 + 64 + 256  # beginnings, to know all there are
    assert 5 <= sum(len(ids) for ids in read) < whole / 2


def test_what_cannot_be_ranked_is_refused():
    model = toy_transformer()
    seen, start = model.see(frames_of(model), torch.zeros(4, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="one picture or clip is looked at, got 4"):
        likeliest(model, seen, start, TEXTS, 1, num_tokens=NUM_TOKENS)
    for texts in ([], [[1], [1]], [[1], []]):
        with pytest.raises(ValueError, match="must each hold tokens and be there once"):
            likeliest(model, seen.select(torch.tensor([0])), start[:1], texts, 1, num_tokens=NUM_TOKENS)


def test_a_model_that_knows_the_pictures_ranks_the_caption_of_each_first():
    pipeline = MediaToTextPipeline(learned()[0])
    ranked = pipeline.rank(toy_pictures(), CAPTIONS, 3)
    assert [row[0] for row in ranked] == list(range(len(CAPTIONS)))
    assert all(len(set(row)) == 3 for row in ranked)
    assert pipeline.rank(toy_pictures()[4:6], CAPTIONS, 3) == ranked[4:6]
    assert toy_text_tokenizer().encode(CAPTIONS[0])
    with pytest.raises(ValueError, match="be there once"):
        pipeline.rank(toy_pictures()[:1], [*CAPTIONS, CAPTIONS[0]])
