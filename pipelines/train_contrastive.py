"""Train the head that makes vectors, on a transformer that stays as it is.

B pairs of a caption with a picture, a clip or a sound: see contrastive_pairs.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.made_ahead import MadeAhead
from ..models.contrastive import ContrastiveConfig, ContrastiveHead, contrastive_loss
from ..models.features import Features
from ..models.schedules import cosine
from .contrastive_pairs import ContrastiveRecipe, Pairs, PairSource
from .embed import EmbeddingPipeline
from .open_models import Model
from .retrieval import recall
from .train_loop import LoopConfig, train


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
    parameters = sum(p.numel() for p in head.parameters())
    say(f"head: {parameters / 1e3:.0f} K parameters; {recipe.steps} steps of {recipe.batch_size} pairs")

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
