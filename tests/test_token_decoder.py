"""Laws of models/token_decoder.py: it is the model, token by token, whatever is folded into what."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.doubles import awaken, one_pass, prompt_of, toy_transformer
from tokenloom.models.attention import KVCache
from tokenloom.models.token_decoder import TokenDecoder
from tokenloom.models.transformer import Role, SharedTransformer
from tokenloom.tokenizers.sequence import Segment, frame_positions

GRID = (3, 4)
close = {"atol": 1e-4, "rtol": 1e-4}


def of_ar(model: SharedTransformer) -> Tensor:
    return model.modulation(torch.zeros(1), torch.tensor([Role.AR]))


def decoder_of(model: SharedTransformer, prompt: KVCache, positions: Tensor) -> Callable[[Tensor, int], Tensor]:
    """Shared ids (B,) of a token and its number -> logits (B, V) of the next."""
    decoder = TokenDecoder(model, of_ar(model), prompt, positions, model.head.weight)
    places = model.places(positions, prompt.start)
    return lambda ids, number: decoder.logits(decoder(model.embedding(ids) + places[:, number]))


@torch.no_grad()
def token_by_token(model: SharedTransformer, prompts: list[list[int]], codes: Tensor, padding: int = 0) -> Tensor:
    """Logits (B, 1 + N, V) after BEGIN and each of the codes (B, h, w)."""
    decoder = decoder_of(model, *prompt_of(model, prompts, padding))
    begin = torch.full((len(codes),), model.vocabulary.special("begin_image"))
    ids = [begin, *model.vocabulary.to_shared(codes.flatten(1), "image").unbind(1)]
    return torch.stack([decoder(token, number) for number, token in enumerate(ids)], dim=1)


def in_one_pass(model: SharedTransformer, prompt: list[int], codes: Tensor) -> Tensor:
    """The same logits (1 + N, V) for one picture, from the packed sequence and without a cache."""
    segments = [Segment("text", torch.tensor(prompt, dtype=torch.long)), Segment("image", codes, given=False)]
    return model.logits(one_pass(model, [segments])[0][1 + len(prompt) :]).detach()


@pytest.mark.parametrize("prompts", [[[3, 1, 4]], [[3, 1, 4], [1, 5, 9]], [[2, 6, 5, 3, 5], [], [8, 9]]])
@pytest.mark.parametrize("padding", [0, 3])
def test_cached_logits_equal_those_of_the_packed_sequence(prompts, padding):
    model = toy_transformer(image_grid=GRID, num_layers=3)
    codes = torch.randint(12, (len(prompts), *GRID), generator=torch.Generator().manual_seed(1))
    logits = token_by_token(model, prompts, codes, padding)
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(logits[row], in_one_pass(model, prompt, codes[row]), **close)


@pytest.mark.parametrize("factorized", [False, True])
@pytest.mark.parametrize("padding", [0, 2])
@torch.no_grad()
def test_after_given_frames_it_is_the_model_too(factorized, padding):
    model = toy_transformer(num_frames=4, factorized=factorized)
    prompt, _ = prompt_of(model, [[3, 1, 4], [1]], padding)
    positions = frame_positions((2, 2), torch.tensor([[0, 3, 1]])) + prompt.start[:, None, None, None]
    codes = torch.randint(12, (2, 3, 4), generator=torch.Generator().manual_seed(1))
    begin = torch.full((2, 3, 1), model.vocabulary.special("begin_image"))
    ids = torch.cat([begin, model.vocabulary.to_shared(codes, "image")], dim=-1)
    cache = model.read(ids[:, :2], positions[:, :2], prompt)
    decoder = decoder_of(model, cache, positions[:, 2])
    found = torch.stack([decoder(token, number) for number, token in enumerate(ids[:, 2].unbind(1))], dim=1)
    roles, causal = torch.full((2,), int(Role.AR)), torch.ones(2, dtype=torch.bool)
    whole = model(model.embedding(ids[:, 2]), positions[:, 2], torch.zeros(2), roles, cache, causal)
    torch.testing.assert_close(found, model.logits(whole), **close)


def test_tokens_of_zeros_have_a_direction_of_zeros():
    """The norms divide by sqrt(mean square + epsilon): a plain division by the length would give 0 / 0."""
    model = toy_transformer(image_grid=GRID)
    with torch.no_grad():
        for table in (model.embedding, *model.place):
            table.weight.zero_()
        for block in model.blocks:
            block.attention.qkv.weight.mul_(1e-4)  # queries and keys as small as the epsilon
    codes = torch.zeros(1, *GRID, dtype=torch.long)
    torch.testing.assert_close(token_by_token(model, [[1]], codes)[0], in_one_pass(model, [1], codes[0]), **close)


def test_weights_changed_behind_the_version_counter_are_noticed():
    model, codes = toy_transformer(image_grid=GRID), torch.zeros(1, *GRID, dtype=torch.long)
    before = token_by_token(model, [[1]], codes)
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    after = token_by_token(model, [[1]], codes)
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(after[0], in_one_pass(model, [1], codes[0]), **close)


def test_the_model_and_the_prompt_stay_as_they_are():
    model = toy_transformer(image_grid=GRID)
    copy = toy_transformer(image_grid=GRID)
    prompt, positions = prompt_of(model, [[1, 2]])
    keys = prompt.keys[0].clone()
    with torch.inference_mode():
        decoder_of(model, prompt, positions)(torch.tensor([5]), 0)
    assert torch.equal(prompt.keys[0], keys)
    for parameter, expected in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(parameter, expected)
    awaken(model, 1)  # and they can still be trained
    model.logits(model.norm(model.embedding(torch.tensor([5])))).sum().backward()
    assert model.head.weight.grad is not None
