"""What is asked of a model, and who judges what it draws: pictures of the built-in scenes, or their clips.

N pictures or clips, T frames, S pixels per side. Pictures are float (N, 3, S, S) and clips (N, 3, T, S, S), both in
[-1, 1]; the detectors read uint8 (S, S, 3) and (T, S, S, 3). The parts that draw pictures draw clips, too, so a model
is a `TextToImagePipeline` in both worlds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..data.clip_captions import ClipRequest
from ..data.clip_detector import clip_check, clip_shares
from ..data.clip_parser import parse_clip
from ..data.clip_render import render_clip
from ..data.media import to_uint8
from ..data.scene_captions import Request
from ..data.scene_clips import CLEAR_TURNS, CLIP_KINDS, clip_prompts, draw_clip
from ..data.scene_detector import check, detect, shares
from ..data.scene_parser import parse
from ..data.scenes import HELD_OUT_KINDS, KINDS, SceneObject, draw_example, is_held_out, prompts, render
from ..models.transformer import TransformerConfig
from .sampler_settings import SamplerSettings, model_evaluations
from .text_to_image import TextToImagePipeline
from .text_to_video import TextToVideoPipeline, clip_evaluations

Asked = Request | ClipRequest


@dataclass(frozen=True)
class Drawn:
    pixels: Tensor  # float (N, 3, S, S) or (N, 3, T, S, S) in [-1, 1]
    ids: Tensor  # int64 (N, h, w) or (N, T, h, w)


@dataclass(frozen=True, kw_only=True)
class World:
    name: str  # of all of it
    noun: str  # of one drawing
    kinds: tuple[str, ...]
    held_out_kinds: tuple[str, ...]  # those which have combinations that training never drew
    prompts: Callable[[str, int, int, bool], Sequence[Asked]]  # kind, how many, seed, held out
    parse: Callable[[str], Asked | None]  # None: no caption of this world
    example: Callable[[torch.Generator, str, int], tuple[Asked, np.ndarray]]  # of a kind, with S pixels
    check: Callable[[Any, np.ndarray], bool]  # does a drawing show what is asked?
    shares: Callable[[Sequence[Any], Sequence[bool]], dict[str, float]]  # verdicts -> of each kind, and "overall"
    shows_held_out: Callable[[np.ndarray], bool]  # something that training must never see?
    draw: Callable[..., Drawn]  # pipeline, texts, one generator for each; decoder and settings by name
    model_evaluations: Callable[[TransformerConfig, str, SamplerSettings], int]  # for one drawing by a decoder


def as_arrays(drawn: Tensor) -> np.ndarray:
    """Pictures or clips, float in [-1, 1] -> uint8 (N, S, S, 3) or (N, T, S, S, 3), as the detectors read them."""
    return rearrange(to_uint8(drawn), "N C ... H W -> N ... H W C").cpu().numpy()


def _draw_pictures(
    pipeline: TextToImagePipeline, texts: Sequence[str], generators: Sequence[torch.Generator], **settings: Any
) -> Drawn:
    drawn = pipeline(texts, generator=generators, output_type="pt", **settings)
    return Drawn(drawn.images, drawn.ids)


def _draw_clips(
    pipeline: TextToImagePipeline, texts: Sequence[str], generators: Sequence[torch.Generator], **settings: Any
) -> Drawn:
    drawn = TextToVideoPipeline(pipeline)(texts, generator=generators, output_type="pt", **settings)
    return Drawn(drawn.frames, drawn.ids)


def _scene_shows_held_out(picture: np.ndarray) -> bool:
    found = [item for item in detect(picture).objects if item.shape and item.color]
    return is_held_out([SceneObject(str(f.shape), str(f.color), f.width, f.x, f.y) for f in found])


def _colors(picture: np.ndarray) -> dict[str, str]:
    """Of each shape that is seen, its color."""
    return {str(item.shape): item.color for item in detect(picture).objects if item.shape and item.color}


def _clip_shows_held_out(clip: np.ndarray) -> bool:
    """In its first or its last frame, or half-way, in what turns from the one color to the other."""
    first, last = (_colors(frame) for frame in clip[[0, -1]])
    turns = [
        (shape, (first[shape], last[shape])) for shape in first.keys() & last.keys() if first[shape] != last[shape]
    ]
    hidden = any(turn not in CLEAR_TURNS[shape] for shape, turn in turns)
    return hidden or _scene_shows_held_out(clip[0]) or _scene_shows_held_out(clip[-1])


def _scene_example(generator: torch.Generator, kind: str, size: int) -> tuple[Request, np.ndarray]:
    request, scene = draw_example(generator, kind)
    return request, render(scene, size)


def _clip_example(generator: torch.Generator, kind: str, size: int) -> tuple[ClipRequest, np.ndarray]:
    request, clip = draw_clip(generator, kind)
    return request, render_clip(clip, size)


def _picture_evaluations(config: TransformerConfig, decoder: str, settings: SamplerSettings) -> int:
    return model_evaluations(decoder, settings, config.num_positions)


def _clip_evaluations(config: TransformerConfig, decoder: str, settings: SamplerSettings) -> int:
    return clip_evaluations(decoder, settings, config.num_frames, config.num_positions)


SCENES = World(
    name="scenes",
    noun="picture",
    kinds=KINDS,
    held_out_kinds=HELD_OUT_KINDS,
    prompts=prompts,
    parse=parse,
    example=_scene_example,
    check=check,
    shares=shares,
    shows_held_out=_scene_shows_held_out,
    draw=_draw_pictures,
    model_evaluations=_picture_evaluations,
)
CLIPS = World(
    name="clips",
    noun="clip",
    kinds=CLIP_KINDS,
    held_out_kinds=CLIP_KINDS,
    prompts=clip_prompts,
    parse=parse_clip,
    example=_clip_example,
    check=clip_check,
    shares=clip_shares,
    shows_held_out=_clip_shows_held_out,
    draw=_draw_clips,
    model_evaluations=_clip_evaluations,
)
