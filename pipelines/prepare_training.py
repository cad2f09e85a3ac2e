"""What a training run of the shared transformer starts from: its tokenizers, and the prompts that it is watched by."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..data.scenes import KINDS
from ..data.scenes import prompts as scene_prompts
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.text import FILE_NAME, TextTokenizer
from .evaluate import VALIDATION_SEED, score_pipeline
from .open_tokenizer import PictureTokenizer, open_text_tokenizer
from .picture_sources import MixedSource, SceneSource
from .text_to_image import TextToImagePipeline
from .train_loop import refuse_run
from .train_text_tokenizer import TextTokenizerRecipe, train_text_tokenizer

Score = Callable[[TextToImagePipeline], dict[str, float]]


def grid_of(size: int, stride: int) -> tuple[int, int]:
    """Codes (h, w) of a square picture of `size` pixels.

    Raises:
        ValueError: the stride does not divide the size.
    """
    if size < stride or size % stride:
        raise ValueError(f"the pictures' size must be a multiple of the tokenizer's stride {stride}, got {size}")
    return size // stride, size // stride


def check_latents(tokenizer: PictureTokenizer, decoders: Sequence[str]) -> None:
    """
    Raises:
        ValueError: `diffusion` is asked for, and the tokenizer has ids alone.
    """
    if not isinstance(tokenizer, ImageTokenizer) and "diffusion" in decoders:
        raise ValueError("diffusion lives on latents, and colors of a palette have none; take the decoders ar, masked")


def text_tokenizer_of(
    captions: Callable[[], Iterable[str]],
    folder: Path,
    *,
    name: str | Path | None,
    vocab_size: int,
    resume: bool,
    say: Callable[[str], None] = print,
) -> TextTokenizer:
    """The one called `name`; or else that of the run to be resumed, in `folder`; or else a new one, left there.

    Raises:
        ValueError: not found, or there are no captions to train one on.
        TrainingError: the folder above `folder` holds a run already, of which this would replace the tokenizer.
    """
    if not resume:
        refuse_run(folder.parent)
    if name is not None:
        return open_text_tokenizer(name)
    if resume and (folder / FILE_NAME).is_file():
        return open_text_tokenizer(folder)
    texts = [text for text in captions() if text.strip()]
    return train_text_tokenizer(texts, TextTokenizerRecipe(vocab_size=vocab_size), folder, say=say)


def watched_prompts(source: MixedSource, text_tokenizer: TextTokenizer, max_tokens: int, count: int = 8) -> list[str]:
    """About `count` prompts, the same for every run on the same data: of scenes one of each kind, of files captions."""
    each = math.ceil(count / len(source.sources))
    chosen: list[str] = []
    for part in source.sources:
        if isinstance(part, SceneSource):
            texts = [scene_prompts(kind, 1, VALIDATION_SEED)[0].text for kind in KINDS]
        else:
            texts = sorted({text for text in part.captions() if text.strip()})
        texts = [text for text in texts if len(text_tokenizer.encode(text)) < max_tokens]
        step = max(1, len(texts) // each)
        chosen += texts[::step][:each]
    return chosen


def scene_score(source: MixedSource, decoders: Sequence[str], per_kind: int) -> Score | None:
    """Share of `per_kind` fresh prompts of each kind that each decoder draws as asked; None without scenes."""
    if per_kind < 1 or not any(isinstance(part, SceneSource) for part in source.sources):
        return None

    def score(pipeline: TextToImagePipeline) -> dict[str, float]:
        return {
            f"{decoder}_{name}": share
            for decoder in decoders
            for name, share in score_pipeline(pipeline, decoder, per_kind=per_kind, seed=VALIDATION_SEED).items()
        }

    return score
