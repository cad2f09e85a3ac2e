"""Laws of hidden tokens: they are those of the paths by which the transformer reads prompts, frames and sounds."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

from tests.doubles import toy_transformer
from tests.test_sound import toy_sounds, toy_speaker
from tokenloom.models.features import frame_features, sound_features, text_features
from tokenloom.models.sound import hear
from tokenloom.tokenizers.sequence import prompt_batch, text_positions

TEXTS = [[5, 6, 7], [8], [9, 10], [11, 5, 6, 7, 8]]
CLIPS = [{}, {"num_frames": 4}, {"num_frames": 4, "factorized": True}]


@contextmanager
def outputs_of_blocks(model):
    """What each block gives in the last run inside, by the number of blocks so far."""
    found = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, number=number: found.__setitem__(number, out[0]))
        for number, block in enumerate(model.blocks, 1)
    ]
    yield found
    for hook in hooks:
        hook.remove()


def frames_of(model, count: int, seed: int = 0) -> torch.Tensor:
    """Shared ids (4, m, 1 + N) of random frames, BEGIN first."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.config.num_codes, (4, count, model.config.num_positions), generator=generator)
    begin = codes.new_full((*codes.shape[:2], 1), model.vocabulary.special("begin_image"))
    return torch.cat([begin, model.vocabulary.to_shared(codes, "image")], dim=2)


def normed(found, layers) -> torch.Tensor:
    return torch.cat([F.rms_norm(found[layer], found[layer].shape[-1:]) for layer in layers], dim=-1)


@torch.no_grad()
def test_texts_are_read_as_prompts_are():
    model = toy_transformer(num_layers=3)
    prompts, real = prompt_batch(TEXTS, model.vocabulary)
    with outputs_of_blocks(model) as found:
        model.prefill(prompts, text_positions(prompts.shape[1]), real)
    for layers in ((1,), (3,), (1, 3)):
        features = text_features(model, prompts, real, layers)
        torch.testing.assert_close(features.tokens[real], normed(found, layers)[real])
        assert torch.equal(features.real, real)


@pytest.mark.parametrize("changes", CLIPS, ids=str)
@torch.no_grad()
def test_pictures_and_frames_are_read_as_captions_see_them(changes):
    model = toy_transformer(num_layers=3, **changes)
    frames = frames_of(model, min(3, model.config.num_frames))
    numbers = torch.arange(frames.shape[1]).repeat(len(frames), 1)
    with outputs_of_blocks(model) as found:
        model.see(frames, numbers)
    features = frame_features(model, frames, numbers, (2, 3))
    torch.testing.assert_close(features.tokens, normed(found, (2, 3)), rtol=1e-4, atol=1e-5)
    assert features.real.all() and features.real.shape == features.tokens.shape[:2]


@torch.no_grad()
def test_sounds_are_read_as_what_is_written_hears_them():
    model, sounds = toy_speaker(num_layers=3), toy_sounds()
    ids, real = prompt_batch([[]] * len(sounds.codes), model.vocabulary)
    past = model.prefill(ids, text_positions(1), real)
    with outputs_of_blocks(model) as found:
        hear(model, sounds.codes, sounds.real, past)
    features = sound_features(model, sounds.codes, sounds.real, (1, 3))
    assert torch.equal(features.real, F.pad(sounds.real, (1, 0), value=True)), "BEGIN of the sound, and its steps"
    found_there = normed(found, (1, 3))[features.real]
    torch.testing.assert_close(features.tokens[features.real], found_there, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_changes_no_token_of_a_sound():
    model, sounds = toy_speaker(), toy_sounds()
    whole = sound_features(model, sounds.codes, sounds.real, (1, 2))
    junk = torch.where(sounds.real.unsqueeze(-1), sounds.codes, 3)
    longer = sound_features(model, F.pad(junk, (0, 0, 0, 4), value=5), F.pad(sounds.real, (0, 4)), (1, 2))
    torch.testing.assert_close(longer.tokens[longer.real], whole.tokens[whole.real])
    for row, steps in enumerate(sounds.real.sum(1).tolist()):
        one = sound_features(model, sounds.codes[row : row + 1, :steps], sounds.real[row : row + 1, :steps], (1, 2))
        torch.testing.assert_close(one.tokens[0], whole.tokens[row, : 1 + steps], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_changes_no_token_of_a_text():
    model = toy_transformer()
    prompts, real = prompt_batch(TEXTS, model.vocabulary)
    short = text_features(model, prompts, real, (1, 2))
    long = text_features(model, F.pad(prompts, (0, 5), value=7), F.pad(real, (0, 5)), (1, 2))
    torch.testing.assert_close(long.tokens[long.real], short.tokens[short.real])


@torch.no_grad()
def test_no_block_beyond_the_last_layer_runs():
    model = toy_transformer(num_layers=3)
    with outputs_of_blocks(model) as found:
        text_features(model, *prompt_batch(TEXTS, model.vocabulary), (1, 2))
    assert sorted(found) == [1, 2]
