"""Batches that the shared transformer learns from: pictures, or frames of clips, as codes, and captions as tokens.

Batch and noise are functions of a number alone. Pictures are drawn or read, encoded by the frozen tokenizer, and paired
with their captions; a share of the captions is left out, for guidance. Of a clip one frame is learned, after others
that are given (see clip_order.py). B examples of m given frames and one to learn, h w codes each, P tokens of a prompt.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import pack, rearrange, unpack
from torch import Tensor

from ..data.loader import generator_of
from ..data.made_ahead import MadeAhead
from ..models.objectives import Batch, sent
from ..models.transformer import SharedTransformer
from ..tokenizers.sequence import prompt_batch
from ..tokenizers.text import TextTokenizer
from .clip_order import seen_frames, training_frames
from .clip_sources import ClipSource
from .open_tokenizer import PictureTokenizer
from .picture_sources import Pictures, PictureSource, parts_of
from .train_recipe import TransformerRecipe
from .train_reconstruction import to_range

DRAWING, NOISE = 1, 2  # random numbers for a batch, and for its noise, are apart from all others


@dataclass(frozen=True)
class Drawn:
    """A batch before the tokenizer of pictures has seen it."""

    parts: list[Tensor]  # of each source: uint8 (n, m + 1, 3, H, W), or codes of token shards, int64 (n, m + 1, h, w)
    prompts: Tensor  # int64 (B, P)
    real: Tensor  # bool (B, P)
    frames: Tensor  # int64 (B, m + 1), which frames of their clips they are; 0 for pictures
    describe: bool  # the captions are what is learned


class Batches:
    """Number -> batch: pictures from `source`, or frames from `clips`, as codes, and their captions as tokens.

    `workers` processes draw and read ahead of training, which asks for every `stride`-th number.
    """

    def __init__(
        self,
        source: PictureSource,
        clips: ClipSource | None,
        image_tokenizer: PictureTokenizer,
        text_tokenizer: TextTokenizer,
        transformer: SharedTransformer,
        recipe: TransformerRecipe,
        *,
        workers: int = 0,
        stride: int = 1,
    ):
        self.source, self.clips, self.recipe = source, clips, recipe
        self.image_tokenizer, self.text_tokenizer = image_tokenizer, text_tokenizer
        self.vocabulary = transformer.vocabulary
        self.device = transformer.embedding.weight.device
        self.drawn = MadeAhead(self.draw, workers, stride)

    def __call__(self, number: int) -> Batch:
        return self.encode(self.drawn(number))

    def draw(self, number: int) -> Drawn:
        generator = generator_of(self.recipe.seed, number, DRAWING)
        moving, described = torch.rand(2, generator=generator).tolist()
        describe = described < self.recipe.text_share
        if self.clips and moving < self.recipe.clip_share:
            return self.clips_drawn(number, generator, describe)
        return self.pictures_drawn(number, generator, describe)

    def pictures_drawn(self, number: int, generator: torch.Generator, describe: bool = False) -> Drawn:
        parts = parts_of(self.source, number, self.recipe.batch_size)
        frames = torch.zeros(self.recipe.batch_size, 1, dtype=torch.long)
        pictures = [(pictures.unsqueeze(1), captions) for pictures, captions in parts]
        return self._drawn(pictures, frames, generator, describe)

    def clips_drawn(self, number: int, generator: torch.Generator, describe: bool = False) -> Drawn:
        """The same number of frames of each clip, the last to be learned after the others, or all to be described."""
        assert self.clips is not None
        parts = parts_of(self.clips, number, self.recipe.batch_size)
        clips = [clips if clips.dtype == torch.long else clips.transpose(1, 2) for clips, _ in parts]  # (n, T, ...)
        num_frames, count = clips[0].shape[1], self.recipe.batch_size
        if describe:
            frames = torch.tensor([seen_frames(num_frames)] * count)
        else:
            frames = training_frames(num_frames, count, generator)
        chosen = [
            (clip[torch.arange(len(clip))[:, None], frame], captions)
            for clip, frame, (_, captions) in zip(clips, frames.split([*map(len, clips)]), parts, strict=True)
        ]
        return self._drawn(chosen, frames, generator, describe)

    def _drawn(self, parts: list[Pictures], frames: Tensor, generator: torch.Generator, describe: bool) -> Drawn:
        captions = [caption for _, captions in parts for caption in captions]
        share = 0.0 if describe else self.recipe.drop_caption
        dropped = torch.rand(len(captions), generator=generator) < share
        tokens = [
            [] if drop else self.text_tokenizer.encode(caption)[: self.recipe.prompt_length - 1]
            for caption, drop in zip(captions, dropped.tolist(), strict=True)
        ]
        prompts, real = prompt_batch(tokens, self.vocabulary)
        missing = self.recipe.prompt_length - prompts.shape[1]
        prompts, real = F.pad(prompts, (0, missing)), F.pad(real, (0, missing))
        return Drawn([pictures for pictures, _ in parts], prompts, real, frames, describe)

    def encode(self, drawn: Drawn) -> Batch:
        codes = torch.cat([codes_of(sent(pictures, self.device), self.image_tokenizer) for pictures in drawn.parts])
        codes = rearrange(codes, "B m h w -> B m (h w)")
        prompts, real, frames = (sent(tensor, self.device) for tensor in (drawn.prompts, drawn.real, drawn.frames))
        return Batch(prompts, real, codes, frames, drawn.describe)


def codes_of(pictures: Tensor, image_tokenizer: PictureTokenizer) -> Tensor:
    """Uint8 pictures (..., 3, H, W) -> int64 codes (..., h, w); codes, as token shards give them, pass as they are."""
    if pictures.dtype == torch.long:
        return pictures
    flat, axes = pack([pictures], "* C H W")
    (codes,) = unpack(image_tokenizer.encode_unchecked(to_range(flat)), axes, "* h w")
    return codes
