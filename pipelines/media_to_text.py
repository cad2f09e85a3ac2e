"""A picture or a clip in, its caption out.

B pictures or clips, T frames, H W pixels. The parts that draw what a caption says write the caption of what they see.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from ..models.likeliest import likeliest
from ..models.writing import write
from .seen_media import as_clips, frames_seen
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
        clips = as_clips(self.pictures, media)
        generators = picture_generators(generator, len(clips))
        captions: list[str] = []
        for start in range(0, len(clips), BATCH):
            part = slice(start, start + BATCH)
            captions += self._captions(clips[part], generators[part], temperature)
        return captions

    @torch.no_grad()
    def rank(self, media: Tensor, captions: Sequence[str], count: int = 5) -> list[list[int]]:
        """Pictures or clips, as `__call__` takes them -> numbers of the `count` likeliest captions of each, best first.

        Captions are compared by the probability that the model writes just them, so of many that are true a short one
        that is usual comes first.

        Raises:
            ValueError: another shape, or captions that are empty or there twice.
        """
        texts = self.pictures.text_tokenizer
        tokens = [texts.encode(caption) for caption in captions]
        ranked = []
        for clip in as_clips(self.pictures, media).split(1):
            seen, position = self.pictures.transformer.see(*frames_seen(self.pictures, clip))
            model, num_tokens = self.pictures.transformer, texts.vocab_size
            ranked.append([n for n, _ in likeliest(model, seen, position, tokens, count, num_tokens=num_tokens)])
        return ranked

    def _captions(self, clips: Tensor, generators: Sequence[torch.Generator], temperature: float) -> list[str]:
        model = self.pictures.transformer
        seen, position = model.see(*frames_seen(self.pictures, clips))
        uniforms = torch.stack([torch.rand(MAX_TOKENS, generator=g) for g in generators]).to(self.pictures.device)
        texts = self.pictures.text_tokenizer
        written = write(model, seen, position, uniforms, num_tokens=texts.vocab_size, temperature=temperature)
        return [texts.decode(tokens) for tokens in written]
