"""Laws of sounds in the shared transformer: what `ar`, `masked` and `diffusion` read, and that a tiny model learns."""

import pytest
import torch

from tests.doubles import toy_transformer
from tokenloom.models import sound_objectives
from tokenloom.models.corruption import mask_ids
from tokenloom.models.objectives import ROLES
from tokenloom.models.optimizers import muon_and_adamw
from tokenloom.models.sound import (
    LEAST_STEPS,
    NONE,
    begin_of,
    delayed,
    draw_length,
    embed_codes,
    hear,
    slots_after,
    speak_ar,
    speak_diffusion,
    speak_masked,
    undelayed,
)
from tokenloom.models.sound_objectives import Sounds, SpeechBatch, SpeechLosses
from tokenloom.models.transformer import Role
from tokenloom.models.writing import write
from tokenloom.tokenizers.sequence import prompt_batch, text_positions

LEVELS = ((4, 2, 1), (1, 2, 4))
BOOKS, CODES, STEPS = 2, 8, 7
TEXTS = [[5, 6], [7], [8, 9, 10], [5, 10]]
LENGTHS = torch.tensor([4, 7, 2, 5])


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy_speaker(**changes):
    return toy_transformer(image_levels=(), sound_levels=LEVELS, sound_steps=STEPS, **changes)


def toy_sounds(seed: int = 0) -> Sounds:
    real = torch.arange(STEPS) < LENGTHS[:, None]
    codes = torch.randint(CODES, (len(LENGTHS), STEPS, BOOKS), generator=chance(seed))
    return Sounds(codes.masked_fill(~real.unsqueeze(-1), 0), real)


@torch.no_grad()
def prompts_of(model, texts=TEXTS):
    ids, real = prompt_batch(texts, model.vocabulary)
    return model.prefill(ids, text_positions(ids.shape[1]), real)


def roles(role: Role, rows: int) -> torch.Tensor:
    return torch.full((rows,), int(role))


@torch.no_grad()
def ar_hidden(model, sounds: Sounds, texts=TEXTS) -> torch.Tensor:
    said = delayed(sounds.codes, sounds.real, model.sound.end)
    x = torch.cat([begin_of(model, len(said)), embed_codes(model, said[:, :-1])], dim=1)
    past, real = prompts_of(model, texts), torch.ones(x.shape[:2], dtype=torch.bool)
    return slots_after(model, x, torch.zeros(len(x)), roles(Role.AR, len(x)), past, real)[0]


def test_what_the_slots_say_is_drawn_by_hand():
    codes = torch.tensor([[[1, 11], [2, 12], [3, 13]], [[4, 14], [0, 0], [0, 0]]])
    real = torch.tensor([[True, True, True], [True, False, False]])
    none, end = NONE, 99
    assert delayed(codes, real, end).tolist() == [
        [[1, none], [2, 11], [3, 12], [end, 13], [none, none]],
        [[4, none], [end, 14], [none, none], [none, none], [none, none]],
    ]


def test_undelayed_undoes_delayed():
    sounds = toy_sounds()
    codes, real = undelayed(delayed(sounds.codes, sounds.real, CODES), LENGTHS)
    assert torch.equal(codes, sounds.codes) and torch.equal(real, sounds.real)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_slot_by_slot_is_said_what_the_whole_sound_says(guidance_scale):
    model = toy_speaker()
    texts = TEXTS if guidance_scale == 1 else [*TEXTS, *[[]] * len(TEXTS)]
    uniforms = torch.rand(len(TEXTS), STEPS + BOOKS, BOOKS, generator=chance())
    drawn = Sounds(*speak_ar(model, prompts_of(model, texts), uniforms, guidance_scale=guidance_scale, temperature=0.0))
    given = ar_hidden(model, drawn)
    if guidance_scale != 1:
        given = torch.lerp(ar_hidden(model, drawn, texts[len(TEXTS) :]), given, guidance_scale)
    logits = torch.einsum("B L D, K V D -> B L K V", given, model.sound.heads)
    logits[:, :, 1:, -1] = logits[:, :LEAST_STEPS, 0, -1] = -torch.inf
    said = delayed(drawn.codes, drawn.real, CODES)
    ended = drawn.real.sum(1) < STEPS  # by END, and not because there was no room for more
    learned = (said != NONE) & ((said != CODES) | ended[:, None, None])
    assert learned.sum() > 40 and torch.equal(logits.argmax(-1)[learned], said[learned])


