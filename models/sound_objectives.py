"""What is learned of sounds: to draw them after text, or after another sound, and to write what they say.

B examples, P tokens of a prompt, t steps, K codebooks, L tokens of a text. As in objectives.py, what is given runs
through the trunk once, and its keys and values serve a segment per decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tokenizers.sequence import following, text_positions
from .attention import KVCache
from .corruption import add_noise, mask_ids
from .head_loss import head_loss
from .objectives import ROLES
from .schedules import cosine_masked_share
from .sound import NONE, begin_of, delayed, embed_codes, hear, length_logits, slots_after
from .transformer import Role, SharedTransformer

MOST_FORGOTTEN = 0.4  # share of the steps of a sound that `ar` may not read as it learns
SMALLEST_TIME = 0.2  # the velocity loss divides by the time; below, snapping to the codes does what is left


@dataclass(frozen=True)
class Sounds:
    codes: Tensor  # int64 (B, t, K), 0 where padded
    real: Tensor  # bool (B, t)


@dataclass(frozen=True)
class SpeechBatch:
    """After the prompts, and a sound if there is one, either a sound or a text is learned."""

    prompts: Tensor  # int64 (B, P), BEGIN first
    real: Tensor  # bool (B, P)
    heard: Sounds | None
    spoken: Sounds | None  # learned
    written: tuple[Tensor, Tensor] | None  # learned: int64 (B, L), BEGIN first, and bool (B, L)


class SpeechLosses(nn.Module):
    """A transformer and the decoders it is trained for, as a module whose forward is the loss."""

    def __init__(self, model: SharedTransformer, decoders: Sequence[str]):
        super().__init__()
        unknown = set(decoders) - set(ROLES)
        if unknown or not decoders:
            raise ValueError(f"decoders are {', '.join(ROLES)}, got {', '.join(decoders) or 'none'}")
        self.model = model
        self.decoders = tuple(decoders)

    def forward(self, batch: SpeechBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Of each decoder, by its name, and the lengths, in nats; or of the text per token, as "text".

        `ar` and `masked` are cross-entropies per code, `diffusion` is the mean squared error of the velocity. All noise
        comes from the CPU `generator`.
        """
        model = self.model
        positions = text_positions(batch.prompts.shape[1], device=batch.prompts.device)
        past = model.prefill(batch.prompts, positions, batch.real)
        if batch.heard:
            past = hear(model, batch.heard.codes, batch.heard.real, past)
        losses: dict[str, Tensor] = {}
        if batch.written:
            losses["text"] = self._text(*batch.written, past)
        if batch.spoken:
            losses |= self._spoken(batch.spoken, past, generator)
        return losses

    def _text(self, ids: Tensor, real: Tensor, past: KVCache) -> Tensor:
        targets = following(ids, real, self.model.vocabulary)
        hidden, _ = self.model.write(ids, past.start, past)
        return head_loss(hidden[real], self.model.text_head(), targets[real])

    def _spoken(self, sounds: Sounds, past: KVCache, generator: torch.Generator) -> dict[str, Tensor]:
        model = self.model
        lengths = sounds.real.sum(1)
        losses = {"length": F.cross_entropy(length_logits(model, past).float(), lengths - 1)}
        for name in self.decoders:
            losses[name] = getattr(self, f"_{name}")(sounds, past, generator)
        return losses

    def _hidden(self, x: Tensor, time: Tensor, role: Role, past: KVCache, real: Tensor) -> Tensor:
        roles = torch.full((len(x),), int(role), device=x.device)
        hidden, _ = slots_after(self.model, x, time, roles, past, real)
        return hidden

    def _ar(self, sounds: Sounds, past: KVCache, generator: torch.Generator) -> Tensor:
        """Some slots are forgotten: who can guess a code from those just before will not look at the text."""
        model, part = self.model, self.model.sound
        said = delayed(sounds.codes, sounds.real, part.end)
        shares = MOST_FORGOTTEN * torch.rand(len(said), 1, generator=generator)
        forgotten = torch.rand(said.shape[0], said.shape[1] - 1, generator=generator) < shares
        read = said[:, :-1].masked_fill(forgotten.unsqueeze(-1).to(said.device), NONE)
        x = torch.cat([begin_of(model, len(said)), embed_codes(model, read)], dim=1)
        hidden = self._hidden(x, x.new_zeros(len(x)), Role.AR, past, torch.ones_like(said[:, :, 0], dtype=torch.bool))
        losses = []
        for book, targets in enumerate(said.unbind(2)):
            learned = targets != NONE
            losses.append(head_loss(hidden[learned], part.heads[book], targets[learned]))
        return torch.stack(losses).mean()

    def _masked(self, sounds: Sounds, past: KVCache, generator: torch.Generator) -> Tensor:
        """One codebook of each sound, of which a share is hidden; of those before nothing is, of those after all."""
        model, part, (codes, real) = self.model, self.model.sound, (sounds.codes, sounds.real)
        device = codes.device
        book = torch.randint(part.num_codebooks, (len(codes),), generator=generator)
        shares = torch.tensor([cosine_masked_share(t) for t in torch.rand(len(codes), generator=generator).tolist()])
        order = torch.rand(real.shape, generator=generator).to(device).masked_fill(~real, torch.inf)
        # a share of the real steps: padding comes last in the order
        shares = shares.to(device) * real.sum(1) / real.shape[1]
        _, hidden = mask_ids(codes[:, :, 0], shares, order, NONE)
        hidden &= real
        book = book.to(device)
        books = torch.arange(part.num_codebooks, device=device)
        unseen = (books > book[:, None, None]) | ((books == book[:, None, None]) & hidden.unsqueeze(-1))
        x = embed_codes(model, codes.masked_fill(unseen, NONE))
        x = torch.cat([begin_of(model, len(x)), x], dim=1)
        slots = self._hidden(x, x.new_zeros(len(x)), Role.MASKED, past, F.pad(real, (1, 0), value=True))[:, 1:]
        total, count = slots.new_zeros(()), hidden.sum()
        for number in range(part.num_codebooks):
            learned = hidden & (book == number)[:, None]
            if learned.any():
                loss = head_loss(slots[learned], part.heads[number, : part.num_codes], codes[..., number][learned])
                total = total + loss * learned.sum() / count
        return total

    def _diffusion(self, sounds: Sounds, past: KVCache, generator: torch.Generator) -> Tensor:
        """The squared error of the predicted latents over the squared time is that of the velocity."""
        model, part, real = self.model, self.model.sound, sounds.real
        latents = part.to_latents(sounds.codes)
        time = torch.rand(len(latents), generator=generator).to(latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        x = part.latent_in(add_noise(latents, noise, time))
        x = torch.cat([begin_of(model, len(x)), x], dim=1)
        slots = self._hidden(x, time, Role.DIFFUSION, past, F.pad(real, (1, 0), value=True))[:, 1:]
        error = (part.latent_out(slots).float() - latents).square().mean(-1)  # (B, t)
        weighed = error / time.clamp(min=SMALLEST_TIME).square()[:, None]
        return weighed[real].mean()
