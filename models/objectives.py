"""What the decoders are trained on: one loss per decoder, all by cross-entropy on the same codes of the same pictures.

B pictures, N codes each, P tokens of a prompt. Prompts run through the trunk once; their keys and values then serve a
segment per decoder, so that three decoders cost three pictures and one text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..tokenizers.sequence import media_positions, text_positions
from .corruption import add_noise, mask_ids
from .diffusion import evidence
from .head_loss import head_loss
from .schedules import cosine_masked_share
from .transformer import Role, SharedTransformer

ROLES = {"ar": Role.AR, "masked": Role.MASKED, "diffusion": Role.DIFFUSION}


@dataclass(frozen=True)
class Batch:
    """Prompts int64 (B, P) with `real` bool (B, P), and codes int64 (B, N), local ids."""

    prompts: Tensor
    real: Tensor
    codes: Tensor


class DecoderLosses(nn.Module):
    """A transformer and the decoders it is trained for, as a module whose forward is the loss."""

    def __init__(self, model: SharedTransformer, decoders: Sequence[str]):
        super().__init__()
        unknown = set(decoders) - set(ROLES)
        if unknown or not decoders:
            raise ValueError(f"decoders are {', '.join(ROLES)}, got {', '.join(decoders) or 'none'}")
        self.model = model
        self.decoders = tuple(decoders)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean cross-entropy in nats per code of each decoder; all noise comes from the CPU `generator`."""
        model, count = self.model, len(batch.codes)
        prompt = model.prefill(
            batch.prompts, text_positions(batch.prompts.shape[1]).to(batch.prompts.device), batch.real
        )
        rows = [getattr(self, f"_{name}")(batch.codes, generator) for name in self.decoders]
        repeats = len(rows)
        roles = torch.tensor([ROLES[name] for name in self.decoders]).repeat_interleave(count).to(batch.codes.device)
        starts = batch.real.sum(1)[:, None, None]
        positions = media_positions(model.config.image_grid).to(starts.device) + starts
        hidden = model(
            torch.cat([x for x, _, _, _ in rows]),
            positions.repeat(repeats, 1, 1),
            torch.cat([time for _, time, _, _ in rows]),
            roles,
            prompt.repeat(repeats),
            roles == Role.AR,
        ).chunk(repeats)
        losses = {}
        for name, slots, (_, _, learned, prior) in zip(self.decoders, hidden, rows, strict=True):
            slots = slots[:, :-1] if name == "ar" else slots[:, 1:]
            prior = None if prior is None else prior.flatten(0, 1)
            losses[name] = head_loss(slots[learned], model.head.weight, batch.codes[learned], prior)
        return losses

    def _embedded(self, ids: Tensor) -> Tensor:
        begin = ids.new_full((len(ids), 1), self.model.vocabulary.special("begin_image"))
        return self.model.embedding(torch.cat([begin, ids], dim=1))

    def _ar(self, codes: Tensor, generator: torch.Generator) -> "_Row":
        x = self._embedded(codes + self.model.vocabulary.range("image").start)
        return x, x.new_zeros(len(x)), torch.ones_like(codes, dtype=torch.bool), None

    def _masked(self, codes: Tensor, generator: torch.Generator) -> "_Row":
        times = torch.rand(len(codes), generator=generator)
        shares = torch.tensor([cosine_masked_share(t) for t in times.tolist()])
        order = torch.rand(codes.shape, generator=generator)
        vocabulary = self.model.vocabulary
        ids = codes + vocabulary.range("image").start
        device = codes.device
        ids, hidden = mask_ids(ids, shares.to(device), order.to(device), vocabulary.special("mask"))
        x = self._embedded(ids)
        return x, x.new_zeros(len(x)), hidden, None

    def _diffusion(self, codes: Tensor, generator: torch.Generator) -> "_Row":
        model, codebook = self.model, self.model.standardized_codebook()
        # Density 2 t: at low t the evidence alone says every code, and there is nothing to learn.
        time = torch.rand(len(codes), generator=generator).sqrt().to(codes.device)
        noise = torch.randn(*codes.shape, codebook.shape[1], generator=generator).to(codes.device)
        noisy = add_noise(codebook[codes], noise, time)
        begin = self._embedded(codes[:, :0])
        x = torch.cat([begin, model.latent_in(noisy)], dim=1)
        return x, time, torch.ones_like(codes, dtype=torch.bool), evidence(noisy, time, codebook)


_Row = tuple[
    Tensor, Tensor, Tensor, Tensor | None
]  # slots (B, 1 + N, D), time (B,), learned (B, N), evidence (B, N, V)
