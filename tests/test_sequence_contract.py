"""The contract of sequences: what `pack` and `packed_mask` state whole is what every way through the model computes.

A sequence is never built whole where it is used: what is given is read once, and its keys and values serve what is
drawn after it. Here each kind of sequence goes both ways, on a toy with every weight alive.
"""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.doubles import one_pass, toy_transformer
from tests.test_sound import CODES, LENGTHS, STEPS, TEXTS, toy_sounds, toy_speaker
from tokenloom.models.encoder_decoder import encode, nothing
from tokenloom.models.guidance import guide, image_predictor
from tokenloom.models.objectives import Batch, DecoderLosses
from tokenloom.models.sound import (
    NONE,
    begin_of,
    delayed,
    embed_codes,
    hear,
    length_logits,
    predictor,
    slots_after,
    speak_ar,
)
from tokenloom.models.transformer import Role, SharedTransformer
from tokenloom.pipelines.draw_codes import CodeBatch, draw_ar, prefilled
from tokenloom.pipelines.sampler_settings import SamplerSettings
from tokenloom.pipelines.seen_media import begun_frames
from tokenloom.tokenizers.sequence import Segment, prompt_batch, text_positions

GRID = (2, 3)
N = 6
PROMPTS = [[3, 1, 4, 1], [5], []]
FRAME = 2  # of a clip of four, which is drawn
close = {"atol": 1e-4, "rtol": 1e-4}

media = pytest.mark.parametrize(
    ("given", "factorized"),
    [((), False), ((0,), False), ((0, 3), False), ((3, 1), False), ((0, 3), True)],
    ids=["after text", "after a frame", "between frames", "in any order", "factorized"],
)


def text(ids: Sequence[int], **options) -> Segment:
    return Segment("text", torch.tensor(ids, dtype=torch.long), **options)


def frames(codes: dict[int, Tensor], row: int) -> list[Segment]:
    """Given frames, codes (B, N) each by number: each sees all of itself."""
    return [Segment("image", of[row].view(GRID), causal=False, frame=number) for number, of in codes.items()]


def picture(codes: Tensor, role: Role, frame: int = FRAME) -> Segment:
    return Segment("image", codes.view(GRID), causal=role == Role.AR, given=False, frame=frame)


def toy(factorized: bool = False) -> SharedTransformer:
    return toy_transformer(num_frames=4, factorized=factorized, image_grid=GRID)


def random_codes(seed: int) -> Tensor:
    return torch.randint(12, (len(PROMPTS), N), generator=torch.Generator().manual_seed(seed))


def clip_batch(given: Sequence[int]) -> CodeBatch:
    known = {number: random_codes(number) for number in given}
    free = torch.zeros(len(PROMPTS), N, dtype=torch.bool)
    generators = [torch.Generator().manual_seed(row) for row in range(len(PROMPTS))]
    return CodeBatch(PROMPTS, generators, torch.zeros_like(free, dtype=torch.long), free, FRAME, known)


def sequences(batch: CodeBatch, codes: Tensor, role: Role, prompts: Sequence[Sequence[int]] = PROMPTS):
    return [[text(prompt), *frames(batch.given, row), picture(codes[row], role)] for row, prompt in enumerate(prompts)]


# ------------------------------------------------------------------------------------------------ pictures, clips, text