def test_a_later_step_changes_no_slot_that_comes_before_it():
    model, sounds = toy_speaker(), toy_sounds()
    before = ar_hidden(model, sounds)
    changed = sounds.codes.clone()
    changed[1, 4] = (changed[1, 4] + 1) % CODES
    after = ar_hidden(model, Sounds(changed, sounds.real))
    assert torch.equal(before[1, :5], after[1, :5]) and not torch.allclose(before[1, 5], after[1, 5])


@pytest.mark.parametrize("role", [Role.MASKED, Role.DIFFUSION])
def test_every_slot_sees_every_real_slot_and_no_padding(role):
    model, sounds = toy_speaker(), toy_sounds()
    past = prompts_of(model)
    real = torch.cat([torch.ones(len(LENGTHS), 1, dtype=torch.bool), sounds.real], dim=1)

    def hidden(codes: torch.Tensor) -> torch.Tensor:
        x = torch.cat([begin_of(model, len(codes)), embed_codes(model, codes)], dim=1)
        with torch.no_grad():
            return slots_after(model, x, torch.full((len(x),), 0.3), roles(role, len(x)), past, real)[0]

    before = hidden(sounds.codes)
    padded, last = sounds.codes.clone(), sounds.codes.clone()
    padded[0, 4:] = 3
    last[0, 3] = (last[0, 3] + 1) % CODES
    assert torch.equal(before[0, :5], hidden(padded)[0, :5])
    assert not torch.allclose(before[0, 0], hidden(last)[0, 0])


def test_a_sound_that_is_heard_does_not_depend_on_its_batch():
    model, sounds = toy_speaker(), toy_sounds()
    with torch.no_grad():
        together = hear(model, sounds.codes, sounds.real, prompts_of(model))
        ids, real = prompt_batch([[5, 6]], model.vocabulary)
        for row, text in enumerate(TEXTS):
            length = int(LENGTHS[row])
            alone = hear(
                model,
                sounds.codes[row : row + 1, :length],
                sounds.real[row : row + 1, :length],
                prompts_of(model, [text]),
            )
            hidden, _ = model.write(ids, alone.start, alone)
            among, _ = model.write(ids.repeat(len(TEXTS), 1), together.start, together)
            torch.testing.assert_close(among[row], hidden[0], rtol=1e-4, atol=1e-4)


def test_masked_keeps_lengths_and_diffusion_snaps_to_codes():
    model, sounds = toy_speaker(), toy_sounds()
    prompt = prompts_of(model)
    uniforms = torch.rand(BOOKS, 3, 2, len(TEXTS), STEPS, generator=chance(1))
    noise = torch.randn(len(TEXTS), STEPS, 3, generator=chance(2))
    drawn = speak_masked(model, prompt, sounds.real, uniforms)
    flowed = speak_diffusion(model, prompt, sounds.real, noise, num_inference_steps=3)
    for codes in (drawn, flowed):
        assert codes.shape == sounds.codes.shape and int(codes.min()) >= 0 and int(codes.max()) < CODES
        assert not codes[~sounds.real].any()


def test_guidance_of_one_is_the_conditional_half_alone():
    model = toy_speaker()
    uniforms = torch.rand(len(TEXTS), STEPS + BOOKS, BOOKS, generator=chance(3))
    alone, _ = speak_ar(model, prompts_of(model), uniforms)
    pair = prompts_of(model, [*TEXTS, *[[]] * len(TEXTS)])
    nearly, _ = speak_ar(model, pair, uniforms, guidance_scale=1 + 1e-7)
    assert torch.equal(alone, nearly)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ValueError, match="decoders are ar, masked, diffusion, got wavenet"):
        SpeechLosses(toy_speaker(), ["wavenet"])


