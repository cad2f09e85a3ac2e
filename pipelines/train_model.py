"""Train the shared transformer on captioned pictures and clips under any mix of the three decoders.

Every picture of a batch is learned by every decoder, so data, order and count are the same for all. Batch and noise are
functions of the step alone. Pictures are drawn or read, encoded by the frozen tokenizer, and paired with their
captions; a share of the captions is left out, for guidance. Of a clip one frame is learned, after others that are given
(see clip_order.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import pack, rearrange, unpack
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.made_ahead import MadeAhead
from ..data.media import image_grid, write_png
from ..models.attention import plain_products
from ..models.captured_losses import CapturedLosses
from ..models.objectives import Batch, DecoderLosses, sent
from ..models.optimizers import muon_and_adamw
from ..models.schedules import trapezoid
from ..models.transformer import SharedTransformer, TransformerConfig
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.sequence import prompt_batch
from ..tokenizers.text import TextTokenizer
from .clip_order import mean_known, seen_frames, training_frames
from .clip_sources import ClipSource
from .picture_sources import VALIDATION_NUMBER, Pictures, PictureSource, parts_of
from .text_to_image import TextToImagePipeline, seeded, words_of
from .train_loop import LoopConfig, train
from .train_reconstruction import to_range

COMPILED = (0, 1, 4)  # numbers of given frames that compiled code is made for: each costs many seconds at the start
DRAWING = 1  # random numbers for a batch are apart from those for its noise


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe:
    decoders: tuple[str, ...] = ("ar", "masked", "diffusion")
    data: tuple[str, ...] = ()  # where the examples come from, in words: a resumed run must have the same
    clip_data: tuple[str, ...] = ()  # the same, of clips
    clip_share: float = 0.5  # of the steps that learn clips, where there are any
    text_share: float = 0.0  # of the steps that learn to write the caption of what they see
    steps: int = 3000
    batch_size: int = 32  # pictures, each learned by every decoder
    muon_lr: float = 2e-3
    adamw_lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.5  # share of the steps over which the rate falls to zero
    ema_decay: float = 0.998
    drop_caption: float = 0.1
    prompt_length: int = 64  # tokens that every prompt is padded or cut to: one shape, so that compiling happens once
    bfloat16: bool = False  # products in bfloat16, the rest in float32; pays where the processor has units for it
    compile: bool = False  # fuse the blocks with torch.compile; some minutes at the start, then faster steps
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")
        if not 0 < self.clip_share < 1:
            raise ValueError(f"clip_share must be between 0 and 1, got {self.clip_share}; leave out clips to have none")
        if not 0 <= self.text_share < 1:
            raise ValueError(f"text_share must be at least 0 and less than 1, got {self.text_share}")


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
        image_tokenizer: ImageTokenizer,
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


def codes_of(pictures: Tensor, image_tokenizer: ImageTokenizer) -> Tensor:
    """Uint8 pictures (..., 3, H, W) -> int64 codes (..., h, w); codes, as token shards give them, pass as they are."""
    if pictures.dtype == torch.long:
        return pictures
    flat, axes = pack([pictures], "* C H W")
    (codes,) = unpack(image_tokenizer.encode_unchecked(to_range(flat)), axes, "* h w")
    return codes


@torch.no_grad()
def standardize(model: SharedTransformer, image_tokenizer: ImageTokenizer, source: PictureSource) -> None:
    """Set the model's latent statistics to those of pictures of `source`."""
    parts = parts_of(source, VALIDATION_NUMBER - 1, 256)
    codes = torch.cat([codes_of(pictures, image_tokenizer) for pictures, _ in parts])
    latents = image_tokenizer.quantizer.ids_to_latents(codes).flatten(0, -2)
    model.latent_mean.copy_(latents.mean(0))
    model.latent_std.copy_(latents.std(0).clamp(min=1e-3))


def plan(model: SharedTransformer, recipe: TransformerRecipe, *, gigaflops: float = 150.0) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    trunk = counts["blocks"] + counts["norm"]
    inputs = counts["embedding"] + counts["latent_in"] + counts["place"]
    codes = model.config.num_positions
    given = recipe.clip_share * mean_known() * (1 + codes) if recipe.clip_data else 0
    slots = len(recipe.decoders) * (1 + codes) + given + 24  # 24: tokens of a usual caption
    per_picture = 6 * (trunk * slots + counts["head"] * len(recipe.decoders) * codes)
    total = per_picture * recipe.steps * recipe.batch_size
    parameters = sum(counts.values())
    activations = recipe.batch_size * slots * model.config.num_layers * model.config.width * 4 * 30
    return (
        f"transformer: {parameters / 1e6:.2f} M parameters (trunk {trunk / 1e6:.2f}, inputs "
        f"{inputs / 1e6:.2f}, head {counts['head'] / 1e6:.2f}, modulation "
        f"{counts['modulation'] / 1e6:.2f}); decoders {', '.join(recipe.decoders)}\n"
        f"{recipe.steps} steps of {recipe.batch_size}: {recipe.steps * recipe.batch_size} pictures, "
        f"{per_picture / 1e9:.1f} GFLOP each, {total / 1e15:.2f} PFLOP in all; about "
        f"{(parameters * 16 + activations) / 1e9:.1f} GB; "
        f"{total / gigaflops / 3.6e12:.1f} hours at {gigaflops:.0f} GFLOP/s"
    )


