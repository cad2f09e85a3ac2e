"""Train the head that makes vectors, on a transformer that stays as it is.

B pairs of a caption with a picture, a clip or a sound: see contrastive_pairs.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.made_ahead import MadeAhead
from ..models.contrastive import ContrastiveConfig, ContrastiveHead, contrastive_loss
from ..models.features import Features
from ..models.schedules import cosine
from .clip_order import seen_frames
from .contrastive_pairs import ContrastiveRecipe, Pairs, PairSource
from .embed import EmbeddingPipeline
from .open_models import Model
from .retrieval import recall
from .text_to_image import TextToImagePipeline
from .train_loop import LoopConfig, train
from .training_cost import Cost, of_kinds, trunk_cost, work

OUTSIDE, BLOCK = 3, 10  # numbers of its width that the head keeps of a token, outside of its blocks and in each


@torch.no_grad()
def features_of(pipeline: EmbeddingPipeline, pairs: Pairs, recipe: ContrastiveRecipe) -> tuple[Features, Features]:
    """What the transformer makes of the captions, and of what they tell about."""
    model = pipeline.model
    tokens = [model.text_tokenizer.encode(text)[: recipe.prompt_length - 1] for text in pairs.captions]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bfloat16):
        return pipeline.text_features(tokens), pairs.media_features(pipeline)


def numbered(captions: Sequence[str]) -> Tensor:
    """Texts -> int64 (B,), the same number for the same text."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in captions])


def plan(pipeline: EmbeddingPipeline, recipe: ContrastiveRecipe, *, gigaflops: float = 150.0) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    model, parameters = pipeline.model, sum(p.numel() for p in pipeline.head.parameters())
    read = model.transformer, model.image_tokenizer if isinstance(model, TextToImagePipeline) else model.audio_tokenizer
    frozen = sum(p.numel() for part in read if isinstance(part, nn.Module) for p in part.parameters())
    layers = ", ".join(map(str, pipeline.head.config.layers))
    told = f"head: {parameters / 1e6:.2f} M parameters, on layers {layers} of a transformer that stays as it is\n"
    return told + work(recipe, cost(pipeline, recipe), parameters, "pairs", frozen=frozen, gigaflops=gigaflops)


def cost(pipeline: EmbeddingPipeline, recipe: ContrastiveRecipe) -> Cost:
    """Of a pair: the transformer reads both, forward only; the head keeps what its backward pass needs."""
    trunk, head = pipeline.model.transformer.config, pipeline.head.config
    kept = len(head.layers) * trunk.width + head.width * (OUTSIDE + BLOCK * head.num_blocks)  # numbers of a token
    tower = sum(p.numel() for p in pipeline.head.text.parameters())

    def pair(seen: int) -> Cost:
        text = recipe.prompt_length
        read = trunk_cost(replace(trunk, num_layers=max(head.layers)), (text, 0), (1 + seen, 0))
        return Cost(read.flop / 3 + 6.0 * tower * (text + seen), 4.0 * kept * (text + seen))

    if not isinstance(pipeline.model, TextToImagePipeline):
        return pair(1 + trunk.sound_steps)  # at most
    frame, moving = 1 + trunk.num_positions, recipe.clip_share if recipe.clip_data else 0.0
    return of_kinds([(1 - moving, pair(frame)), (moving, pair(frame * len(seen_frames(trunk.num_frames))))])


def train_contrastive(
    config: ContrastiveConfig,
    recipe: ContrastiveRecipe,
    source: PairSource,
    model: Model,
    out: Path,
    *,
    resume: bool = False,
    device: str | torch.device = "cpu",
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> EmbeddingPipeline:
    """Train a head for the transformer of `model` and return both; checkpoints and curves are written under `out`.

    `workers` processes draw and read the batches ahead.

    Raises:
        TrainingError: see `train`.
        ValueError: the source is empty, or the config does not fit the transformer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # only the initial weights come from here
        head = ContrastiveHead(config)
    pipeline = EmbeddingPipeline(model, head).to(device)
    drawn = MadeAhead(source, workers)
    say(plan(pipeline, recipe))

    def loss_on(module: nn.Module, batch: Pairs) -> tuple[Tensor, dict[str, float]]:
        scores = cast(ContrastiveHead, module)(*features_of(pipeline, batch, recipe))
        texts = numbered(batch.captions)
        value = contrastive_loss(scores, texts.to(scores.device))
        return value, {"recall_at_1": recall(scores.detach(), 1, lambda row, column: bool(texts[row] == texts[column]))}

    @torch.no_grad()
    def evaluate(module: nn.Module, step: int) -> dict[str, float]:
        figures: dict[str, float] = {}
        for prefix, pairs in source.validation().items():
            value, found = loss_on(module, pairs)
            figures |= {f"validation_{prefix}{name}": v for name, v in {"loss": float(value), **found}.items()}
        return figures

    average = train(
        head,
        lambda module, stream: loss_on(module, drawn(stream)),
        [torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)],
        LoopConfig(
            steps=recipe.steps,
            schedule=cosine(recipe.steps, warmup=recipe.warmup),
            ema_decay=0.99,
            evaluate_every=recipe.evaluate_every,
            checkpoint_every=recipe.checkpoint_every,
        ),
        out,
        evaluate=evaluate,
        state={"config": asdict(config), "recipe": asdict(recipe), "fingerprints": pipeline.fingerprints},
        resume=resume,
        say=say,
    )
    return EmbeddingPipeline(model, cast(ContrastiveHead, average))
