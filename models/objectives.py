"""What the decoders are trained on: one loss per decoder, all by cross-entropy on the same codes of the same pictures.

The other way round, the text is learned after the picture, token by token.

B pictures, N codes each, P tokens of a prompt, m frames of a clip that are given. What is given runs through the trunk
once; its keys and values then serve a segment per decoder, so that three decoders cost three pictures and one text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..tokenizers.sequence import following, frame_positions, text_positions
from .corruption import add_noise, mask_ids
from .diffusion import evidence
from .head_loss import head_loss
from .schedules import cosine_masked_share
from .transformer import Role, SharedTransformer

Noise = dict[str, tuple[Tensor, ...]]  # of each decoder: what it draws at random

ROLES = {"ar": Role.AR, "masked": Role.MASKED, "diffusion": Role.DIFFUSION}


@dataclass(frozen=True)
class Batch:
    """What is learned: codes of a picture each, or of the last of some frames of a clip, after those before it."""

    prompts: Tensor  # int64 (B, P)
    real: Tensor  # bool (B, P)
    codes: Tensor  # int64 (B, m + 1, N), local ids; m is 0 for pictures
    frames: Tensor  # int64 (B, m + 1), their numbers in the clip; 0 for pictures
    describe: bool = False  # then the prompts are learned instead, after all the frames


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; to CUDA it is sent without waiting for what the device still has to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


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
        """Mean cross-entropy in nats per code of each decoder, or of the text per token, as "text".

        All noise comes from the CPU `generator`.
        """
        return self.losses(batch, self.noise(batch, generator))

    def noise(self, batch: Batch, generator: torch.Generator) -> Noise:
        """All that chance decides about a batch."""
        if batch.describe:
            return {}
        codes = batch.codes[:, -1]
        drawn = {name: tuple(getattr(self, f"_draw_{name}")(codes.shape, generator)) for name in self.decoders}
        return {name: tuple(sent(tensor, codes.device) for tensor in tensors) for name, tensors in drawn.items()}

    def losses(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """As `forward`. On a device nothing here waits for it, and every shape follows from those of the batch."""
        if batch.describe:
            return {"text": self._text(batch)}
        model, codes = self.model, batch.codes[:, -1]
        device = codes.device
        prompt = model.prefill(batch.prompts, text_positions(batch.prompts.shape[1], device=device), batch.real)
        positions = frame_positions(model.config.image_grid, batch.frames) + prompt.start[:, None, None, None]
        if batch.codes.shape[1] > 1:
            prompt = model.read(self._ids(batch.codes[:, :-1]), positions[:, :-1], prompt)
        rows = [getattr(self, f"_{name}")(codes, *noise[name]) for name in self.decoders]
        repeats = len(rows)
        roles = torch.cat([torch.full((len(codes),), ROLES[name], device=device) for name in self.decoders])
        hidden = model(
            torch.cat([x for x, _, _, _ in rows]),
            positions[:, -1].repeat(repeats, 1, 1),
            torch.cat([time for _, time, _, _ in rows]),
            roles,
            prompt.repeat(repeats),
            roles == Role.AR,
        ).chunk(repeats)
        losses = {}
        for name, slots, (_, _, learned, prior) in zip(self.decoders, hidden, rows, strict=True):
            slots = slots[:, :-1] if name == "ar" else slots[:, 1:]
            prior = None if prior is None else prior.flatten(0, 1)
            learned = None if learned is None else learned.flatten()
            losses[name] = head_loss(slots.flatten(0, 1), model.head.weight, codes.flatten(), prior, learned)
        return losses

    def _text(self, batch: Batch) -> Tensor:
        """Of every token of the prompts and the END after them, which follow their frames; they begin with BEGIN."""
        model, real = self.model, batch.real
        seen, start = model.see(self._ids(batch.codes), batch.frames)
        targets = following(batch.prompts, real, model.vocabulary)
        hidden, _ = model.write(batch.prompts, start, seen)
        return head_loss(hidden.flatten(0, 1), model.text_head(), targets.flatten(), learned=real.flatten())

    def _ids(self, codes: Tensor) -> Tensor:
        """Local ids (..., N) -> shared ids (..., 1 + N), BEGIN first."""
        return self._begun(codes + self.model.vocabulary.range("image").start)

    def _begun(self, ids: Tensor) -> Tensor:
        begin = ids.new_full((*ids.shape[:-1], 1), self.model.vocabulary.special("begin_image"))
        return torch.cat([begin, ids], dim=-1)

    def _draw_ar(self, shape: torch.Size, generator: torch.Generator) -> list[Tensor]:
        return []

    def _ar(self, codes: Tensor) -> "_Row":
        x = self.model.embedding(self._ids(codes))
        return x, x.new_zeros(len(x)), None, None

    def _draw_masked(self, shape: torch.Size, generator: torch.Generator) -> list[Tensor]:
        times = torch.rand(shape[0], generator=generator)
        shares = torch.tensor([cosine_masked_share(t) for t in times.tolist()])
        return [shares, torch.rand(shape, generator=generator)]

    def _masked(self, codes: Tensor, shares: Tensor, order: Tensor) -> "_Row":
        vocabulary = self.model.vocabulary
        ids = codes + vocabulary.range("image").start
        ids, hidden = mask_ids(ids, shares, order, vocabulary.special("mask"))
        x = self.model.embedding(self._begun(ids))
        return x, x.new_zeros(len(x)), hidden, None

    def _draw_diffusion(self, shape: torch.Size, generator: torch.Generator) -> list[Tensor]:
        # Density 2 t: at low t the evidence alone says every code, and there is nothing to learn.
        time = torch.rand(shape[0], generator=generator).sqrt()
        return [time, torch.randn(*shape, len(self.model.config.image_levels), generator=generator)]

    def _diffusion(self, codes: Tensor, time: Tensor, noise: Tensor) -> "_Row":
        model, codebook = self.model, self.model.standardized_codebook()
        noisy = add_noise(codebook[codes], noise, time)
        begin = self.model.embedding(self._begun(codes[:, :0]))
        x = torch.cat([begin, model.latent_in(noisy)], dim=1)
        return x, time, None, evidence(noisy, time, codebook)


# Slots (B, 1 + N, D), time (B,), learned (B, N) or None for all, evidence (B, N, V)
_Row = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