@media
@pytest.mark.parametrize("scale", [1.0, 2.5])
@torch.no_grad()
def test_masked_and_diffusion_after_text_and_frames(given, factorized, scale):
    model, batch = toy(factorized), clip_batch(given)
    hidden = torch.rand(len(PROMPTS), N, generator=torch.Generator().manual_seed(9)) < 0.5
    codes = random_codes(7).masked_fill(hidden, -1)
    ids = model.vocabulary.to_shared(codes.clamp(min=0), "image").masked_fill(hidden, model.vocabulary.special("mask"))
    noise = torch.randn(len(PROMPTS), N, 2, generator=torch.Generator().manual_seed(8))
    for role, time, slots in (
        (Role.MASKED, 0.0, model.embedding(ids)),
        (Role.DIFFUSION, 0.7, model.latent_in(noise)),
    ):
        found = image_predictor(model, *prefilled(model, batch, scale), role, scale)(slots, time)
        stated = [
            one_pass(
                model, sequences(batch, codes, role, prompts), role, time, slots if role == Role.DIFFUSION else None
            )
            for prompts in (PROMPTS, [[]] * len(PROMPTS))
        ]
        whole = model.logits(torch.stack([row[-N:] for rows in stated for row in rows]))
        expected = guide(whole, scale) if scale != 1 else whole[: len(PROMPTS)]
        torch.testing.assert_close(found, expected, **close)


@media
@torch.no_grad()
def test_ar_draws_the_likeliest_code_at_each_slot_before_it(given, factorized):
    model, batch = toy(factorized), clip_batch(given)
    drawn = draw_ar(model, batch, SamplerSettings(guidance_scale=1.0, temperature=0.0), None)
    for row, hidden in enumerate(one_pass(model, sequences(batch, drawn, Role.AR))):
        assert torch.equal(model.logits(hidden[-N - 1 : -1]).argmax(-1), drawn[row])


@media
@torch.no_grad()
def test_captions_after_frames_and_the_loss_of_ar_as_training_computes_them(given, factorized):
    """Training sees frames through the same functions; captions follow nothing but BEGIN and the frames."""
    model, batch = toy(factorized), clip_batch(given)
    codes, shown = random_codes(7), {**batch.given, FRAME: random_codes(7)}
    stacked = torch.stack(list(shown.values()), dim=1)
    numbers = torch.tensor([list(shown)] * len(PROMPTS))
    seen, start = model.see(begun_frames(model.vocabulary, stacked.unflatten(2, GRID)), numbers)
    ids, real = prompt_batch(PROMPTS, model.vocabulary)
    written, _ = model.write(ids, start, seen)
    stated = one_pass(
        model, [[text([]), *frames(shown, row), text(prompt, given=False)] for row, prompt in enumerate(PROMPTS)]
    )
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(written[row, : 1 + len(prompt)], stated[row][-1 - len(prompt) :], **close)

    losses = DecoderLosses(model, ("ar",))
    found = losses(Batch(ids, real, stacked, numbers), torch.Generator())["ar"]
    whole = torch.stack([row[-N - 1 : -1] for row in one_pass(model, sequences(batch, codes, Role.AR))])
    torch.testing.assert_close(found, F.cross_entropy(model.logits(whole).flatten(0, 1), codes.flatten()), **close)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_text_alone_and_text_after_text(causal):
    model = toy_transformer(image_levels=())
    ids, _ = prompt_batch([[7, 8, 9]] * len(PROMPTS), model.vocabulary)
    if causal:
        before, given = nothing(model, len(PROMPTS)), [[] for _ in PROMPTS]
    else:
        (_, before), given = (
            encode(model, *prompt_batch(PROMPTS, model.vocabulary)),
            [[text(p, causal=False)] for p in PROMPTS],
        )
    written, _ = model.write(ids, before.start, before)
    stated = one_pass(model, [[*segments, text([7, 8, 9], given=False)] for segments in given])
    torch.testing.assert_close(written, torch.stack([row[-4:] for row in stated]), **close)


# --------------------------------------------------------------------------------------------------------------- sounds


def heard_or_not(model: SharedTransformer, heard: bool):
    """What is given before a sound or a text: its cache, and its segments in each row."""
    ids, real = prompt_batch(TEXTS, model.vocabulary)
    past, segments = model.prefill(ids, text_positions(ids.shape[1]), real), [[text(words)] for words in TEXTS]
    if heard:
        sounds = toy_sounds(5)
        past = hear(model, sounds.codes, sounds.real, past)
        for row, own in enumerate(segments):
            own.append(Segment("audio", sounds.codes[row, : LENGTHS[row]], causal=False))
    return past, segments


