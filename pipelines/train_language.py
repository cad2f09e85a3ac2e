"""Pretrain the shared transformer on text alone: every token is learned from those before it.

All texts, END after each, are one stream of tokens. A window of it is one example, BEGIN put before: an epoch is all
windows of the stream once, in an order and from a first token of its own. So nothing is padded or left out, and a
window may hold the end of one text and the beginning of the next.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.loader import generator_of, permutation
from ..models.attention import plain_products
from ..models.language_objectives import next_token_loss
from ..models.transformer import SharedTransformer, TransformerConfig
from ..tokenizers.text import TextTokenizer
from ..tokenizers.vocabulary import Vocabulary
from .text_to_text import TextToTextPipeline
from .train_loop import train
from .training_cost import Cost, trunk_cost, work
from .trunk_recipe import loop_of, optimizers_of


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe:
    data: tuple[str, ...] = ()  # where the texts come from, in words
    steps: int = 2000
    batch_size: int = 16  # windows
    window: int = 128  # tokens
    muon_lr: float = 4e-3
    adamw_lr: float = 4e-3
    warmup: int = 50
    decay: float = 0.5  # share of the steps over which the rate falls to zero
    ema_decay: float = 0.99
    bfloat16: bool = False  # products in bfloat16, the rest in float32; pays where the processor has units for it
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")


def split_texts(texts: Iterable[str], *, share: float = 0.05, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts to train on, and the last `share` of all letters, to validate on, of texts in an order drawn from `seed`.

    The text that lies across the border is cut in two, at the end of a line where it has some.

    Raises:
        ValueError: there is no text, or too little to cut.
    """
    known = [text for text in texts if text]
    order = torch.randperm(len(known), generator=generator_of(seed)).tolist()
    border = round(sum(map(len, known)) * (1 - share))
    train_texts: list[str] = []
    validation: list[str] = []
    for text in (known[index] for index in order):
        cut = min(max(border, 0), len(text))
        if 0 < cut < len(text):
            cut = text.rfind("\n", 0, cut) + 1 or cut
        train_texts.append(text[:cut])
        validation.append(text[cut:])
        border -= len(text)
    train_texts, validation = [*filter(None, train_texts)], [*filter(None, validation)]
    if not train_texts or not validation:
        raise ValueError("training needs texts, and some of them to validate on, got too little; name longer files")
    return train_texts, validation


def token_stream(texts: Sequence[str], tokenizer: TextTokenizer, end: int) -> Tensor:
    """The ids of all texts one after the other, int64 (L,), `end` after each."""
    ids = [[*tokens, end] for tokens in tokenizer.encode_batch(texts)]
    return torch.cat([torch.tensor(tokens, dtype=torch.long) for tokens in ids])


class Windows:
    """Number -> int64 (B, W): a batch of windows of a stream that is read as a ring.

    Raises:
        ValueError: the stream is shorter than a window.
    """

    def __init__(self, stream: Tensor, recipe: LanguageRecipe):
        if len(stream) < recipe.window:
            raise ValueError(
                f"the text must fill a window of {recipe.window} tokens, got {len(stream)}; add text or take a "
                "smaller window"
            )
        self.stream, self.recipe = stream, recipe
        self.per_epoch = len(stream) // recipe.window

    def __call__(self, number: int) -> Tensor:
        recipe, rows = self.recipe, []
        for position in range(number * recipe.batch_size, (number + 1) * recipe.batch_size):
            epoch, slot = divmod(position, self.per_epoch)
            first = int(torch.randint(len(self.stream), (), generator=generator_of(recipe.seed, epoch, 1)))
            window = int(permutation(recipe.seed, epoch, self.per_epoch)[slot])
            rows.append(first + window * recipe.window + torch.arange(recipe.window))
        return self.stream[torch.stack(rows) % len(self.stream)]


def gigaflops_per_step(config: TransformerConfig, recipe: LanguageRecipe) -> float:
    """Of a training step: products with weights, 2 forward and 4 back, and of attention; a product and a sum are 2."""
    return cost(config, recipe).flop * recipe.batch_size / 1e9


def cost(config: TransformerConfig, recipe: LanguageRecipe) -> Cost:
    """Of a window."""
    head = (Vocabulary(config.text_vocab_size, {}).special("end") + 1) * config.width
    trunk = trunk_cost(config, (recipe.window, 0), bfloat16=recipe.bfloat16)
    return trunk + Cost(6.0 * head * recipe.window, 0)


def plan(model: SharedTransformer, recipe: LanguageRecipe, stream: Tensor, *, gigaflops: float = 50.0) -> str:
    """What is about to happen: parameters, epochs, arithmetic, memory, and hours at `gigaflops` a second."""
    parameters = sum(p.numel() for p in model.parameters())
    tokens = recipe.steps * recipe.batch_size * recipe.window
    examples = f"windows of {recipe.window} tokens"
    return (
        f"transformer: {parameters / 1e6:.2f} M parameters; {tokens / 1e6:.2f} M tokens, "
        f"{tokens / len(stream):.1f} times the text\n"
        + work(recipe, cost(model.config, recipe), parameters, examples, gigaflops=gigaflops)
    )


def train_language(
    config: TransformerConfig,
    recipe: LanguageRecipe,
    texts: Sequence[str],
    validation: Sequence[str],
    tokenizer: TextTokenizer,
    out: Path,
    *,
    resume: bool = False,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = print,
) -> TextToTextPipeline:
    """Train and return the finished model; checkpoints and curves are written under `out`.

    The curves hold `validation_bits_per_byte`, on the texts `validation`.

    Raises:
        TrainingError: see `train`.
        ValueError: the texts do not fill a window, or the tokenizer does not fit the config.
    """
    torch.manual_seed(recipe.seed)  # only the initial weights come from here
    model = SharedTransformer(config).to(device)
    pipeline_of(model, tokenizer, recipe)  # refuses what does not fit, before anything is written
    stream = token_stream(texts, tokenizer, model.vocabulary.special("end"))
    windows = Windows(stream, recipe)
    say(plan(model, recipe, stream))

    def loss(module: nn.Module, number: int) -> tuple[Tensor, dict[str, float]]:
        ids = windows(number).to(device)
        with plain_products(), torch.autocast(ids.device.type, torch.bfloat16, enabled=recipe.bfloat16):
            return next_token_loss(cast(SharedTransformer, module), ids), {}

    def evaluate(module: nn.Module, step: int) -> dict[str, float]:
        pipeline = pipeline_of(cast(SharedTransformer, module), tokenizer, recipe)
        return {"validation_bits_per_byte": pipeline.bits_per_byte(*validation)}

    loop = loop_of(recipe)
    digest = hashlib.sha256(stream.numpy().tobytes()).hexdigest()
    state: dict[str, Any] = {"config": asdict(config), "recipe": asdict(recipe), "text": digest}
    optimizers = optimizers_of(model.blocks, model, recipe)
    average = train(model, loss, optimizers, loop, out, evaluate=evaluate, state=state, resume=resume, say=say)
    return pipeline_of(cast(SharedTransformer, average), tokenizer, recipe)


def pipeline_of(model: SharedTransformer, tokenizer: TextTokenizer, recipe: LanguageRecipe) -> TextToTextPipeline:
    return TextToTextPipeline(model, tokenizer, window=recipe.window)
