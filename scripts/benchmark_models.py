"""Speed of the models beside their peers: tokens drawn by `ar`, pictures by `diffusion`, steps of training.

All have 8 layers of width 256 with 4 heads and 256 places, and random weights: time does not depend on them.
"""

import itertools
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenloom.models import autoregressive
from tokenloom.models.objectives import Batch, DecoderLosses
from tokenloom.models.transformer import SharedTransformer, TransformerConfig
from tokenloom.pipelines.draw_codes import CodeBatch, draw_diffusion, prefilled
from tokenloom.pipelines.sampler_settings import DEFAULTS, settings_of
from tokenloom.scripts import peers
from tokenloom.scripts.side_by_side import side_by_side, table

CONFIG = TransformerConfig(
    text_vocab_size=512, image_levels=(8, 8, 8, 16), image_grid=(16, 16), width=256, num_layers=8, num_heads=4
)
PROMPT = [5, 6, 7, 8, 9]  # and BEGIN before it
PEER_STEPS = 50


def millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


def ar_decode(rounds: int, *, batch: int, tokens: int, target: float) -> str:
    """Whole calls, prompt and sampling included; one token is a unit of work."""
    model, llama = SharedTransformer(CONFIG).eval(), peers.llama(CONFIG)
    ids = torch.randint(CONFIG.num_codes, (batch, 1 + len(PROMPT)))
    nothing = torch.zeros(batch, CONFIG.num_positions, dtype=torch.long)
    prompts = CodeBatch([PROMPT] * batch, [], nothing, nothing.bool())
    uniforms = torch.rand(batch, tokens)

    def ours() -> Tensor:
        with torch.no_grad():
            return autoregressive.generate(model, *prefilled(model, prompts, 1.0), uniforms)

    cases: dict[str, Callable[[], object]] = {"tokenloom": ours}
    for cache in ("dynamic", "static"):
        cases[f"transformers, {cache} cache"] = partial(peers.generate, llama, ids, tokens, cache)
    title = (
        f"ar-decode, {batch} at once, {tokens} tokens after {ids.shape[1]} ({millions(llama)} of a Llama): one token"
    )
    seconds = side_by_side(cases, rounds)
    return table(title, seconds, per=tokens, peers=list(cases)[1:], target=target)


def diffusion(rounds: int, *, target: float) -> str:
    """One guided picture: ours from prompt to codes, the peer's from noise to latents; it has no head, no codebook."""
    config = TransformerConfig(text_vocab_size=512, image_grid=(16, 16), width=256, num_layers=8, num_heads=4)
    model, dit = SharedTransformer(config).eval(), peers.dit(config)
    settings = DEFAULTS["diffusion"]
    nothing = torch.zeros(1, config.num_positions, dtype=torch.long)

    def ours(steps: int) -> Tensor:
        batch = CodeBatch([PROMPT], [torch.Generator().manual_seed(0)], nothing, nothing.bool())
        with torch.no_grad():
            return draw_diffusion(model, batch, settings_of("diffusion", num_inference_steps=steps), None)

    default, peer = settings.num_inference_steps, f"diffusers DiT, {PEER_STEPS} steps"
    seconds = side_by_side(
        {
            f"tokenloom, {default} steps": lambda: ours(default),
            f"tokenloom, {PEER_STEPS} steps": lambda: ours(PEER_STEPS),
            peer: lambda: peers.guided_picture(dit, PEER_STEPS, settings.guidance_scale),
        },
        rounds,
    )
    title = (
        f"diffusion, a guided picture of {config.num_positions} tokens "
        f"(ours has {millions(model)} parameters, the DiT {millions(dit)})"
    )
    return table(title, seconds, peers=[peer], target=target)


def train_step(rounds: int, *, batch: int, compiled: bool, target: float) -> str:
    """Forward, backward, clipping and AdamW on as many codes, with the options that `tokenloom train` has."""
    codes = torch.randint(CONFIG.num_codes, (batch, CONFIG.num_positions))
    cases: dict[str, Callable[[], object]] = {}
    for compile_it, bfloat16 in itertools.product((False, True) if compiled else (False,), (False, True)):
        options = ", compiled" * compile_it + ", bfloat16" * bfloat16
        cases[f"tokenloom{options}"] = _our_step(codes, compile_it, bfloat16)
        cases[f"nanoGPT-like{options}"] = _peer_step(codes, compile_it, bfloat16)
    title = (
        f"train-step, {batch} x {CONFIG.num_positions} codes of {CONFIG.num_codes} "
        f"({millions(SharedTransformer(CONFIG))}, the peer {millions(peers.NanoGPT(CONFIG))})"
    )
    return table(title, side_by_side(cases, rounds), peers=["nanoGPT-like"], target=target)


def _our_step(codes: Tensor, compiled: bool, bfloat16: bool) -> Callable[[], object]:
    model = SharedTransformer(CONFIG)
    losses = DecoderLosses(model, ("ar",))
    prompts = torch.full((len(codes), 1), model.vocabulary.special("begin"))
    batch = Batch(prompts, torch.ones_like(prompts, dtype=torch.bool), codes[:, None], torch.zeros_like(prompts))
    if compiled:  # as train_model.py does
        model.trunk = torch.compile(model.trunk, dynamic=False)  # type: ignore[method-assign]
    return _step(losses, lambda: losses(batch, torch.Generator())["ar"], bfloat16)


def _peer_step(codes: Tensor, compiled: bool, bfloat16: bool) -> Callable[[], object]:
    model = peers.NanoGPT(CONFIG)
    inputs = codes.roll(1, dims=1)
    run = torch.compile(model, dynamic=False) if compiled else model
    return _step(model, lambda: F.cross_entropy(run(inputs).flatten(0, 1), codes.flatten()), bfloat16)


def _step(module: nn.Module, loss: Callable[[], Tensor], bfloat16: bool) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
