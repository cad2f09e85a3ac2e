"""Train the head that makes vectors: on captioned pictures and clips, on a transformer that stays as it is.

B pairs of a caption with a picture or a clip. A batch is a function of the step alone: pictures in most steps, clips in
a share of them, never both, so that every wrong answer is of the right kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.loader import generator_of
from ..data.made_ahead import MadeAhead
from ..models.contrastive import ContrastiveConfig, ContrastiveHead, contrastive_loss
from ..models.features import Features
from ..models.schedules import cosine
from .clip_order import seen_frames
from .clip_sources import ClipSource
from .embed import EmbeddingPipeline
from .picture_sources import VALIDATION_NUMBER, PictureSource, parts_of
from .retrieval import recall
from .seen_media import begun_frames
from .text_to_image import TextToImagePipeline
from .train_loop import LoopConfig, train
from .training_batches import codes_of
from .training_cost import Cost, of_kinds, trunk_cost, work

DRAWING = 2  # random numbers for what a step learns are apart from all others
VALIDATION_PAIRS = 128
OUTSIDE, BLOCK = 3, 10  # numbers of its width that the head keeps of a token, outside of its blocks and in each


@dataclass(frozen=True, kw_only=True)
class ContrastiveRecipe:
    data: tuple[str, ...] = ()  # where the pictures come from, in words: a resumed run must have the same
    clip_data: tuple[str, ...] = ()  # the same, of clips
    clip_share: float = 0.25  # of the steps that learn clips, where there are any
    steps: int = 600
    batch_size: int = 128  # pairs: each tells its own from the others
    learning_rate: float = 2e-3
    warmup: int = 30
    prompt_length: int = 64  # tokens; captions are cut there
    bfloat16: bool = False  # products of the transformer in bfloat16; pays where the processor has units for it
    seed: int = 0
    evaluate_every: int = 100
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise ValueError(f"steps must be at least 1 and batch_size 2, got {self.steps} and {self.batch_size}")
        if not 0 < self.clip_share < 1:
            raise ValueError(f"clip_share must be between 0 and 1, got {self.clip_share}; leave out clips to have none")
        if self.prompt_length < 2:
            raise ValueError(f"prompt_length must be at least 2, got {self.prompt_length}")


@dataclass(frozen=True)
class Pairs:
    """A batch before tokenizers and transformer have seen it."""

    parts: list[Tensor]  # of each source: uint8 (n, m, 3, H, W), or codes of token shards, int64 (n, m, h, w)
    captions: list[str]
    numbers: list[int]  # which frames of the clips they are; [0] for pictures


class PairSource:
    """Number -> pairs of captions with pictures, or with the frames that are seen of clips."""

    def __init__(self, pictures: PictureSource, clips: ClipSource | None, recipe: ContrastiveRecipe):
        self.pictures, self.clips, self.recipe = pictures, clips, recipe

    def __call__(self, number: int) -> Pairs:
        moving = float(torch.rand((), generator=generator_of(self.recipe.seed, number, DRAWING)))
        if self.clips and moving < self.recipe.clip_share:
            return self.of_clips(number, self.recipe.batch_size)
        return self.of_pictures(number, self.recipe.batch_size)

    def of_pictures(self, number: int, count: int) -> Pairs:
        parts = parts_of(self.pictures, number, count)
        return Pairs([pictures.unsqueeze(1) for pictures, _ in parts], _captions(parts), [0])

    def of_clips(self, number: int, count: int) -> Pairs:
        assert self.clips is not None
        parts = parts_of(self.clips, number, count)
        clips = [clips if clips.dtype == torch.long else clips.transpose(1, 2) for clips, _ in parts]  # (n, T, ...)
        numbers = seen_frames(clips[0].shape[1])
        return Pairs([clip[:, numbers] for clip in clips], _captions(parts), numbers)


def _captions(parts: Sequence[tuple[Tensor, list[str]]]) -> list[str]:
    return [caption for _, captions in parts for caption in captions]


@torch.no_grad()
def features_of(pipeline: EmbeddingPipeline, pairs: Pairs, recipe: ContrastiveRecipe) -> tuple[Features, Features]:
    """What the transformer makes of the captions, and of what they tell about."""
    pictures, device = pipeline.pictures, pipeline.pictures.device
    codes = torch.cat([codes_of(part.to(device), pictures.image_tokenizer).to(device) for part in pairs.parts])
    numbers = torch.tensor(pairs.numbers, device=device).repeat(len(codes), 1)
    tokens = [pictures.text_tokenizer.encode(text)[: recipe.prompt_length - 1] for text in pairs.captions]
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16):
        return pipeline.text_features(tokens), pipeline.frame_features(
            begun_frames(pictures.transformer.vocabulary, codes), numbers
        )


def numbered(captions: Sequence[str]) -> Tensor:
    """Texts -> int64 (B,), the same number for the same text."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in captions])


