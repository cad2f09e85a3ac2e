"""Train a video tokenizer, and show whether the training worked.

Prints and draws, on clips held apart: PSNR and SSIM per frame, flicker (mean absolute error of the differences between
neighbouring frames, in steps of 255), codes in use, how evenly each FSQ dimension uses its levels, and strips of
frames, the original above its reconstruction.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from einops import rearrange
from torch import Tensor

from ..data.media import image_grid, write_png
from ..models.image_metrics import psnr, ssim
from ..models.losses import motion_loss
from ..tokenizers.video import VideoTokenizer, VideoTokenizerConfig
from .clip_sources import ClipSource
from .code_diagnostics import code_scores, level_histogram
from .picture_sources import VALIDATION_NUMBER
from .train_reconstruction import (
    ReconstructionLosses,
    ReconstructionRecipe,
    batches_in_range,
    check_input,
    frames_of,
    overfit,
    plan,
    to_range,
    train_reconstruction,
)

OVERFIT_DB = 33.0
VALIDATION_CLIPS = 64
STRIPS = 8  # clips that are drawn


@dataclass(frozen=True, kw_only=True)
class VideoTokenizerRecipe(ReconstructionRecipe):
    batch_size: int = 16
    motion: float = 0.1  # weight of the error of the differences between frames


def losses_of(tokenizer: VideoTokenizer, recipe: VideoTokenizerRecipe) -> ReconstructionLosses:
    """What training minimizes."""

    def penalty(clips: Tensor, outputs: Tensor, z_q: Tensor) -> Tensor:
        return recipe.motion * motion_loss(outputs, clips)

    return ReconstructionLosses(tokenizer, recipe, penalty if recipe.motion else None)


@torch.no_grad()
def diagnose(tokenizer: VideoTokenizer, clips: Tensor) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores on clips (N, 3, T, H, W) in [-1, 1]; also the reconstructions and the share of each level (D, max L)."""
    ids = torch.cat([tokenizer.encode(chunk) for chunk in clips.split(16)])
    size = (clips.shape[2], clips.shape[3], clips.shape[4])
    reconstructions = torch.cat([tokenizer.decode(chunk, size) for chunk in ids.split(16)])
    of_codes, levels = code_scores(tokenizer.quantizer.ids_to_cells(ids), tokenizer.quantizer)
    scores = {
        "psnr": float(psnr(frames_of(reconstructions), frames_of(clips)).mean()),
        "ssim": float(ssim(frames_of(reconstructions), frames_of(clips)).mean()),
        "flicker": 127.5 * float(motion_loss(reconstructions, clips)),
        **of_codes,
    }
    return scores, reconstructions, levels


def train_video_tokenizer(
    config: VideoTokenizerConfig,
    recipe: VideoTokenizerRecipe,
    source: ClipSource,
    out: Path,
    *,
    resume: bool = False,
    init: VideoTokenizer | None = None,
    device: str | torch.device = "cpu",
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> VideoTokenizer:
    """Train on `source`, whose clips have 1 + n `config.group` frames, and return the tokenizer.

    Checkpoints, curves and pictures are written under `out`.
    `workers` processes read the batches ahead.

    Raises:
        ValueError: the clips cannot be learned from.
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    tokenizer = init or VideoTokenizer(config)
    start, _ = source(VALIDATION_NUMBER - 1, VALIDATION_CLIPS)
    check_input(start, "clips")
    if init is None:
        tokenizer.start_linear(to_range(start))
    validation = to_range(source(VALIDATION_NUMBER, VALIDATION_CLIPS)[0].to(device))
    size = (validation.shape[2], validation.shape[3], validation.shape[4])
    losses = losses_of(tokenizer, recipe)
    say(plan(f"video tokenizer: {config.group} x {config.stride} x {config.stride}", recipe, losses, size))

    def evaluate(average: ReconstructionLosses) -> dict[str, float]:
        scores, reconstructions, levels = diagnose(cast(VideoTokenizer, average.tokenizer), validation)
        pairs = torch.stack([validation[:STRIPS], reconstructions[:STRIPS]], dim=1)
        strips = rearrange(pairs, "B two C T H W -> (B two T) C H W")
        write_png(out / "reconstructions.png", image_grid(strips, size[0]))
        write_png(out / "levels.png", level_histogram(levels))
        return scores

    batches = batches_in_range(source, recipe.batch_size, device, workers)
    trained = train_reconstruction(
        losses, recipe, batches, out, evaluate=evaluate, resume=resume, device=device, say=say
    )
    return cast(VideoTokenizer, trained.tokenizer)


def overfit_one(config: VideoTokenizerConfig, source: ClipSource, *, steps: int = 600, seed: int = 0) -> float:
    """Train on one clip alone and return the PSNR in dB; a sound tokenizer passes `OVERFIT_DB`.

    Raises:
        TrainingError: the target is missed, so something in data or network is wrong.
    """
    torch.manual_seed(seed)
    tokenizer = VideoTokenizer(replace(config, storage_dtype="float32"))
    return overfit(tokenizer, to_range(source(0, 1)[0]), steps=steps, target=OVERFIT_DB, name="clip")
