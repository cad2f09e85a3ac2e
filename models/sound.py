"""Sounds in the shared transformer: read whole, or drawn by any of the three decoders, K codes a step.

B sounds, t steps, K codebooks, D width, d latent dimensions, P tokens before. Codes are local ids (B, t, K); `real`
(B, t) is false where a shorter sound was padded. Sound is one-dimensional, as text is, and its slots sit on the same
diagonal: BEGIN at (p, p, p), step i at (p + 1 + i, ...).

`ar` draws with a delay (MusicGen, arXiv:2306.05284): codebook k lags k slots behind the first, so one slot says K codes
of which none needs another of the same slot. A slot reads what the one before said:

    slot            BEGIN   1    2    3    4
    codebook 0 says   a0   a1   a2  END    .
    codebook 1 says    .   b0   b1   b2    .

`masked` draws one codebook after the other, `diffusion` the latents that the codes add up to. Both need to know the
number of steps before, which a head says at BEGIN.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokenizers.sequence import text_positions
from . import diffusion, masked
from .attention import KVCache
from .guidance import guide
from .masks import segment_mask
from .sampling import sample
from .schedules import falling_times
from .token_decoder import TokenDecoder
from .transformer import Role, SharedTransformer

NONE = -1  # a codebook that says nothing in this slot
LEAST_STEPS = 2  # of a sound that is drawn: the samples of a step are complete with the next


def delayed(codes: Tensor, real: Tensor, end: int) -> Tensor:
    """Codes (B, t, K) -> what each slot of `ar` says, int64 (B, t + K, K): a code, END once, or NONE."""
    batch, steps, books = codes.shape
    said = codes.new_full((batch, steps + books, books), NONE)
    filled = codes.masked_fill(~real.unsqueeze(-1), NONE)
    for book in range(books):
        said[:, book : book + steps, book] = filled[:, :, book]
    said[torch.arange(batch), real.sum(1), 0] = end
    return said


def undelayed(said: Tensor, num_steps: Tensor) -> tuple[Tensor, Tensor]:
    """`delayed` undone, for sounds of `num_steps` (B,): codes (B, t, K), 0 where padded, and `real` (B, t)."""
    books, longest = said.shape[2], int(num_steps.max())
    codes = torch.stack([said[:, book : book + longest, book] for book in range(books)], dim=-1)
    real = torch.arange(longest, device=said.device) < num_steps[:, None]
    return codes.masked_fill(~real.unsqueeze(-1), 0), real


def embed_codes(model: SharedTransformer, codes: Tensor) -> Tensor:
    """Codes (B, t, K), MASK where NONE or END -> the sum of their embeddings (B, t, D)."""
    first = [model.vocabulary.range("audio", book).start for book in range(codes.shape[-1])]
    ids = codes + torch.tensor(first, device=codes.device)
    hidden = (codes < 0) | (codes >= model.sound.num_codes)
    return model.embedding(ids.masked_fill(hidden, model.vocabulary.special("mask"))).sum(2)


def begin_of(model: SharedTransformer, rows: int) -> Tensor:
    """The embedded BEGIN of sounds: (rows, 1, D)."""
    begin = torch.tensor([[model.vocabulary.special("begin_audio")]], device=model.embedding.weight.device)
    return model.embedding(begin).expand(rows, 1, -1)


def slots_after(
    model: SharedTransformer, x: Tensor, time: Tensor, role: Tensor, past: KVCache, real: Tensor
) -> tuple[Tensor, KVCache]:
    """Embedded slots (B, L, D) of a sound that starts after `past`, BEGIN first -> hidden (B, L, D), and their cache.

    `time` and `role` (B,) as in `SharedTransformer.forward`; `real` (B, L).
    """
    length = x.shape[1]
    positions = past.start[:, None, None] + text_positions(length, device=x.device)
    mask = segment_mask(past.mask, role == Role.AR, length, real=real)
    hidden, cache = model.trunk(x, positions, model.modulation(time, role), mask, past)
    cache.mask = real
    return hidden, cache


def hear(model: SharedTransformer, codes: Tensor, real: Tensor, past: KVCache) -> KVCache:
    """`past`, and after it a sound that is given; what comes next starts one past its last step."""
    rows = len(codes)
    x = torch.cat([begin_of(model, rows), embed_codes(model, codes)], dim=1)
    role = torch.full((rows,), Role.GIVEN, device=x.device)
    _, cache = slots_after(model, x, x.new_zeros(rows), role, past, F.pad(real, (1, 0), value=True))
    heard = past.extend(cache)
    heard.start = past.start + 1 + real.sum(1)
    return heard


def length_logits(model: SharedTransformer, prompt: KVCache) -> Tensor:
    """How many steps the sound after a prompt will have: logits (B, max_steps) over 1, 2, ..."""
    rows = len(prompt.start)
    x = begin_of(model, rows)
    role = torch.full((rows,), Role.MASKED, device=x.device)
    hidden, _ = slots_after(model, x, x.new_zeros(rows), role, prompt, x.new_ones(rows, 1, dtype=torch.bool))
    logits: Tensor = model.sound.length(hidden[:, 0])
    return logits


@torch.no_grad()
def speak_ar(
    model: SharedTransformer,
    prompt: KVCache,
    uniforms: Tensor,
    *,
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Draw B sounds until END: codes int64 (B, t, K), and `real` (B, t).

    `prompt` has B rows (or 2 B, with guidance, the conditional ones first); `uniforms` (B, max_steps + K, K) in [0, 1)
    decide every draw, and how long a sound may become.
    """
    (batch, slots, books), device = uniforms.shape, uniforms.device
    part, rows = model.sound, len(prompt.start)
    longest = slots - books
    said = torch.full((batch, slots, books), NONE, device=device)
    num_steps = torch.full((batch,), longest, device=device)  # until END says less
    lags = torch.arange(slots, device=device)[:, None] - torch.arange(books, device=device)  # (slots, K)
    with torch.inference_mode():  # the small operations of a step start faster in it than under no_grad
        modulation = model.modulation(uniforms.new_zeros(1), torch.tensor([Role.AR], device=device))
        positions = prompt.start[:, None, None] + text_positions(slots, device=device)
        decoder = TokenDecoder(model, modulation, prompt, positions, part.heads.flatten(0, 1))
        x = begin_of(model, rows)[:, 0].float().clone()
        for slot, lag in enumerate(lags.unbind(0)):
            logits = decoder.logits(guide(decoder(x), guidance_scale)).unflatten(1, (books, -1))  # (B, K, V + 1)
            logits[:, 1:, part.end] = -torch.inf
            if slot < LEAST_STEPS:
                logits[:, 0, part.end] = -torch.inf
            drawn = sample(logits, uniforms[:, slot], temperature=temperature, top_p=top_p)  # (B, K)
            num_steps = torch.where((drawn[:, 0] == part.end) & (num_steps > slot), slot, num_steps)
            said[:, slot] = drawn.where((lag >= 0) & (lag < num_steps[:, None]), NONE)
            if slot >= int(num_steps.max()) + books - 2:
                break
            x = embed_codes(model, said[:, slot : slot + 1])[:, 0].float().repeat(rows // batch, 1)
    return undelayed(said, num_steps)


@torch.no_grad()
def draw_length(model: SharedTransformer, prompt: KVCache, uniform: Tensor, *, temperature: float = 1.0) -> Tensor:
    """How many steps sounds after B prompts will have: int64 (B,), decided by `uniform` (B,)."""
    return (sample(length_logits(model, prompt), uniform, temperature=temperature) + 1).clamp(min=LEAST_STEPS)


Predict = Callable[[Tensor, float], Tensor]  # embedded steps (B, t, D) and time -> hidden steps (B, t, D), guided


def predictor(model: SharedTransformer, prompt: KVCache, real: Tensor, role: Role, guidance_scale: float) -> Predict:
    """What `masked` and `diffusion` call at each step. `prompt` has B rows, or with guidance 2 B."""
    rows = len(prompt.start)
    repeats = rows // len(real)
    everywhere = F.pad(real, (1, 0), value=True).repeat(repeats, 1)
    roles = torch.full((rows,), int(role), device=real.device)

    def predict(steps: Tensor, time: float) -> Tensor:
        x = torch.cat([begin_of(model, rows), steps.repeat(repeats, 1, 1)], dim=1)
        hidden, _ = slots_after(model, x, x.new_full((rows,), time), roles, prompt, everywhere)
        return guide(hidden[:, 1:], guidance_scale)

    return predict


@torch.no_grad()
def speak_masked(
    model: SharedTransformer,
    prompt: KVCache,
    real: Tensor,
    uniforms: Tensor,
    *,
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    choice_temperature: float = 1.0,
) -> Tensor:
    """Draw sounds of known lengths, one codebook after the other: codes int64 (B, t, K), 0 where not `real`.

    `uniforms` (K, steps, 2, B, t) in [0, 1), see `masked.unmask`.
    """
    part = model.sound
    predict = predictor(model, prompt, real, Role.MASKED, guidance_scale)
    codes = torch.full((*real.shape, part.num_codebooks), NONE, device=real.device)
    for book in range(part.num_codebooks):

        def logits(ids: Tensor, hidden: Tensor, time: float, book: int = book) -> Tensor:
            codes[:, :, book] = ids.masked_fill(hidden, NONE)
            found: Tensor = predict(embed_codes(model, codes), 0.0) @ part.heads[book, : part.num_codes].T
            return found

        start = torch.zeros_like(real, dtype=torch.long)
        codes[:, :, book] = masked.unmask(
            logits,
            start,
            ~real,
            uniforms[book],
            temperature=temperature,
            choice_temperature=choice_temperature,
        )
    return codes.masked_fill(~real.unsqueeze(-1), 0)


@torch.no_grad()
def speak_diffusion(
    model: SharedTransformer,
    prompt: KVCache,
    real: Tensor,
    noise: Tensor,
    *,
    num_inference_steps: int,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Draw sounds of known lengths out of noise (B, t, d): codes int64 (B, t, K), 0 where not `real`."""
    part = model.sound
    predict = predictor(model, prompt, real, Role.DIFFUSION, guidance_scale)

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        t = float(time[0])
        return (x - part.latent_out(predict(part.latent_in(x), t))) / t

    x = diffusion.multistep(velocity, noise, falling_times(num_inference_steps))
    return part.snap(x).masked_fill(~real.unsqueeze(-1), 0)
