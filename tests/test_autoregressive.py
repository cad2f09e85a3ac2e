"""Laws of models/autoregressive.py: the fast loop draws what the plain one draws."""

import pytest
import torch
from torch import Tensor

from tests.doubles import prompt_of, toy_transformer
from tokenloom.models.autoregressive import generate
from tokenloom.models.guidance import guide
from tokenloom.models.sampling import sample
from tokenloom.models.transformer import Role, SharedTransformer

GRID = (3, 4)
COUNT = 12
PROMPTS = [[5, 6, 7, 8], [9]]


@pytest.fixture(scope="module")
def model() -> SharedTransformer:
    return toy_transformer(image_grid=GRID)


def chances(count: int, seed: int = 0) -> Tensor:
    """Uniform numbers (count, N), a generator per picture."""
    return torch.stack([torch.rand(COUNT, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)])


@torch.no_grad()
def plain(model: SharedTransformer, prompts, uniforms: Tensor, scale: float, **settings) -> Tensor:
    """The picture so far through the whole model at every step, without a cache of its codes."""
    prompt, positions = prompt_of(model, prompts)
    rows, batch = len(prompts), len(uniforms)
    ids = torch.full((rows, 1), model.vocabulary.special("begin_image"))
    roles = torch.full((rows,), int(Role.AR))
    for uniform in uniforms.unbind(1):
        now = positions[:, : ids.shape[1]]
        hidden = model(model.embedding(ids), now, torch.zeros(rows), roles, prompt, roles == Role.AR)
        codes = sample(guide(model.logits(hidden[:, -1]), scale), uniform, **settings)
        new = model.vocabulary.to_shared(codes, "image").repeat(rows // batch)
        ids = torch.cat([ids, new.unsqueeze(1)], dim=1)
    return model.vocabulary.to_local(ids[:batch, 1:], "image")


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.6}])
def test_the_same_chances_give_the_codes_of_the_plain_loop(model, scale, settings):
    prompts = PROMPTS if scale == 1 else [*PROMPTS, [], []]
    uniforms = chances(len(PROMPTS))
    drawn = generate(model, *prompt_of(model, prompts), uniforms, guidance_scale=scale, **settings)
    assert drawn.dtype == torch.int64 and drawn.shape == (len(PROMPTS), COUNT)
    assert torch.equal(drawn, plain(model, prompts, uniforms, scale, **settings))


def test_a_picture_does_not_depend_on_its_batch(model):
    together = generate(model, *prompt_of(model, PROMPTS), chances(2))
    for row, prompt in enumerate(PROMPTS):
        alone = generate(model, *prompt_of(model, [prompt]), chances(1, seed=row))
        assert torch.equal(alone[0], together[row])


def test_guidance_by_the_prompt_itself_changes_nothing(model):
    """Both halves see the same prompt, so their difference, whatever its scale, is nothing."""
    unguided = generate(model, *prompt_of(model, PROMPTS), chances(2))
    guided = generate(model, *prompt_of(model, PROMPTS * 2), chances(2), guidance_scale=5.0)
    assert torch.equal(guided, unguided)


def test_the_callback_counts_the_steps_and_the_codes_may_be_changed(model):
    steps: list[int] = []
    codes = generate(model, *prompt_of(model, PROMPTS), chances(2), callback=steps.append)
    assert steps == list(range(COUNT))
    codes += 1  # an inference tensor would refuse
