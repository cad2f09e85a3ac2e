"""Prompts and sounds as tokens in, the codes of a sound out: each decoder's loop with its chance.

All chance is drawn on the CPU, from one generator per sound, so a sound depends on its own seed and not on its batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.attention import KVCache
from ..models.sound import draw_length, speak_ar, speak_diffusion, speak_masked
from ..models.sound_objectives import Sounds
from ..models.transformer import SharedTransformer
from .sampler_settings import SamplerSettings

DEFAULTS = {
    "ar": SamplerSettings(guidance_scale=1.5, temperature=0.7),
    "masked": SamplerSettings(guidance_scale=1.5, num_inference_steps=16, temperature=0.7, choice_temperature=2.0),
    "diffusion": SamplerSettings(guidance_scale=3.0, num_inference_steps=16),
}  # of speech


def speak(
    model: SharedTransformer,
    decoder: str,
    prompt: KVCache,
    generators: Sequence[torch.Generator],
    settings: SamplerSettings,
    steps: int | None = None,
) -> Sounds:
    """Draw a sound after each prompt; with guidance `prompt` has twice as many rows, the conditional ones first.

    `steps` says how long all of them will be; left out, the model does. `ar` ends by itself.
    """
    part, device, count = model.sound, prompt.mask.device, len(generators)
    if decoder == "ar":
        slots = (steps or part.max_steps) + part.num_codebooks
        uniforms = torch.stack([torch.rand(slots, part.num_codebooks, generator=g) for g in generators]).to(device)
        how = {"temperature": settings.temperature, "top_p": settings.top_p}
        return Sounds(*speak_ar(model, prompt, uniforms, guidance_scale=settings.guidance_scale, **how))
    uniform = torch.stack([torch.rand((), generator=g) for g in generators]).to(device)
    lengths = torch.full((count,), steps, device=device) if steps else draw_length(model, first(prompt, count), uniform)
    real = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
    if decoder == "masked":
        draws = part.num_codebooks, settings.num_inference_steps, 2, part.max_steps
        chance = torch.stack([torch.rand(draws, generator=g) for g in generators], dim=3).to(device)
        codes = speak_masked(
            model,
            prompt,
            real,
            chance[..., : real.shape[1]],
            guidance_scale=settings.guidance_scale,
            temperature=settings.temperature,
            choice_temperature=settings.choice_temperature,
        )
        return Sounds(codes, real)
    shape = part.max_steps, len(part.latent_mean)
    noise = torch.stack([torch.randn(shape, generator=g) for g in generators])[:, : real.shape[1]].to(device)
    codes = speak_diffusion(
        model,
        prompt,
        real,
        noise,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
    )
    return Sounds(codes, real)


def first(cache: KVCache, count: int) -> KVCache:
    """The first sequences of a cache."""
    rows: Tensor = torch.arange(count, device=cache.mask.device)
    return cache.select(rows)
