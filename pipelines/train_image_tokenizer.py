"""Train an image tokenizer, and show whether the training worked.

Prints and draws, on pictures held apart: PSNR and SSIM, codes in use, how evenly each FSQ dimension uses its levels,
originals beside reconstructions, and the entropy-cliff forecast t* = ceil(log2 N / log2 K) (arXiv:2605.06207): with N
training pictures and K codes, the number of codes after which an autoregressive model can know a picture by heart.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..data.media import image_grid, write_png
from ..models.adversarial import PatchDiscriminator, adversarial_losses
from ..models.image_metrics import psnr, ssim
from ..models.losses import reconstruction_loss
from ..models.schedules import cosine
from ..tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from .picture_sources import VALIDATION_NUMBER, PictureSource
from .train_loop import LoopConfig, TrainingError, train

OVERFIT_DB = 35.0


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerRecipe:
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.0
    absolute: float = 0.3  # weight of the absolute error
    edges: float = 0.3  # weight of the perceptual term
    adversarial: float = 0.0  # weight of the adversarial term; 0: no discriminator
    plain: float = 0.0  # weight of what codes of squares of one color say beyond the color
    freeze_encoder: bool = False  # train the decoder alone: ids made before stay good
    bfloat16: bool = False  # convolutions in bfloat16; pays where the processor has bfloat16 units
    seed: int = 0
    evaluate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")


def to_range(pictures: Tensor) -> Tensor:
    """Uint8 (B, 3, H, W) -> float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def check_input(pictures: Tensor) -> None:
    """Refuse pictures that cannot teach anything: wrong type, or all of one color.

    Raises:
        ValueError: not uint8 RGB, or no contrast at all.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures must be uint8 (B, 3, H, W), got {pictures.dtype} {tuple(pictures.shape)}")
    low, high = pictures.amin(dim=(0, 2, 3)), pictures.amax(dim=(0, 2, 3))
    if torch.equal(low, high):
        raise ValueError(f"pictures must have contrast, but every pixel is {tuple(low.tolist())}; check the files")


def entropy_cliff(num_pictures: int, num_codes: int) -> int:
    """t* = ceil(log2 N / log2 K): codes that suffice to tell N pictures apart."""
    return math.ceil(math.log2(max(2, num_pictures)) / math.log2(num_codes))


class ReconstructionLosses(nn.Module):
    """A tokenizer, and the discriminator if there is one, as a module whose forward is the loss."""

    def __init__(self, tokenizer: ImageTokenizer, recipe: ImageTokenizerRecipe):
        super().__init__()
        self.tokenizer, self.recipe = tokenizer, recipe
        self.discriminator = PatchDiscriminator() if recipe.adversarial else None
        tokenizer.encoder.requires_grad_(not recipe.freeze_encoder)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Pictures (B, 3, H, W) in [-1, 1] -> what to minimize, and figures to show."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            outputs, z_q = self.tokenizer(images)
        outputs = outputs.float()
        value = reconstruction_loss(outputs, images, absolute=self.recipe.absolute, edges=self.recipe.edges)
        figures = {"psnr_train": float(psnr(outputs.detach(), images).mean())}
        if self.recipe.plain:
            excess = plain_excess(self.tokenizer, images, z_q)
            value = value + self.recipe.plain * excess
            figures["plain_excess"] = float(excess.detach())
        if self.discriminator is not None:
            deceive, detect = adversarial_losses(self.discriminator, outputs, images)
            value = value + self.recipe.adversarial * deceive + detect
            figures["discriminator"] = float(detect.detach())
        return value, figures


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


@torch.no_grad()
def diagnose(tokenizer: ImageTokenizer, pictures: Tensor) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores on pictures (N, 3, H, W) in [-1, 1]; also the reconstructions and the share of each level (D, max L)."""
    ids = torch.cat([tokenizer.encode(chunk) for chunk in pictures.split(64)])
    size = (pictures.shape[2], pictures.shape[3])
    reconstructions = torch.cat([tokenizer.decode(chunk, size) for chunk in ids.split(64)])
    counts = torch.bincount(ids.flatten(), minlength=tokenizer.vocab_size).double()
    shares = counts / counts.sum()
    cells = tokenizer.quantizer.cells(tokenizer.quantizer.ids_to_latents(ids)).flatten(0, 2)
    levels = torch.stack([torch.bincount(c, minlength=max(tokenizer.config.levels)) for c in cells.T]) / len(cells)
    scores = {
        "psnr": float(psnr(reconstructions, pictures).mean()),
        "ssim": float(ssim(reconstructions, pictures).mean()),
        "codes_in_use": float((counts > 0).sum()),
        "bits_per_code": float(-(shares * shares.clamp(min=1e-12).log2()).sum()),
    }
    return scores, reconstructions, levels


