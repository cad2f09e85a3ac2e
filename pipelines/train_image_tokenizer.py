"""Train an image tokenizer, and show whether the training worked.

Prints and draws, on pictures held apart: PSNR and SSIM, codes in use, how evenly each FSQ dimension uses its levels,
originals beside reconstructions, and after how many codes a generator can know a picture by heart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from ..data.media import image_grid, write_png
from ..models.image_metrics import psnr, ssim
from ..tokenizers.entropy_model import EntropyModel, EntropyModelConfig
from ..tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from .code_diagnostics import code_scores, level_histogram
from .picture_codec import ENTROPY_MODEL
from .picture_sources import VALIDATION_NUMBER, PictureSource
from .train_reconstruction import (
    ReconstructionLosses,
    ReconstructionRecipe,
    batches_in_range,
    check_input,
    overfit,
    plan,
    to_range,
    train_reconstruction,
)

OVERFIT_DB = 35.0


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerRecipe(ReconstructionRecipe):
    plain: float = 0.0  # weight of what codes of squares of one color say beyond the color
    bits: float = 0.0  # weight of a bit per pixel, as an entropy model that is trained beside counts them; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plain and self.bits:
            raise ValueError("plain is for codes that models learn, bits for files; leave one of them out")


def plain_excess(tokenizer: ImageTokenizer, images: Tensor, z_q: Tensor) -> Tensor:
    """Mean squared distance of codes from the linear code, counted where a square has one color.

    An encoder that sees beyond its square uses the codes of plain ones to tell more of their neighbors. That helps a
    reconstruction little and costs a model on the codes much: most squares of a drawing are plain, and each then has
    some bits that look like chance. `images` (B, 3, H, W), latents `z_q` (B, D, h, w).
    """
    squares = rearrange(images, "B C (h p) (w q) -> B C h w (p q)", h=z_q.shape[2], w=z_q.shape[3])
    plain = (squares.amax(-1) - squares.amin(-1)).amax(1) < 1 / 255  # (B, h, w)
    with torch.no_grad():
        linear = rearrange(tokenizer.encoder.linear(images), "B D h w -> B h w D")
        target = rearrange(tokenizer.quantizer(linear), "B h w D -> B D h w")
    return ((z_q - target).square().sum(1) * plain).mean()


def step_of(bits: float) -> float:
    """The width of cells at which a bit more saves as much error as it costs.

    On one axis, cells of width s add s^2 / 12 to the squared error of a square, the mean of which is taken over 3 p
    values of p pixels; a bit more, 1 / p bits per pixel, halves s. So s^2 / 12 x 2 ln 2 / (3 p) = `bits` / p.
    """
    return math.sqrt(18 * bits / math.log(2))


class BitsPenalty(nn.Module):
    """What the bits per pixel of the codes cost, as an entropy model counts them that is trained by the same sum."""

    def __init__(self, weight: float, entropy_model: EntropyModel):
        super().__init__()
        self.weight, self.entropy_model = weight, entropy_model

    def forward(self, images: Tensor, outputs: Tensor, z_q: Tensor) -> Tensor:
        return self.weight * self.entropy_model(z_q).sum() / images[:, 0].numel()


def losses_of(
    tokenizer: ImageTokenizer, recipe: ImageTokenizerRecipe, entropy_model: EntropyModel | None = None
) -> ReconstructionLosses:
    """What training minimizes; `entropy_model` is what the count of bits starts from."""
    if recipe.bits:
        config = entropy_model.config if entropy_model else EntropyModelConfig(levels=tokenizer.config.levels)
        trained = EntropyModel(replace(config, storage_dtype=tokenizer.config.storage_dtype))
        if entropy_model is not None:
            trained.load_state_dict(entropy_model.state_dict())
        return ReconstructionLosses(tokenizer, recipe, BitsPenalty(recipe.bits, trained))

    def penalty(images: Tensor, outputs: Tensor, z_q: Tensor) -> Tensor:
        return recipe.plain * plain_excess(tokenizer, images, z_q)

    return ReconstructionLosses(tokenizer, recipe, penalty if recipe.plain else None)


@torch.no_grad()
def bits_per_pixel(tokenizer: ImageTokenizer, entropy_model: EntropyModel, pictures: Tensor) -> float:
    """Of pictures (N, 3, H, W) in [-1, 1], as the entropy model counts them."""
    latents = [tokenizer.quantizer.midpoints(tokenizer.encode_cells(chunk)) for chunk in pictures.split(64)]
    bits = sum(float(entropy_model(rearrange(z, "B h w D -> B D h w")).sum()) for z in latents)
    return bits / pictures[:, 0].numel()


@torch.no_grad()
def diagnose(tokenizer: ImageTokenizer, pictures: Tensor) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores on pictures (N, 3, H, W) in [-1, 1]; also the reconstructions and the share of each level (D, max L)."""
    cells = torch.cat([tokenizer.encode_cells(chunk) for chunk in pictures.split(64)])
    size = (pictures.shape[2], pictures.shape[3])
    reconstructions = torch.cat([tokenizer.decode_cells(chunk, size) for chunk in cells.split(64)])
    of_codes, levels = code_scores(cells, tokenizer.quantizer)
    scores = {
        "psnr": float(psnr(reconstructions, pictures).mean()),
        "ssim": float(ssim(reconstructions, pictures).mean()),
        **of_codes,
    }
    return scores, reconstructions, levels