each_past = pytest.mark.parametrize("heard", [False, True], ids=["after text", "after a sound"])


def sound(codes: Tensor, role: Role) -> Segment:
    return Segment("audio", codes, causal=role == Role.AR, given=False)


@each_past
@torch.no_grad()
def test_sounds_by_masked_and_diffusion_and_their_length(heard):
    model = toy_speaker()
    past, given = heard_or_not(model, heard)
    sounds = toy_sounds()
    codes = sounds.codes.masked_fill(
        torch.rand(sounds.codes.shape, generator=torch.Generator().manual_seed(1)) < 0.4, NONE
    )
    latents = torch.randn(*sounds.real.shape, 3, generator=torch.Generator().manual_seed(2))
    for role, time, slots in (
        (Role.MASKED, 0.0, embed_codes(model, codes)),
        (Role.DIFFUSION, 0.7, model.sound.latent_in(latents)),
    ):
        found = predictor(model, past, sounds.real, role, 1.0)(slots, time)
        for row, count in enumerate(LENGTHS.tolist()):
            own = slots[row : row + 1, :count] if role == Role.DIFFUSION else None
            (stated,) = one_pass(model, [[*given[row], sound(codes[row, :count], role)]], role, time, own)
            torch.testing.assert_close(found[row, :count], stated[-count:], **close)
    begun = one_pass(model, [[*own, sound(codes[0, :0], Role.MASKED)] for own in given], Role.MASKED)
    stated = model.sound.length(torch.stack([row[-1] for row in begun]))
    torch.testing.assert_close(length_logits(model, past), stated, **close)


@each_past
@torch.no_grad()
def test_sounds_by_ar_as_they_are_learned_and_as_they_are_drawn(heard):
    model = toy_speaker()
    (past, given), part = heard_or_not(model, heard), model.sound

    def stated(codes: Tensor, real: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """What the slots of a sound say, and the hidden slots: each reads what the one before said, END as MASK."""
        said = delayed(codes[None, real], real[None, real], part.end)[0]
        read = said[:-1].masked_fill(said[:-1] == part.end, NONE)
        return said, one_pass(model, [[*given[row], sound(read, Role.AR)]])[0][-len(said) :]

    sounds = toy_sounds()
    said = delayed(sounds.codes, sounds.real, part.end)
    x = torch.cat([begin_of(model, len(said)), embed_codes(model, said[:, :-1])], dim=1)
    roles, real = torch.full((len(x),), int(Role.AR)), torch.ones(x.shape[:2], dtype=torch.bool)
    learned, _ = slots_after(model, x, torch.zeros(len(x)), roles, past, real)
    for row in range(len(x)):
        own, hidden = stated(sounds.codes[row], sounds.real[row], row)
        torch.testing.assert_close(learned[row, : len(own)], hidden, **close)

    uniforms = torch.zeros(len(TEXTS), STEPS + part.num_codebooks, part.num_codebooks)
    codes, real = speak_ar(model, past, uniforms, temperature=0.0)
    for row in range(len(codes)):
        own, hidden = stated(codes[row], real[row], row)
        likeliest = torch.einsum("L D, K V D -> L K V", hidden, part.heads[:, :CODES]).argmax(-1)
        drawn = (own != NONE) & (own != part.end)
        assert drawn.any() and torch.equal(likeliest[drawn], own[drawn])


@torch.no_grad()
def test_text_after_a_sound():
    model = toy_speaker()
    past, given = heard_or_not(model, heard=True)
    ids, _ = prompt_batch([[4, 4, 2]] * len(TEXTS), model.vocabulary)
    written, _ = model.write(ids, past.start, past)
    stated = one_pass(model, [[*own, text([4, 4, 2], given=False)] for own in given])
    torch.testing.assert_close(written, torch.stack([row[-4:] for row in stated]), **close)
