"""Laws of models/objectives.py: each loss by its definition; a tiny model learns a batch by heart and draws it.

The losses are cross-entropies in nats per code, so that each has a value that can be computed another way.
"""

import math
from dataclasses import astuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.doubles import prompt_of, toy_transformer
from tokenloom.models import diffusion, masked
from tokenloom.models.guidance import image_predictor
from tokenloom.models.objectives import ROLES, Batch, DecoderLosses
from tokenloom.models.optimizers import muon_and_adamw
from tokenloom.models.sampling import sample
from tokenloom.models.schedules import falling_times
from tokenloom.models.transformer import Role, SharedTransformer
from tokenloom.tokenizers.sequence import prompt_batch

PROMPTS = [[5, 6, 7], [8], [9, 10], [11, 5]]
CODES = torch.tensor([[1, 2, 3, 4], [11, 0, 5, 5], [2, 7, 9, 10], [6, 6, 0, 1]])  # (B, N)


def batch_of(model: SharedTransformer, padding: int = 0) -> Batch:
    prompts, real = prompt_batch(PROMPTS, model.vocabulary)
    frames = torch.zeros(len(CODES), 1, dtype=torch.long)
    padded = F.pad(prompts, (0, padding), value=3), F.pad(real, (0, padding), value=False)
    return Batch(*padded, CODES.unsqueeze(1), frames)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def losses_of(model: SharedTransformer, *decoders: str, seed: int = 0, padding: int = 0) -> dict[str, float]:
    losses = DecoderLosses(model, decoders)(batch_of(model, padding), chance(seed))
    return {name: float(value) for name, value in losses.items()}


# ----------------------------------------------------------------------------------------------------------- drawing


def ar_logits(model: SharedTransformer, ids: Tensor) -> Tensor:
    """Logits of the next code after `ids` (B, n), by a pass of its own over BEGIN and these codes."""
    cache, positions = prompt_of(model, PROMPTS)
    begin = ids.new_full((len(ids), 1), model.vocabulary.special("begin_image"))
    x = model.embedding(torch.cat([begin, ids + model.vocabulary.range("image").start], dim=1))
    count = len(ids)
    roles, causal = torch.full((count,), int(Role.AR)), torch.ones(count, dtype=torch.bool)
    return model.logits(model(x, positions[:, : x.shape[1]], torch.zeros(count), roles, cache, causal)[:, -1])


def draw_ar(model: SharedTransformer) -> Tensor:
    ids = CODES[:, :0]
    for uniforms in torch.rand(CODES.shape, generator=chance(1)).T:
        ids = torch.cat([ids, sample(ar_logits(model, ids), uniforms).unsqueeze(1)], dim=1)
    return ids


def draw_masked(model: SharedTransformer) -> Tensor:
    predict = image_predictor(model, *prompt_of(model, PROMPTS), Role.MASKED, 1.0)
    first, mask_id = model.vocabulary.range("image").start, model.vocabulary.special("mask")
    nothing, uniforms = torch.zeros_like(CODES, dtype=torch.bool), torch.rand(4, 2, *CODES.shape, generator=chance(1))
    return masked.unmask(
        lambda ids, hidden, time: predict(model.embedding((ids + first).masked_fill(hidden, mask_id)), 0.0),
        torch.zeros_like(CODES),
        nothing,
        uniforms,
    )


def draw_diffusion(model: SharedTransformer) -> Tensor:
    predict = image_predictor(model, *prompt_of(model, PROMPTS), Role.DIFFUSION, 1.0)
    noise = torch.randn(*CODES.shape, len(model.config.image_levels), generator=chance(1))
    field = diffusion.velocity_field(
        lambda x, t: predict(model.latent_in(x), float(t[0])), model.standardized_codebook()
    )
    return model.snap(diffusion.euler(field, noise, falling_times(8)))


DRAW = {"ar": draw_ar, "masked": draw_masked, "diffusion": draw_diffusion}


@pytest.mark.parametrize(
    "decoders", [("ar",), ("masked",), ("diffusion",), ("ar", "masked", "diffusion")], ids="+".join
)
def test_a_tiny_model_learns_one_batch_by_heart_and_draws_it(decoders):
    model = toy_transformer(alive=False, width=48).train()
    losses = DecoderLosses(model, decoders)
    optimizers = muon_and_adamw(model.blocks, losses, muon_lr=0.05, adamw_lr=0.02)
    batch, steps = batch_of(model), 300
    batch = Batch(*(torch.cat([part] * 8) for part in astuple(batch)[:4]))  # eight noises at once
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = (0.05 if "momentum" in group else 0.02) * (1 - step / steps)
        torch.stack(list(losses(batch, chance(step)).values())).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    learned = losses_of(model, *decoders)
    assert max(learned.values()) < 0.3, learned
    with torch.no_grad():
        for decoder in decoders:
            assert torch.equal(DRAW[decoder](model), CODES), decoder


# ------------------------------------------------------------------------------------------------------ by definition


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_codebook():
    model = toy_transformer()
    torch.nn.init.zeros_(model.head.weight)
    losses = losses_of(model, "ar", "masked", "diffusion")
    assert losses["ar"] == pytest.approx(math.log(12)) and losses["masked"] == pytest.approx(math.log(12))
    assert losses["diffusion"] < math.log(12)  # the evidence is a part of its answer and need not be learned


def test_the_loss_of_ar_is_what_drawing_token_by_token_would_pay():
    model = toy_transformer()
    with torch.no_grad():
        steps = [F.cross_entropy(ar_logits(model, CODES[:, :n]), CODES[:, n]) for n in range(CODES.shape[1])]
    assert losses_of(model, "ar")["ar"] == pytest.approx(float(torch.stack(steps).mean()), rel=1e-4)