def train_image_tokenizer(
    config: ImageTokenizerConfig,
    recipe: ImageTokenizerRecipe,
    source: PictureSource,
    out: Path,
    *,
    resume: bool = False,
    init: ImageTokenizer | None = None,
    init_entropy_model: EntropyModel | None = None,
    device: str | torch.device = "cpu",
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> ImageTokenizer:
    """Train on `source` and return the tokenizer; checkpoints, curves and pictures are written under `out`.
    `workers` processes read the batches ahead. With `recipe.bits` the entropy model is saved in `out`, too.

    Raises:
        ValueError: the pictures cannot be learned from.
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    tokenizer = init or ImageTokenizer(config)
    if not recipe.bits:
        tokenizer.quantizer.check_ids()
    start, _ = source(VALIDATION_NUMBER - 1, 256)
    check_input(start)
    if init is None:
        tokenizer.start_linear(to_range(start), step_of(recipe.bits) if recipe.bits else None)
    validation = to_range(source(VALIDATION_NUMBER, 256)[0].to(device))
    size = (validation.shape[2], validation.shape[3])
    losses = losses_of(tokenizer, recipe, init_entropy_model)
    say(plan(f"image tokenizer: stride {config.stride}", recipe, losses, size))

    def evaluate(average: ReconstructionLosses) -> dict[str, float]:
        trained = cast(ImageTokenizer, average.tokenizer)
        scores, reconstructions, levels = diagnose(trained, validation)
        if isinstance(average.penalty, BitsPenalty):
            scores["bits_per_pixel"] = bits_per_pixel(trained, average.penalty.entropy_model, validation)
        pairs = rearrange(torch.stack([validation[:32], reconstructions[:32]]), "two B C H W -> B C (two H) W")
        write_png(out / "reconstructions.png", image_grid(pairs, 8))
        write_png(out / "levels.png", level_histogram(levels))
        return scores

    batches = batches_in_range(source, recipe.batch_size, device, workers)
    trained = train_reconstruction(
        losses, recipe, batches, out, evaluate=evaluate, resume=resume, device=device, say=say
    )
    if recipe.bits:
        trained.penalty.entropy_model.save_pretrained(out / ENTROPY_MODEL)
    return cast(ImageTokenizer, trained.tokenizer)


def overfit_one(config: ImageTokenizerConfig, source: PictureSource, *, steps: int = 600, seed: int = 0) -> float:
    """Train on one picture alone and return the PSNR in dB; a sound tokenizer passes `OVERFIT_DB`.

    Raises:
        TrainingError: the target is missed, so something in data or network is wrong.
    """
    torch.manual_seed(seed)
    tokenizer = ImageTokenizer(replace(config, storage_dtype="float32"))
    return overfit(tokenizer, to_range(source(0, 1)[0]), steps=steps, target=OVERFIT_DB, name="picture")
