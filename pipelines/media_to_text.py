"""A picture or a clip in, its caption out.

B pictures or clips, T frames, H W pixels. The parts that draw what a caption says write the caption of what they see.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from torch import Tensor

from ..models.writing import write
from .clip_order import seen_frames
from .text_to_image import BATCH, Generators, TextToImagePipeline, picture_generators

MAX_TOKENS = 128  # of a caption


class MediaToTextPipeline:
    def __init__(self, pictures: TextToImagePipeline):
        self.pictures = pictures  # the same parts draw
        if not pictures.writes:
            raise ValueError(
                "this model only draws; train it to write, too (tokenloom train --text-share 0.2), or take another"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name or a folder that `save_pretrained` wrote.

        Raises:
            ValueError: a part is missing or broken, or the model was not trained to write.
        """
        return cls(TextToImagePipeline.from_pretrained(name_or_path))

    def to(self, device: str | torch.device) -> Self:
        self.pictures.to(device)
        return self

    @torch.no_grad()
    def __call__(self, media: Tensor, *, generator: Generators = None, temperature: float = 0.0) -> list[str]:
        """Pictures (B, 3, H, W) or clips (B, 3, T, H, W) in [-1, 1] -> a caption each.

        `H` and `W` are those of the model's pictures, and `T` is at most the number of frames of its clips; some frames
        are looked at, evenly from the first to the last. At temperature 0 nothing is left to chance; otherwise
        `generator` is one for all or a list with one per caption.

        Raises:
            ValueError: another shape, or a temperature that is no number of at least 0.
        """
        clips = media.unsqueeze(2) if media.ndim == 4 else media
        height, width = self.pictures.image_size
        num_frames = self.pictures.transformer.config.num_frames
        times = clips.shape[2] if clips.ndim == 5 else 0
        if tuple(clips.shape) != (len(clips), 3, times, height, width) or not 1 <= times <= num_frames:
            raise ValueError(
                f"pictures must be (B, 3, {height}, {width}), and clips (B, 3, T, {height}, {width}) of at most "
                f"{num_frames} frames, got {tuple(media.shape)}; scale or cut them"
            )
        generators = picture_generators(generator, len(clips))
        captions: list[str] = []
        for start in range(0, len(clips), BATCH):
            part = slice(start, start + BATCH)
            captions += self._captions(clips[part], generators[part], temperature)
        return captions

    def _captions(self, clips: Tensor, generators: Sequence[torch.Generator], temperature: float) -> list[str]:
        model, device = self.pictures.transformer, self.pictures.device
        numbers = torch.tensor(seen_frames(clips.shape[2]))
        chosen = rearrange(clips[:, :, numbers].to(device), "B C m H W -> (B m) C H W")
        codes = self.pictures.image_tokenizer.encode(chosen)
        ids = model.vocabulary.to_shared(rearrange(codes, "(B m) h w -> B m (h w)", B=len(clips)), "image")
        begin = torch.full_like(ids[:, :, :1], model.vocabulary.special("begin_image"))
        frames = numbers.to(device).repeat(len(clips), 1)
        seen, position = model.see(torch.cat([begin, ids], dim=2), frames)
        uniforms = torch.stack([torch.rand(MAX_TOKENS, generator=g) for g in generators]).to(device)
        texts = self.pictures.text_tokenizer
        written = write(model, seen, position, uniforms, num_tokens=texts.vocab_size, temperature=temperature)
        return [texts.decode(tokens) for tokens in written]