def test_the_loss_of_masked_counts_the_masked_positions_alone():
    """The noise is drawn again here, in the order in which the objective draws it."""
    model, generator = toy_transformer(), chance()
    shares = torch.sin(torch.rand(4, generator=generator) * math.pi / 2)
    order = torch.rand(4, 4, generator=generator)
    hidden = order.argsort(1).argsort(1) < (shares * 4).round().clamp(min=1)[:, None]
    ids = (CODES + model.vocabulary.range("image").start).masked_fill(hidden, model.vocabulary.special("mask"))
    with torch.no_grad():
        predict = image_predictor(model, *prompt_of(model, PROMPTS), Role.MASKED, 1.0)
        expected = F.cross_entropy(predict(model.embedding(ids), 0.0)[hidden], CODES[hidden])
    assert losses_of(model, "masked")["masked"] == pytest.approx(float(expected), rel=1e-4)


def test_the_loss_of_diffusion_is_the_posterior_of_the_code_by_bayes_rule():
    """Prior: the model's logits. Likelihood: torch's normal density of x_t around each code."""
    model, generator = toy_transformer(), chance()
    model.latent_mean.fill_(0.1)
    model.latent_std.fill_(0.6)
    codebook = (model.quantizer.codebook() - 0.1) / 0.6
    time = torch.rand(4, generator=generator).sqrt()
    noise = torch.randn(4, 4, 2, generator=generator)
    t = time[:, None, None]
    x = (1 - t) * codebook[CODES] + t * noise
    likelihood = torch.distributions.Normal((1 - t[..., None]) * codebook, t[..., None])
    with torch.no_grad():
        cache, positions = prompt_of(model, PROMPTS)
        begin = model.embedding(torch.full((4, 1), model.vocabulary.special("begin_image")))
        slots = torch.cat([begin, model.latent_in(x)], dim=1)
        bidirectional = torch.zeros(4, dtype=torch.bool)
        hidden = model(slots, positions, time, torch.full((4,), int(Role.DIFFUSION)), cache, bidirectional)
        posterior = model.logits(hidden[:, 1:]) + likelihood.log_prob(x.unsqueeze(2)).sum(-1)
    expected = F.cross_entropy(posterior.flatten(0, 1), CODES.flatten())
    assert time.min() > diffusion.SMALLEST_TIME
    assert losses_of(model, "diffusion")["diffusion"] == pytest.approx(float(expected), rel=1e-3)


# ------------------------------------------------------------------------------------------------ what must not count


@pytest.mark.parametrize("decoder", ROLES)
def test_padding_of_prompts_does_not_count(decoder):
    model = toy_transformer()
    plain, padded = (losses_of(model, decoder, padding=padding)[decoder] for padding in (0, 6))
    assert padded == pytest.approx(plain, rel=1e-5)


def test_training_jointly_asks_each_decoder_the_same_as_training_it_alone():
    """`ar` draws no noise, and the decoder that draws first draws the same."""
    model = toy_transformer()
    both, three = losses_of(model, "masked", "ar"), losses_of(model, "ar", "masked", "diffusion")
    assert both["ar"] == pytest.approx(losses_of(model, "ar")["ar"], rel=1e-5)
    assert three["masked"] == pytest.approx(both["masked"], rel=1e-5)
    assert both["masked"] == pytest.approx(losses_of(model, "masked")["masked"], rel=1e-5)


def test_losses_depend_on_the_generator_and_on_nothing_else():
    model = toy_transformer()
    torch.manual_seed(1)
    first = losses_of(model, "ar", "masked", "diffusion")
    torch.manual_seed(2)
    assert losses_of(model, "ar", "masked", "diffusion") == first
    other = losses_of(model, "ar", "masked", "diffusion", seed=1)
    assert other["masked"] != first["masked"] and other["diffusion"] != first["diffusion"]


def test_every_parameter_learns_when_all_decoders_do():
    model = toy_transformer()
    torch.stack(list(DecoderLosses(model, list(ROLES))(batch_of(model), chance()).values())).mean().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == ["blocks.0.attention.first_value_share"]  # the first layer's values are mixed with nothing


@pytest.mark.parametrize("decoders", [(), ("gan",), ("ar", "gan")])
def test_a_decoder_that_is_not_there_is_refused(decoders):
    with pytest.raises(ValueError, match="decoders are ar, masked, diffusion, got"):
        DecoderLosses(toy_transformer(), decoders)


def test_a_frame_of_a_clip_is_learned_after_those_that_are_given_and_depends_on_them():
    model = toy_transformer(num_frames=5)
    batch = batch_of(model)
    others = torch.stack([CODES.roll(1, 0), CODES.roll(2, 0), CODES], dim=1)
    numbers = torch.tensor([0, 4, 2]).expand(len(CODES), -1)

    @torch.no_grad()
    def losses(codes: Tensor, frames: Tensor) -> dict[str, float]:
        made = DecoderLosses(model, tuple(ROLES))(Batch(batch.prompts, batch.real, codes, frames), chance())
        return {name: float(value) for name, value in made.items()}

    after = losses(others, numbers)
    assert after == losses(others, numbers)
    for changed in (
        losses(others.roll(1, 0), numbers),
        losses(others, numbers.roll(1, 1)),
        losses(others[:, 2:], numbers[:, 2:]),
    ):
        assert all(changed[name] != after[name] for name in ROLES)
