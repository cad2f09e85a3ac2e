"""Prompts as tokens in, the codes of pictures out: each decoder's loop with the shared transformer and its chance.

B pictures, N codes each, D latent dimensions. All chance is drawn on the CPU, from one generator per picture, so a
picture depends on its own seed and not on its batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from ..models import autoregressive, diffusion, masked
from ..models.attention import KVCache
from ..models.guidance import image_predictor
from ..models.schedules import falling_times
from ..models.transformer import Role, SharedTransformer
from ..tokenizers.sequence import frame_positions, prompt_batch, text_positions
from .sampler_settings import TIME_SHIFT, SamplerSettings

Progress = Callable[[int, int], None]  # steps done, and in all
AfterStep = Callable[[float, Tensor], Tensor]  # time and x (B, N, D) after a step -> x to go on with
Solver = Callable[[diffusion.Velocity, Tensor, int, AfterStep], Tensor]  # velocity, noise, steps -> x at time 0


def in_parts(callback: Progress | None, count: int) -> list[Progress | None]:
    """What each of `count` equal parts of the work tells, so that `callback` hears of the whole."""

    def told_by(part: int) -> Progress | None:
        return callback and (lambda done, of: callback(part * of + done, count * of))

    return [told_by(part) for part in range(count)]


@dataclass(frozen=True)
class CodeBatch:
    """What is drawn at once: pictures, or one frame of clips. Where `fixed` is true, `known` is what it holds."""

    tokens: list[list[int]]  # of each picture's prompt, B of them
    generators: list[torch.Generator]
    known: Tensor  # int64 (B, N)
    fixed: Tensor  # bool (B, N)
    frame: int = 0  # its number in the clip
    given: dict[int, Tensor] = field(default_factory=dict)  # other frames of the clip, by number: int64 (B, N) each


def prefilled(model: SharedTransformer, batch: CodeBatch, guidance_scale: float) -> tuple[KVCache, Tensor]:
    """Keys and values of the prompts and of what is given of the clips; positions (rows, 1 + N, 3) of what is drawn.

    With guidance there are twice as many rows: then come as many empty prompts, before the same frames.
    """
    device, repeats = model.embedding.weight.device, 1 if guidance_scale == 1 else 2
    ids, real = prompt_batch(batch.tokens + [[]] * ((repeats - 1) * len(batch.tokens)), model.vocabulary)
    ids, real = ids.to(device), real.to(device)
    cache = model.prefill(ids, text_positions(ids.shape[1], device=device), real)
    frames = torch.tensor([*batch.given, batch.frame], device=device)
    positions = frame_positions(model.config.image_grid, frames) + cache.start[:, None, None, None]
    if batch.given:
        codes = torch.stack(list(batch.given.values()), dim=1).repeat(repeats, 1, 1)
        codes = model.vocabulary.to_shared(codes.to(device), "image")
        begin = codes.new_full((*codes.shape[:2], 1), model.vocabulary.special("begin_image"))
        cache = model.read(torch.cat([begin, codes], dim=-1), positions[:, :-1], cache)
    return cache, positions[:, -1]


def draw_ar(model: SharedTransformer, batch: CodeBatch, settings: SamplerSettings, callback: Progress | None) -> Tensor:
    """Codes int64 (B, N), one after the other."""
    prompt, positions = prefilled(model, batch, settings.guidance_scale)
    num_codes = model.config.num_positions
    return autoregressive.generate(
        model,
        prompt,
        positions,
        torch.stack([torch.rand(num_codes, generator=g) for g in batch.generators]).to(positions.device),
        guidance_scale=settings.guidance_scale,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        callback=callback and (lambda step: callback(step + 1, num_codes)),
    )


def draw_masked(
    model: SharedTransformer, batch: CodeBatch, settings: SamplerSettings, callback: Progress | None
) -> Tensor:
    """Codes int64 (B, N), the surest first."""
    prompt, positions = prefilled(model, batch, settings.guidance_scale)
    predict = image_predictor(model, prompt, positions, Role.MASKED, settings.guidance_scale)
    first, mask_id = model.vocabulary.range("image").start, model.vocabulary.special("mask")

    def predict_ids(ids: Tensor, hidden: Tensor, time: float) -> Tensor:
        return predict(model.embedding((ids + first).masked_fill(hidden, mask_id)), 0.0)

    steps, num_codes = settings.num_inference_steps, model.config.num_positions
    uniforms = torch.stack([torch.rand(steps, 2, num_codes, generator=g) for g in batch.generators], dim=2)
    return masked.unmask(
        predict_ids,
        batch.known,
        batch.fixed,
        uniforms.to(positions.device),
        temperature=settings.temperature,
        choice_temperature=settings.choice_temperature,
        callback=callback and (lambda step: callback(step + 1, steps)),
    )


def by(integrate: diffusion.Integrate) -> Solver:
    """A way to integrate, from diffusion.py, at the times that `diffusion` takes."""

    def solve(velocity: diffusion.Velocity, noise: Tensor, steps: int, after: AfterStep) -> Tensor:
        times = falling_times(steps, TIME_SHIFT)
        return integrate(velocity, noise, times, lambda step, x: after(float(times[step + 1]), x))

    return solve


SOLVER = by(diffusion.multistep)  # used when nothing is said


def draw_diffusion(
    model: SharedTransformer,
    batch: CodeBatch,
    settings: SamplerSettings,
    callback: Progress | None,
    solver: Solver = SOLVER,
) -> Tensor:
    """Codes int64 (B, N), all at once out of noise."""
    noise, codebook, steps = noise_of(model, batch.generators), model.standardized_codebook(), count(1)

    def keep(time: float, x: Tensor) -> Tensor:
        """Where the codes are known, their own way from noise to data."""
        if callback:
            callback(next(steps), settings.num_inference_steps)
        return torch.where(batch.fixed.unsqueeze(-1), torch.lerp(codebook[batch.known], noise, time), x)

    velocity = velocity_of(model, batch, settings)
    return model.snap(solver(velocity, noise, settings.num_inference_steps, keep))


def noise_of(model: SharedTransformer, generators: Sequence[torch.Generator]) -> Tensor:
    """What `diffusion` starts from, one picture per generator: (B, N, D)."""
    shape = model.config.num_positions, len(model.config.image_levels)
    return torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(model.embedding.weight.device)


def velocity_of(model: SharedTransformer, batch: CodeBatch, settings: SamplerSettings) -> diffusion.Velocity:
    """The field that `diffusion` follows from noise (time 1) to standardized latents (time 0), given the prompts."""
    prompt, positions = prefilled(model, batch, settings.guidance_scale)
    predict = image_predictor(model, prompt, positions, Role.DIFFUSION, settings.guidance_scale, settings.guides)
    return diffusion.velocity_field(
        lambda x, t: predict(model.latent_in(x), float(t[0])), model.standardized_codebook(), settings.temperature
    )


Draw = Callable[[SharedTransformer, CodeBatch, SamplerSettings, Progress | None], Tensor]
DRAW: dict[str, Draw] = {"ar": draw_ar, "masked": draw_masked, "diffusion": draw_diffusion}