def level_histogram(levels: Tensor) -> Image.Image:
    """A picture of bars: one row per FSQ dimension, the height of bar i the share (0 to 1) of its level i."""
    bar, height, gap = 12, 60, 8
    rows, columns = levels.shape
    sheet = Image.new("RGB", (columns * (bar + 2) + 2 * gap, rows * (height + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for row, shares in enumerate(levels.tolist()):
        foot = gap + row * (height + gap) + height
        draw.line([(gap, foot), (gap + columns * (bar + 2), foot)], fill="gray")
        for column, share in enumerate(shares):
            left = gap + column * (bar + 2)
            draw.rectangle([left, foot - share * height, left + bar, foot], fill=(45, 80, 220))
    return sheet


def train_image_tokenizer(
    config: ImageTokenizerConfig,
    recipe: ImageTokenizerRecipe,
    source: PictureSource,
    out: Path,
    *,
    resume: bool = False,
    init: ImageTokenizer | None = None,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = print,
) -> ImageTokenizer:
    """Train on `source` and return the tokenizer; checkpoints, curves and pictures are written under `out`.

    Raises:
        ValueError: the pictures cannot be learned from.
        TrainingError: see `train`.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    tokenizer = init or ImageTokenizer(config)
    start, _ = source(VALIDATION_NUMBER - 1, 256)
    check_input(start)
    if init is None:
        tokenizer.start_linear(to_range(start))
    tokenizer.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    validation = to_range(source(VALIDATION_NUMBER, 256)[0].to(device))
    say(plan(config, recipe, tokenizer, validation.shape[-1]))

    def loss(module: nn.Module, stream: int) -> tuple[Tensor, dict[str, float]]:
        return module(
            to_range(source(stream, recipe.batch_size)[0].to(device)).contiguous(memory_format=torch.channels_last)
        )

    def evaluate(module: nn.Module, step: int) -> dict[str, float]:
        scores, reconstructions, levels = diagnose(cast(ReconstructionLosses, module).tokenizer, validation)
        pairs = rearrange(torch.stack([validation[:32], reconstructions[:32]]), "two B C H W -> B C (two H) W")
        write_png(out / "reconstructions.png", image_grid(pairs, 8))
        write_png(out / "levels.png", level_histogram(levels))
        return scores

    losses = ReconstructionLosses(tokenizer, recipe)
    optimizer = torch.optim.AdamW(
        [p for p in losses.parameters() if p.requires_grad],
        lr=recipe.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    loop = LoopConfig(
        steps=recipe.steps,
        schedule=cosine(recipe.steps, warmup=recipe.warmup),
        ema_decay=0.998,
        evaluate_every=recipe.evaluate_every,
        checkpoint_every=recipe.checkpoint_every,
    )
    state = {"config": asdict(config), "recipe": asdict(recipe)}
    average = train(losses, loss, [optimizer], loop, out, evaluate=evaluate, state=state, resume=resume, say=say)
    trained = cast(ReconstructionLosses, average).tokenizer
    return trained.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def cost(tokenizer: ImageTokenizer, size: int) -> tuple[float, float]:
    """FLOP of training on one picture of `size` x `size`, and bytes kept for its backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    kept = 0

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal kept
        kept += output.numel() * output.element_size()

    leaves = [part for part in tokenizer.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [part.register_forward_hook(keep) for part in leaves]
    with FlopCounterMode(display=False) as counter:
        tokenizer(torch.zeros(1, 3, size, size, device=next(tokenizer.parameters()).device))
    for hook in hooks:
        hook.remove()
    return (
        3.0 * counter.get_total_flops(),
        2.0 * kept,
    )  # backward costs two forwards; each convolution has a silu before


def plan(
    config: ImageTokenizerConfig,
    recipe: ImageTokenizerRecipe,
    tokenizer: ImageTokenizer,
    size: int,
    *,
    gigaflops: float = 150.0,
) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    parameters = sum(p.numel() for p in tokenizer.parameters())
    pictures = recipe.steps * recipe.batch_size
    flop, kept = cost(tokenizer, size)
    memory = 20 * parameters + recipe.batch_size * kept  # weights, average, gradient, two moments
    return (
        f"image tokenizer: stride {config.stride}, {config.vocab_size} codes, {parameters / 1e6:.2f} M parameters, "
        f"{math.log2(config.vocab_size) / config.stride**2:.3f} bits per pixel\n"
        f"{recipe.steps} steps of {recipe.batch_size}: {pictures} pictures of {size} x {size}, {flop / 1e9:.2f} GFLOP "
        f"each, {flop * pictures / 1e15:.2f} PFLOP in all; about {memory / 1e9:.1f} GB; "
        f"{flop * pictures / gigaflops / 3.6e12:.1f} hours at {gigaflops:.0f} GFLOP/s\n"
        f"entropy cliff t* = {entropy_cliff(pictures, config.vocab_size)} codes of {(size // config.stride) ** 2}"
    )


def overfit_one(config: ImageTokenizerConfig, source: PictureSource, *, steps: int = 600, seed: int = 0) -> float:
    """Train on one picture alone and return the PSNR in dB; a sound tokenizer passes `OVERFIT_DB`.

    Raises:
        TrainingError: the target is missed, so something in data or network is wrong.
    """
    torch.manual_seed(seed)
    tokenizer = ImageTokenizer(replace(config, storage_dtype="float32"))
    image = to_range(source(0, 1)[0])
    tokenizer.start_linear(image)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = cosine(steps, warmup=10)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * schedule(step)
        outputs, _ = tokenizer(image)
        optimizer.zero_grad()
        reconstruction_loss(outputs, image, absolute=0.0, edges=0.0).backward()
        optimizer.step()
    reached = float(psnr(tokenizer.decode(tokenizer.encode(image)), image).mean())
    if reached < OVERFIT_DB:
        raise TrainingError(f"one picture must reach {OVERFIT_DB} dB, got {reached:.1f}; check data range and network")
    return reached
