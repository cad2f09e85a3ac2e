"""Laws of the contrastive head: vectors of length 1 that depend on their own segment alone, and the loss of CLIP."""

import pytest
import torch
import torch.nn.functional as F

from tokenloom.models.contrastive import ContrastiveConfig, ContrastiveHead, contrastive_loss
from tokenloom.models.features import Features

TOY = {"trunk_width": 8, "layers": (1, 2), "width": 12, "num_heads": 2, "embedding_size": 6}


def toy_head(seed: int = 0, **changes) -> ContrastiveHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ContrastiveHead(ContrastiveConfig(**(TOY | changes))).eval()


def random_features(lengths, seed: int = 0, padding: int = 0) -> Features:
    """Of segments so long, padded with what must not matter."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths) + padding
    tokens = torch.randn(len(lengths), longest, 16, generator=generator)
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Features(tokens, real)


def part(features: Features, rows: slice, length: int | None = None) -> Features:
    return Features(features.tokens[rows, :length], features.real[rows, :length])


@pytest.mark.parametrize("grad", [True, False], ids=["training", "inference"])  # torch takes other kernels
def test_vectors_have_length_1_and_depend_on_their_own_tokens_alone(grad):
    head, features = toy_head(), random_features([5, 2, 7, 1], padding=3)
    with torch.set_grad_enabled(grad):
        for tower in (head.text, head.media):
            vectors = tower(features)
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
            for row, length in enumerate([5, 2, 7, 1]):
                alone = tower(part(features, slice(row, row + 1), length))
                torch.testing.assert_close(alone[0], vectors[row], rtol=1e-4, atol=1e-5)


def test_what_is_padding_does_not_matter_and_what_is_real_does():
    head, features = toy_head(), random_features([5, 2, 7, 1], padding=3)
    before = head.text(features)
    noise = torch.randn(features.tokens.shape, generator=torch.Generator().manual_seed(1))
    padded = torch.where(features.real[..., None], features.tokens, noise)
    torch.testing.assert_close(head.text(Features(padded, features.real)), before)
    for row, place in ((0, 4), (1, 0), (3, 0)):
        changed = features.tokens.clone()
        changed[row, place] = noise[row, place]
        moved = (head.text(Features(changed, features.real)) - before).abs().amax(1) > 1e-4
        assert moved.tolist() == [number == row for number in range(4)]


def test_the_loss_is_the_mean_of_both_cross_entropies_by_hand():
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)) * 3
    by_text = [scores[i, i].exp() / sum(scores[i, j].exp() for j in range(5)) for i in range(5)]
    by_media = [scores[i, i].exp() / sum(scores[j, i].exp() for j in range(5)) for i in range(5)]
    expected = -(sum(p.log() for p in by_text) + sum(p.log() for p in by_media)) / 10
    torch.testing.assert_close(contrastive_loss(scores, torch.arange(5)), expected)
    torch.testing.assert_close(contrastive_loss(scores.T, torch.arange(5)), expected)


def test_media_of_the_same_caption_are_no_wrong_answers():
    scores = torch.zeros(3, 3)
    loss = contrastive_loss(scores, torch.tensor([4, 4, 2]))
    wrong_answers = torch.tensor([1.0, 1.0, 2.0])  # of each row, and of each column
    torch.testing.assert_close(loss, (1 + wrong_answers).log().mean())
    all_the_same = contrastive_loss(torch.randn(3, 3), torch.zeros(3, dtype=torch.long))
    assert float(all_the_same) == 0.0


def test_scores_are_scaled_cosines_and_the_scale_is_held():
    head = toy_head()
    text, media = (F.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(n)), dim=1) for n in (3, 4))
    torch.testing.assert_close(head.scores(text, media), F.cosine_similarity(text[:, None], media, dim=2) / 0.07)
    with torch.no_grad():
        head.log_scale.fill_(50.0)
    torch.testing.assert_close(head.scores(text, text).diag(), torch.full((3,), 100.0))


def test_a_tiny_head_learns_one_batch_by_heart():
    head = toy_head().train()
    text, media = random_features([3, 5, 2, 4, 5, 1, 3, 2], seed=1), random_features([4] * 8, seed=2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    for _ in range(80):
        loss = contrastive_loss(head(text, media), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = head(text, media)
    assert float(loss.detach()) < 0.1
    assert torch.equal(scores.argmax(0), torch.arange(8)) and torch.equal(scores.argmax(1), torch.arange(8))


def test_a_head_comes_back_from_disk(tmp_path):
    head = toy_head(storage_dtype="float32", num_blocks=2)
    head.save_pretrained(tmp_path)
    again = ContrastiveHead.from_pretrained(tmp_path)
    assert again.config == head.config
    text, media = random_features([3, 5]), random_features([4, 4], seed=1)
    assert torch.equal(again(text, media), head(text, media))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": ()}, "layers must be different numbers of at least 1"),
        ({"layers": (2, 2)}, "layers must be different numbers"),
        ({"layers": (0, 1)}, "of at least 1"),
        ({"num_blocks": -1}, "num_blocks must be at least 0 and embedding_size 1, got -1 and 6"),
        ({"num_heads": 5}, "width must be a multiple of num_heads"),
        ({"storage_dtype": "int8"}, "storage_dtype must be float32 or float16"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        ContrastiveConfig(**(TOY | changes))