def train_transformer(
    config: TransformerConfig,
    recipe: TransformerRecipe,
    source: PictureSource,
    image_tokenizer: ImageTokenizer,
    text_tokenizer: TextTokenizer,
    out: Path,
    *,
    resume: bool = False,
    init: SharedTransformer | None = None,
    clips: ClipSource | None = None,
    sample_prompts: Sequence[str] = (),
    score: Callable[[TextToImagePipeline], dict[str, float]] | None = None,
    device: str | torch.device = "cpu",
    workers: int = 0,
    accelerator: Any = None,
    say: Callable[[str], None] = print,
) -> TextToImagePipeline:
    """Train and return the finished pipeline; checkpoints, curves and sample grids are written under `out`.

    `init` starts from another model's weights; `clips` are learned beside the pictures; `score` adds figures to each
    evaluation. `workers` processes draw and read the batches ahead. Model and tokenizer move to `device`, or to that of
    the accelerator.

    Raises:
        TrainingError: see `train`.
        ValueError: the source is empty, or the tokenizer does not fit the config.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    model = init or SharedTransformer(config)
    if init is None:
        standardize(model, image_tokenizer, source)
    device = accelerator.device if accelerator else device
    model.to(device)
    image_tokenizer.to(device)
    losses = DecoderLosses(model, recipe.decoders)
    stride = accelerator.num_processes if accelerator else 1
    batches = Batches(source, clips, image_tokenizer, text_tokenizer, model, recipe, workers=workers, stride=stride)
    captions = chain(source.captions(), clips.captions() if clips else ())
    lexicon = {word for caption in captions for word in words_of(caption)}
    say(plan(model, recipe))

    compiled: list[bool] = []
    on_cuda = torch.device(device).type == "cuda"
    # The wrapper of an accelerator must see every forward pass; compiled code was never captured, and starts little.
    captured = CapturedLosses(losses) if on_cuda and accelerator is None and not recipe.compile else None

    def loss(module: nn.Module, stream: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batches(stream)
        if recipe.compile and not compiled:  # here, so that the moving average stays as it is
            torch._dynamo.config.recompile_limit = 32
            for block in model.blocks:  # all share the code that is made for one
                block.compile(dynamic=False)
            compiled.append(True)
        usual = batch.codes.shape[1] - 1 in COMPILED and not batch.describe
        stance = torch.compiler.set_stance("default" if usual else "force_eager")
        kind = batch.codes.device.type
        autocast = torch.autocast(kind, torch.bfloat16, enabled=recipe.bfloat16, cache_enabled=not captured)
        with stance, plain_products(), autocast:
            values = (captured or module)(batch, generator_of(recipe.seed, stream))
        return torch.stack(list(values.values())).mean(), {name: v.detach() for name, v in values.items()}

    def pipeline_of(module: nn.Module) -> TextToImagePipeline:
        trained = cast(DecoderLosses, module).model
        return TextToImagePipeline(trained, image_tokenizer, text_tokenizer, lexicon, writes=recipe.text_share > 0)

    @torch.no_grad()
    def evaluate(module: nn.Module, step: int) -> dict[str, float]:
        scores: dict[str, float] = {}
        for prefix, draw in {"": batches.pictures_drawn, "clip_": batches.clips_drawn}.items():
            if prefix and not clips:
                continue
            for describe in (False, True) if recipe.text_share else (False,):
                generator = generator_of(recipe.seed, VALIDATION_NUMBER)
                values = module(batches.encode(draw(VALIDATION_NUMBER, generator, describe)), generator)
                scores |= {f"validation_{prefix}{name}": float(v) for name, v in values.items()}
        pipeline = pipeline_of(module)
        if sample_prompts:
            rows = [
                pipeline(sample_prompts, decoder=d, generator=seeded(0, len(sample_prompts)), output_type="pt").images
                for d in recipe.decoders
            ]
            write_png(out / "samples" / f"step-{step:08d}.png", image_grid(torch.cat(rows), len(sample_prompts)))
        return scores | (score(pipeline) if score else {})

    pipeline_of(losses)  # refuses tokenizers that do not fit the model, before anything is written
    loop = LoopConfig(
        steps=recipe.steps,
        schedule=trapezoid(recipe.steps, warmup=recipe.warmup, decay=recipe.decay),
        ema_decay=recipe.ema_decay,
        evaluate_every=recipe.evaluate_every,
        checkpoint_every=recipe.checkpoint_every,
    )
    fingerprints = {"image_tokenizer": image_tokenizer.fingerprint, "text_tokenizer": text_tokenizer.fingerprint}
    state = {"config": asdict(model.config), "recipe": asdict(recipe), "fingerprints": fingerprints}
    optimizers = muon_and_adamw(
        model.blocks,
        losses,
        muon_lr=recipe.muon_lr,
        adamw_lr=recipe.adamw_lr,
        dtype=torch.bfloat16 if recipe.bfloat16 else torch.float32,
    )
    average = train(
        losses,
        loss,
        optimizers,
        loop,
        out,
        evaluate=evaluate,
        state=state,
        resume=resume,
        accelerator=accelerator,
        say=say,
    )
    return pipeline_of(average)
