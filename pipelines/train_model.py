"""Train the shared transformer on captioned pictures and clips under any mix of the three decoders.

Every picture of a batch is learned by every decoder, so data, order and count are the same for all. Batch and noise are
functions of the step alone (see training_batches.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.media import image_grid, write_png
from ..models.attention import plain_products
from ..models.captured_losses import CapturedLosses
from ..models.objectives import DecoderLosses
from ..models.transformer import SharedTransformer, TransformerConfig
from ..tokenizers.text import TextTokenizer
from .clip_sources import ClipSource
from .open_tokenizer import PictureTokenizer
from .picture_sources import VALIDATION_NUMBER, PictureSource, parts_of
from .text_to_image import TextToImagePipeline, seeded, words_of
from .train_loop import train
from .train_recipe import TransformerRecipe, plan
from .training_batches import NOISE, Batches, codes_of
from .trunk_recipe import loop_of, optimizers_of

Score = Callable[[TextToImagePipeline], dict[str, float]]


@torch.no_grad()
def standardize(model: SharedTransformer, image_tokenizer: PictureTokenizer, source: PictureSource) -> None:
    """Set the model's latent statistics to those of pictures of `source`."""
    parts = parts_of(source, VALIDATION_NUMBER - 1, 256)
    codes = torch.cat([codes_of(pictures, image_tokenizer) for pictures, _ in parts])
    latents = model.quantizer.ids_to_latents(codes).flatten(0, -2)
    model.latent_mean.copy_(latents.mean(0))
    model.latent_std.copy_(latents.std(0).clamp(min=1e-3))


class BatchLoss:
    """(module, number) -> the mean of the decoders' losses on that batch, and each of them: what training descends.

    `wrapped`: the module that comes is not `losses` itself, but what an accelerator made of it.
    """

    def __init__(self, losses: DecoderLosses, batches: Batches, *, wrapped: bool):
        self.model, self.batches, self.recipe = losses.model, batches, batches.recipe
        self.compiled = False
        # The wrapper of an accelerator must see every forward pass; compiled code was not captured, and starts little.
        on_cuda = batches.device.type == "cuda"
        self.captured = CapturedLosses(losses) if on_cuda and not wrapped and not self.recipe.compile else None

    def __call__(self, module: nn.Module, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = self.batches(number)
        if self.recipe.compile and not self.compiled:  # here, so that the moving average stays as it is
            self.model.compile_blocks(dynamic=False)
            self.compiled = True
        stance = torch.compiler.set_stance("force_eager" if batch.describe else "default")
        kind, cached = self.batches.device.type, self.captured is None
        autocast = torch.autocast(kind, torch.bfloat16, enabled=self.recipe.bfloat16, cache_enabled=cached)
        with stance, plain_products(), autocast:
            values = (self.captured or module)(batch, generator_of(self.recipe.seed, number, NOISE))
        return torch.stack(list(values.values())).mean(), {name: value.detach() for name, value in values.items()}


@dataclass(frozen=True)
class Evaluation:
    """(module, step) -> its losses on examples kept for that, and the figures of `score`; writes a grid of samples."""

    batches: Batches
    pipeline_of: Callable[[nn.Module], TextToImagePipeline]
    out: Path
    prompts: Sequence[str]  # what the samples are of; a row for each decoder
    score: Score | None

    @torch.no_grad()
    def __call__(self, module: nn.Module, step: int) -> dict[str, float]:
        pipeline, figures = self.pipeline_of(module), self.losses(module)
        if self.prompts:
            self.write_samples(pipeline, step)
        return figures | (self.score(pipeline) if self.score else {})

    def losses(self, module: nn.Module) -> dict[str, float]:
        """In nats per code or, of captions, per token."""
        batches, recipe = self.batches, self.batches.recipe
        draws = {"": batches.pictures_drawn} | ({"clip_": batches.clips_drawn} if batches.clips else {})
        figures: dict[str, float] = {}
        for prefix, draw in draws.items():
            for describe in (False, True) if recipe.text_share else (False,):
                generator = generator_of(recipe.seed, VALIDATION_NUMBER, NOISE)
                values = module(batches.encode(draw(VALIDATION_NUMBER, generator, describe)), generator)
                figures |= {f"validation_{prefix}{name}": float(value) for name, value in values.items()}
        return figures

    def write_samples(self, pipeline: TextToImagePipeline, step: int) -> None:
        prompts = self.prompts
        rows = [
            pipeline(prompts, decoder=decoder, generator=seeded(0, len(prompts)), output_type="pt").images
            for decoder in self.batches.recipe.decoders
        ]
        write_png(self.out / "samples" / f"step-{step:08d}.png", image_grid(torch.cat(rows), len(prompts)))


def train_transformer(
    config: TransformerConfig,
    recipe: TransformerRecipe,
    source: PictureSource,
    image_tokenizer: PictureTokenizer,
    text_tokenizer: TextTokenizer,
    out: Path,
    *,
    resume: bool = False,
    init: SharedTransformer | None = None,
    clips: ClipSource | None = None,
    sample_prompts: Sequence[str] = (),
    score: Score | None = None,
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

    def pipeline_of(module: nn.Module) -> TextToImagePipeline:
        trained = cast(DecoderLosses, module).model
        return TextToImagePipeline(trained, image_tokenizer, text_tokenizer, lexicon, writes=recipe.text_share > 0)

    pipeline_of(losses)  # refuses tokenizers that do not fit the model, before anything is written
    loop = loop_of(recipe)
    fingerprints = {"image_tokenizer": image_tokenizer.fingerprint, "text_tokenizer": text_tokenizer.fingerprint}
    state = {"config": asdict(model.config), "recipe": asdict(recipe), "fingerprints": fingerprints}
    optimizers = optimizers_of(model.blocks, losses, recipe)
    average = train(
        losses,
        BatchLoss(losses, batches, wrapped=accelerator is not None),
        optimizers,
        loop,
        out,
        evaluate=Evaluation(batches, pipeline_of, out, sample_prompts, score),
        state=state,
        resume=resume,
        accelerator=accelerator,
        say=say,
    )
    return pipeline_of(average)
