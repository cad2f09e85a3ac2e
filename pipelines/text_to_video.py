"""TextToVideoPipeline: a prompt in, a clip out, by whichever decoder is asked for; some of its frames may be given.

Every frame is a picture that is drawn after the prompt and the frames nearest to it in time that are known already, in
the order of clip_order.py. So the three decoders are causal across frames, and inside a frame each works as it does in
pictures. B clips, T frames, N codes of a frame on a grid of h x w.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor

from ..data.media import to_pil
from .best_of import best_of, candidates
from .clip_order import drawing_order, nearest
from .draw_codes import DRAW, CodeBatch, Progress, in_parts
from .sampler_settings import SamplerSettings, model_evaluations, of_several, settings_of
from .text_to_image import BATCH, Generators, TextToImagePipeline, UnknownWordWarning, picture_generators, slices

FPS = 8  # of the clips of the built-in world
OVERLAP = 5  # frames of a clip that is continued, which the next ones look back to
FEWER_STEPS = 4  # times fewer, for a frame between known ones


@dataclass
class VideoPipelineOutput:
    """`frames`: a list of PIL pictures for each clip, or with output_type="pt" float32 (B, 3, T, H, W) in [-1, 1].

    `ids`: int64 (B, T, h, w).
    """

    frames: Any
    ids: Tensor


def settings_at(frame: int, known: Collection[int], settings: SamplerSettings) -> SamplerSettings:
    """How a frame is drawn: between two that are known little is open, so it takes fewer steps and no guidance."""
    if not known or not min(known) < frame < max(known):
        return settings
    steps = max(1, settings.num_inference_steps // FEWER_STEPS)
    return replace(settings, guidance_scale=1.0, num_inference_steps=steps)


def frame_evaluations(
    decoder: str, settings: SamplerSettings, num_frames: int, num_codes: int, given: Collection[int] = ()
) -> list[int]:
    """Runs of the model for each frame of one drawing, in the order of drawing; a guided step counts two."""
    known, counts, settings = set(given), list[int](), replace(settings, best_of=1)
    for frame in drawing_order(num_frames, given):
        counts.append(model_evaluations(decoder, settings_at(frame, known, settings), num_codes))
        known.add(frame)
    return counts


def clip_evaluations(decoder: str, settings: SamplerSettings, num_frames: int, num_codes: int) -> int:
    """Runs of the model for a clip of which no frame is given, its prompt left out; a guided step counts two."""
    return of_several(sum(frame_evaluations(decoder, settings, num_frames, num_codes)), settings)


class TextToVideoPipeline:
    def __init__(self, pictures: TextToImagePipeline):
        self.pictures = pictures  # the same parts draw pictures
        if self.num_frames < 2:
            raise ValueError(
                "this model knows only pictures; train it on clips (tokenloom train --clips), or take another"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name ("tokenloom-mini") or a folder that `save_pretrained` wrote.

        Raises:
            ValueError: a part is missing or broken, or the model was not trained on clips.
        """
        return cls(TextToImagePipeline.from_pretrained(name_or_path))

    def save_pretrained(self, folder: str | Path) -> None:
        self.pictures.save_pretrained(folder)

    def to(self, device: str | torch.device) -> Self:
        self.pictures.to(device)
        return self

    @property
    def num_frames(self) -> int:
        """Frames of a clip, as trained."""
        return self.pictures.transformer.config.num_frames

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        decoder: str = "ar",
        generator: Generators = None,
        num_videos_per_prompt: int = 1,
        batch_size: int = BATCH,
        image: Tensor | None = None,
        last_image: Tensor | None = None,
        video: Tensor | None = None,
        output_type: str = "pil",
        callback: Progress | None = None,
        **settings: Any,
    ) -> VideoPipelineOutput:
        """Draw clips of `num_frames` frames, `num_videos_per_prompt` of each prompt, in the order of the prompts.

        Args:
            decoder: "ar", "masked" or "diffusion".
            generator: one for all, from which each clip's own is seeded, or a list with one per clip.
            batch_size: clips at once.
            image: the first frame, to be kept: (1 or B, 3, H, W) in [-1, 1].
            last_image: the last frame, to be kept, of the same shape.
            video: a clip to be continued, (1 or B, 3, T, H, W) in [-1, 1], at the model's rate; it comes back with the
                new frames after it. Not with `image` or `last_image`.
            callback: told after each frame how many runs of the model are done, and how many there will be.
            settings: fields of `SamplerSettings`; None or left out takes the decoder's own default.

        Raises:
            ValueError: a prompt that is empty, too long or not text; an unknown decoder; settings out of range; frames
                of another shape, or too few or too many to go together.
        """
        if output_type not in ("pil", "pt"):
            raise ValueError(f'output_type must be "pil" or "pt", got {output_type!r}')
        chosen = settings_of(decoder, **settings)
        prompts = list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, (str, bytes)) else [prompt]
        tokens = [ids for p in prompts for ids in [self.pictures.tokens(p)] * num_videos_per_prompt]
        if not tokens:
            raise ValueError("a prompt and a clip are needed, got none; say what happens")
        if strange := sorted({repr(word) for p in prompts for word in self.pictures.unknown_words(p)}):
            words = f"the training captions never held {', '.join(strange)}; expect little of it"
            warnings.warn(words, UnknownWordWarning, stacklevel=3)  # past the wrapper of no_grad
        self.pictures.check_best_of(chosen.best_of)
        before, given = self._given(image, last_image, video, len(tokens))
        asked, tokens = tokens, [ids for ids in tokens for _ in range(chosen.best_of)]
        codes = {number: self._codes(frame, len(asked)) for number, frame in given.items()}
        codes = {number: frame.repeat_interleave(chosen.best_of, 0) for number, frame in codes.items()}
        generators = candidates(picture_generators(generator, len(asked)), chosen.best_of)
        parts = slices(len(tokens), batch_size)
        drawn = [
            self._draw(tokens[s], {n: c[s] for n, c in codes.items()}, generators[s], decoder, chosen, told)
            for s, told in zip(parts, in_parts(callback, len(parts)), strict=True)
        ]
        ids = rearrange(torch.cat(drawn), "B T (h w) -> B T h w", h=self.pictures.transformer.config.image_grid[0])
        if chosen.best_of > 1:
            model, texts = self.pictures.transformer, self.pictures.text_tokenizer
            ids = best_of(model, texts, ids, asked, chosen.best_of)
        clips = self._pixels(ids)
        for number, frame in given.items():
            clips[:, :, number] = frame
        if before is not None:
            clips = torch.cat([before.expand(len(clips), -1, -1, -1, -1), clips], dim=2)
        frames = [[to_pil(frame) for frame in clip.unbind(1)] for clip in clips.cpu()]
        return VideoPipelineOutput(frames if output_type == "pil" else clips, ids)

    def _draw(
        self,
        tokens: list[list[int]],
        given: Mapping[int, Tensor],
        generators: list[torch.Generator],
        decoder: str,
        settings: SamplerSettings,
        callback: Progress | None,
    ) -> Tensor:
        """Codes int64 (B, T, N) of clips whose `given` frames are known: by number, (B, N)."""
        model, frames = self.pictures.transformer, dict(given)
        nothing = torch.zeros(len(tokens), model.config.num_positions, dtype=torch.long, device=self.pictures.device)
        costs = frame_evaluations(decoder, settings, self.num_frames, model.config.num_positions, given)
        for done, number in enumerate(drawing_order(self.num_frames, given), 1):
            seen = {other: frames[other] for other in nearest(number, frames)}
            batch = CodeBatch(tokens, generators, nothing, nothing.bool(), number, seen)
            frames[number] = DRAW[decoder](model, batch, settings_at(number, frames, settings), None)
            if callback:
                callback(sum(costs[:done]), sum(costs))
        return torch.stack([frames[number] for number in range(self.num_frames)], dim=1)

    def _given(
        self, image: Tensor | None, last_image: Tensor | None, video: Tensor | None, count: int
    ) -> tuple[Tensor | None, dict[int, Tensor]]:
        """What comes before the clip that is drawn, and those of its frames that are given, (1 or B, 3, H, W)."""
        height, width = self.pictures.image_size
        for name, part in (("image", image), ("last_image", last_image), ("video", video)):
            if part is None:
                continue
            times = (max(1, *part.shape[2:3]),) if name == "video" else ()
            if tuple(part.shape) not in [(clips, 3, *times, height, width) for clips in (1, count)]:
                wanted = f"(1, 3, {'T, ' * len(times)}{height}, {width})"
                raise ValueError(f"{name} must be {wanted}, or one for each of {count} clips, got {tuple(part.shape)}")
        if video is None:
            ends = {0: image, self.num_frames - 1: last_image}
            return None, {number: frame.to(self.pictures.device) for number, frame in ends.items() if frame is not None}
        if image is not None or last_image is not None:
            raise ValueError("a clip that is continued has its frames, got image or last_image too; leave them out")
        video = video.to(self.pictures.device)
        overlap = min(OVERLAP, video.shape[2], self.num_frames - 1)
        return video[:, :, :-overlap], dict(enumerate(video[:, :, -overlap:].unbind(2)))

    def _codes(self, frame: Tensor, count: int) -> Tensor:
        ids = self.pictures.image_tokenizer.encode(frame)
        return rearrange(ids, "B h w -> B (h w)").expand(count, -1)

    def _pixels(self, ids: Tensor) -> Tensor:
        """Ids (B, T, h, w) -> clips (B, 3, T, H, W)."""
        flat = rearrange(ids, "B T h w -> (B T) h w")
        pictures = self.pictures.image_tokenizer.decode(flat, self.pictures.image_size)
        return rearrange(pictures, "(B T) C H W -> B C T H W", B=len(ids))
