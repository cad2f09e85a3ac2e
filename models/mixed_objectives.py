"""What one transformer learns of pictures, clips and sounds together: of each batch, what is learned of its kind."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .objectives import Batch, DecoderLosses
from .sound_objectives import SpeechBatch, SpeechLosses
from .transformer import SharedTransformer


class MixedLosses(nn.Module):
    """A transformer and the decoders it is trained for, as a module whose forward is the loss."""

    def __init__(self, model: SharedTransformer, decoders: Sequence[str]):
        super().__init__()
        self.model = model
        self._kinds = DecoderLosses(model, decoders), SpeechLosses(model, decoders)  # no parts: same model

    def forward(self, batch: Batch | SpeechBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """As `DecoderLosses` of pictures and frames of clips, and as `SpeechLosses` of sounds."""
        pictures, sounds = self._kinds
        return sounds(batch, generator) if isinstance(batch, SpeechBatch) else pictures(batch, generator)
