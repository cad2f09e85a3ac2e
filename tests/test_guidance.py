"""Laws of models/guidance.py: scale 1 is no guidance and half the work, scale 0 no prompt, beyond lies a line."""

import pytest
import torch

from tests.doubles import prompt_of, toy_transformer
from tokenloom.models.guidance import guide, image_predictor
from tokenloom.models.transformer import Role

PROMPTS = [[5, 6, 7], [8]]
EMPTY: list[list[int]] = [[], []]


@pytest.fixture(scope="module")
def model():
    return toy_transformer()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def predictor(model, scale, prompts=PROMPTS, role=Role.DIFFUSION):
    prompt, positions = prompt_of(model, prompts)
    return image_predictor(model, prompt, positions, role, scale)


def test_scale_one_passes_the_logits_as_they_are():
    logits = random(3, 5)
    assert guide(logits, 1.0) is logits


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0 + 1e-6, 3.0, 10.0])
def test_guided_logits_lie_on_the_line_from_unconditional_through_conditional(scale):
    conditional, unconditional = random(2, 3, 4, 5)
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(guide(torch.cat([conditional, unconditional]), scale), expected)


def test_scale_zero_forgets_the_prompt():
    conditional, unconditional = random(2, 3, 5)
    assert torch.equal(guide(torch.cat([conditional, unconditional]), 0.0), unconditional)


@torch.no_grad()
@pytest.mark.parametrize("role", [Role.MASKED, Role.DIFFUSION])
def test_guidance_one_equals_no_guidance_to_the_bit_and_runs_half_the_batch(model, role):
    rows = []
    hook = model.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0])))
    slots = random(2, 4, model.config.width)
    plain = predictor(model, 1.0, role=role)(slots, 0.5)
    guided = predictor(model, 3.0, PROMPTS + EMPTY, role)(slots, 0.5)
    hook.remove()
    assert rows == [2, 4]

    prompt, positions = prompt_of(model, PROMPTS)
    begin = model.embedding(torch.full((2, 1), model.vocabulary.special("begin_image")))
    direct = model(
        torch.cat([begin, slots], dim=1),
        positions,
        torch.full((2,), 0.5),
        torch.full((2,), int(role)),
        prompt,
        torch.zeros(2, dtype=torch.bool),
    )
    assert torch.equal(plain, model.logits(direct[:, 1:]))
    assert (guided - plain).abs().max() > 0.01


@torch.no_grad()
def test_guided_predictions_are_made_of_those_of_the_prompt_and_of_the_empty_prompt(model):
    slots = random(2, 4, model.config.width)
    conditional, unconditional = predictor(model, 1.0)(slots, 0.3), predictor(model, 1.0, EMPTY)(slots, 0.3)
    guided = predictor(model, 2.5, PROMPTS + EMPTY)(slots, 0.3)
    torch.testing.assert_close(guided, unconditional + 2.5 * (conditional - unconditional), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_guiding_a_prompt_by_itself_changes_nothing(model):
    slots = random(2, 4, model.config.width)
    guided = predictor(model, 7.0, PROMPTS + PROMPTS)(slots, 0.3)
    torch.testing.assert_close(guided, predictor(model, 1.0)(slots, 0.3), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_where_a_time_is_not_guided_the_prompt_runs_alone(model):
    rows = []
    hook = model.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0])))
    prompt, positions = prompt_of(model, PROMPTS + EMPTY)
    early = image_predictor(model, prompt, positions, Role.DIFFUSION, 3.0, lambda time: time > 0.5)
    slots = random(2, 4, model.config.width)
    assert torch.equal(early(slots, 0.6), predictor(model, 3.0, PROMPTS + EMPTY)(slots, 0.6))
    torch.testing.assert_close(early(slots, 0.5), predictor(model, 1.0)(slots, 0.5), atol=1e-5, rtol=1e-5)
    hook.remove()
    assert rows == [4, 4, 2, 2]