def test_masked_hides_the_same_share_of_a_sound_whatever_it_is_padded_to(monkeypatch):
    """By chance alone a share of all slots would often hide a short sound of a long batch wholly."""
    model, hidden = toy_speaker(), []

    def counted(ids, share, order, mask_id):
        masked, where = mask_ids(ids, share, order, mask_id)
        hidden.append((where & sounds.real).sum(1))
        return masked, where

    monkeypatch.setattr(sound_objectives, "mask_ids", counted)
    counts = []
    for steps in (int(LENGTHS.min()), STEPS):
        real = torch.arange(steps) < torch.full((40, 1), int(LENGTHS.min()))
        sounds = Sounds(torch.zeros(40, steps, BOOKS, dtype=torch.long), real)
        prompts, told = prompt_batch([[5]] * 40, model.vocabulary)
        SpeechLosses(model, ["masked"])(SpeechBatch(prompts, told, None, sounds, None), chance())
        counts.append(hidden.pop())
    assert torch.equal(*counts) and counts[0].unique().tolist() == [1, 2]


def learned(batch: SpeechBatch, decoders=tuple(ROLES), steps: int = 260):
    """A tiny model after some steps on one batch."""
    model = toy_speaker(alive=False, width=64).train()
    losses = SpeechLosses(model, decoders)
    optimizers = muon_and_adamw(model.blocks, losses, muon_lr=2e-2, adamw_lr=5e-3)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    for step in range(steps):
        for optimizer, rates in zip(optimizers, peaks, strict=True):  # at a steady rate the end would be a toss-up
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1, 2 * (1 - step / steps))
        values = losses(batch, chance(step))
        torch.stack(list(values.values())).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def test_a_tiny_model_says_one_batch_by_every_decoder():
    sounds = toy_sounds()
    ids, real = prompt_batch(TEXTS, toy_speaker().vocabulary)
    model = learned(SpeechBatch(ids, real, None, sounds, None), steps=800)
    prompt = prompts_of(model)
    uniforms = torch.rand(len(TEXTS), STEPS + BOOKS, BOOKS, generator=chance(4))
    codes, spoken = speak_ar(model, prompt, uniforms, temperature=0.0)
    assert torch.equal(codes, sounds.codes) and torch.equal(spoken, sounds.real)
    assert torch.equal(draw_length(model, prompt, uniforms[:, 0, 0], temperature=0.0), LENGTHS)
    uniforms = torch.rand(BOOKS, 8, 2, len(TEXTS), STEPS, generator=chance(5))
    assert torch.equal(speak_masked(model, prompt, sounds.real, uniforms, temperature=0.0), sounds.codes)
    noise = torch.randn(len(TEXTS), STEPS, 3, generator=chance(6))
    flowed = speak_diffusion(model, prompt, sounds.real, noise, num_inference_steps=12)
    assert (flowed == sounds.codes)[sounds.real].float().mean() > 0.95


def test_a_tiny_model_writes_what_it_hears():
    sounds = toy_sounds()
    vocabulary = toy_speaker().vocabulary
    empty = prompt_batch([[]] * len(TEXTS), vocabulary)
    model = learned(SpeechBatch(*empty, sounds, None, prompt_batch(TEXTS, vocabulary)), steps=120)
    past = hear(model, sounds.codes, sounds.real, prompts_of(model, [[]] * len(TEXTS)))
    assert write(model, past, past.start, torch.rand(len(TEXTS), 6), num_tokens=300) == TEXTS


def test_a_tiny_model_answers_sounds_by_sounds():
    heard, said = toy_sounds(0), toy_sounds(1)
    ids, real = prompt_batch([[5]] * len(TEXTS), toy_speaker().vocabulary)
    model = learned(SpeechBatch(ids, real, heard, said, None), ("ar",), steps=200)
    past = hear(model, heard.codes, heard.real, prompts_of(model, [[5]] * len(TEXTS)))
    uniforms = torch.rand(len(TEXTS), STEPS + BOOKS, BOOKS, generator=chance(4))
    codes, spoken = speak_ar(model, past, uniforms, temperature=0.0)
    assert torch.equal(codes, said.codes) and torch.equal(spoken, said.real)