def plan(pipeline: EmbeddingPipeline, recipe: ContrastiveRecipe, *, gigaflops: float = 150.0) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    parameters = sum(p.numel() for p in pipeline.head.parameters())
    read = pipeline.pictures.transformer, pipeline.pictures.image_tokenizer
    frozen = sum(p.numel() for part in read for p in part.parameters())
    layers = ", ".join(map(str, pipeline.head.config.layers))
    told = f"head: {parameters / 1e6:.2f} M parameters, on layers {layers} of a transformer that stays as it is\n"
    return told + work(recipe, cost(pipeline, recipe), parameters, "pairs", frozen=frozen, gigaflops=gigaflops)


def cost(pipeline: EmbeddingPipeline, recipe: ContrastiveRecipe) -> Cost:
    """Of a pair: the transformer reads both, forward only; the head keeps what its backward pass needs."""
    trunk, head = pipeline.pictures.transformer.config, pipeline.head.config
    frame, text = 1 + trunk.num_positions, recipe.prompt_length
    kept = len(head.layers) * trunk.width + head.width * (OUTSIDE + BLOCK * head.num_blocks)  # numbers of a token
    tower = sum(p.numel() for p in pipeline.head.text.parameters())

    def pair(seen: int) -> Cost:
        read = trunk_cost(replace(trunk, num_layers=max(head.layers)), (text, 0), (1 + seen * frame, 0))
        tokens = text + seen * frame
        return Cost(read.flop / 3 + 6.0 * tower * tokens, 4.0 * kept * tokens)

    moving = recipe.clip_share if recipe.clip_data else 0.0
    return of_kinds([(1 - moving, pair(1)), (moving, pair(len(seen_frames(trunk.num_frames))))])


def train_contrastive(
    config: ContrastiveConfig,
    recipe: ContrastiveRecipe,
    source: PictureSource,
    pictures: TextToImagePipeline,
    out: Path,
    *,
    resume: bool = False,
    clips: ClipSource | None = None,
    device: str | torch.device = "cpu",
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> EmbeddingPipeline:
    """Train a head for the transformer of `pictures` and return both; checkpoints and curves are written under `out`.

    `workers` processes draw and read the batches ahead.

    Raises:
        TrainingError: see `train`.
        ValueError: the source is empty, or the config does not fit the transformer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # only the initial weights come from here
        head = ContrastiveHead(config)
    pipeline = EmbeddingPipeline(pictures, head).to(device)
    pairs = PairSource(source, clips, recipe)
    drawn = MadeAhead(pairs, workers)
    say(plan(pipeline, recipe))

    def loss_on(module: nn.Module, batch: Pairs) -> tuple[Tensor, dict[str, float]]:
        scores = cast(ContrastiveHead, module)(*features_of(pipeline, batch, recipe))
        value = contrastive_loss(scores, numbered(batch.captions).to(scores.device))
        return value, {"recall_at_1": recall(scores.detach(), 1)}

    @torch.no_grad()
    def evaluate(module: nn.Module, step: int) -> dict[str, float]:
        figures: dict[str, float] = {}
        for prefix, draw in {"": pairs.of_pictures, "clip_": pairs.of_clips}.items():
            if prefix and not clips:
                continue
            value, found = loss_on(module, draw(VALIDATION_NUMBER, VALIDATION_PAIRS))
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
    return EmbeddingPipeline(pictures, cast(ContrastiveHead, average))
