"""Stand-ins for the tests: the real classes at toy sizes, every weight alive, and a world of twelve pictures.

Fresh networks start at zero in places, so that a law could hold for no reason: `awaken` moves every weight off that.
Nothing here touches torch's global generator.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from tokenloom.data.loader import generator_of
from tokenloom.models.attention import KVCache
from tokenloom.models.transformer import SharedTransformer, TransformerConfig
from tokenloom.pipelines.speech_sources import Recording
from tokenloom.pipelines.text_to_image import TextToImagePipeline, words_of
from tokenloom.pipelines.train_reconstruction import to_range
from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from tokenloom.tokenizers.entropy_model import EntropyModel, EntropyModelConfig
from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from tokenloom.tokenizers.sequence import Packed, media_positions, prompt_batch, text_positions
from tokenloom.tokenizers.text import TextTokenizer
from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig
from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

LEVELS = (4, 3)
GRID = (2, 2)
SIZE = 8  # pixels per side of a toy picture: GRID codes of 4 x 4 pixels
COLORS = {"red": (250, 20, 20), "green": (200, 230, 40), "blue": (40, 60, 220), "white": (250, 250, 250)}
TONES = {"low": 200.0, "middle": 500.0, "high": 1500.0}  # hertz
CAPTIONS = tuple(f"{above} over {below}" for above, below in permutations(COLORS, 2))


def awaken(module: nn.Module, seed: int) -> None:
    """Add noise to every parameter, of the size that its layer starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.add_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)


def toy_config(**changes) -> TransformerConfig:
    sizes = {"text_vocab_size": 300, "image_levels": LEVELS, "image_grid": GRID}
    return TransformerConfig(**(sizes | {"width": 32, "num_layers": 2, "num_heads": 2} | changes))


def toy_transformer(seed: int = 0, *, alive: bool = True, **changes) -> SharedTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SharedTransformer(toy_config(**changes))
    if alive:
        awaken(model, seed)
    return model.eval()


def embedded(model: SharedTransformer, packed: Packed) -> Tensor:
    """What the trunk reads of whole sequences, whose segment 1 is a picture: (B, L, D)."""
    x = model.embedding(packed.ids)
    for row, picture in enumerate(packed.segments == 1):
        where = packed.positions[row, picture][None]
        x[row, picture] += model.places(where, where[:, 0, 0])[0]
    return x


def toy_image_tokenizer(seed: int = 0, *, alive: bool = True, **changes) -> ImageTokenizer:
    sizes = {"stride": 4, "levels": LEVELS, "widths": (8,), "encoder_blocks": (1,), "decoder_blocks": (1,)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = ImageTokenizer(ImageTokenizerConfig(**(sizes | changes)))
    if alive:
        awaken(tokenizer, seed)
    return tokenizer.eval()


def toy_entropy_model(seed: int = 0, **changes) -> EntropyModel:
    config = EntropyModelConfig(**({"levels": (9, 5, 3, 2), "width": 16, "num_groups": 2} | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EntropyModel(config)
    awaken(model, seed)
    return model.eval()


def toy_photo(width: int = 48, height: int = 32, seed: int = 0) -> Image.Image:
    """Soft ramps with some noise: what JPEG is made for."""
    y, x = np.mgrid[0:height, 0:width]
    ramps = np.stack([x * 5, y * 7, 255 - (x + y) * 3], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 12, ramps.shape)
    return Image.fromarray((ramps + noise).clip(0, 255).astype(np.uint8))


def toy_video_tokenizer(seed: int = 0, *, alive: bool = True, **changes) -> VideoTokenizer:
    sizes = {"stride": 4, "levels": LEVELS, "widths": (8,), "encoder_blocks": (1,), "decoder_blocks": (1,)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = VideoTokenizer(VideoTokenizerConfig(**(sizes | changes)))
    if alive:
        awaken(tokenizer, seed)
    return tokenizer.eval()


def toy_audio_tokenizer(seed: int = 0, *, alive: bool = True, **changes) -> AudioTokenizer:
    """Three codebooks of 8 codes: of the envelope, of the pulses, of both."""
    levels = ((1, 1, 4, 2), (2, 4, 1, 1), (1, 2, 2, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = AudioTokenizer(AudioTokenizerConfig(**({"levels": levels, "width": 12, "fine_width": 8} | changes)))
    if alive:
        awaken(tokenizer, seed)
    return tokenizer.eval()


def toy_units_tokenizer(seed: int = 0, *, alive: bool = True, **changes) -> UnitsTokenizer:
    """Its 8 units are patches of noise of several loudnesses."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {"num_units": 8, "dims": 6, "width": 12, "fine_width": 8, "decoder_blocks": 1, "fine_blocks": 1}
        tokenizer = UnitsTokenizer(UnitsTokenizerConfig(**(sizes | changes)))
    loudness = torch.linspace(0, 30, 16_000).sin() * 0.2
    tokenizer.start((loudness * torch.randn(4, 1, 16_000, generator=generator)).clamp(-1, 1), generator)
    if alive:
        centroids = tokenizer.centroids.clone()
        awaken(tokenizer, seed)
        tokenizer.centroids.copy_(centroids)
    return tokenizer.eval()


@lru_cache
def toy_text_tokenizer() -> TextTokenizer:
    """Its merges make one token of each word of the captions."""
    return TextTokenizer.train(CAPTIONS * 4, vocab_size=300)


def toy_picture(caption: str) -> Tensor:
    """Uint8 (3, SIZE, SIZE): the upper half in one color, the lower in another."""
    above, _, below = caption.split()
    rows = torch.tensor([COLORS[above], COLORS[below]], dtype=torch.uint8)
    return rearrange(rows, "two C -> C two").repeat_interleave(SIZE // 2, dim=1).unsqueeze(2).repeat(1, 1, SIZE)


class ToySource:
    """A PictureSource: every batch is drawn from the twelve pictures by its number alone."""

    def __init__(self, captions: Sequence[str] = CAPTIONS, seed: int = 0):
        self.names, self.seed = tuple(captions), seed

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        drawn = torch.randint(len(self.names), (count,), generator=generator_of(self.seed, number))
        names = [self.names[index] for index in drawn.tolist()]
        return torch.stack([toy_picture(name) for name in names]), names

    def captions(self) -> Iterable[str]:
        return self.names


def toy_pictures() -> Tensor:
    """The twelve pictures, float32 (12, 3, SIZE, SIZE) in [-1, 1]."""
    return to_range(torch.stack([toy_picture(caption) for caption in CAPTIONS]))


def toy_pipeline(seed: int = 0, **changes) -> TextToImagePipeline:
    image_tokenizer = toy_image_tokenizer(seed, alive=False)
    image_tokenizer.start_linear(toy_pictures())
    lexicon = {word for caption in CAPTIONS for word in words_of(caption)}
    return TextToImagePipeline(toy_transformer(seed, **changes), image_tokenizer, toy_text_tokenizer(), lexicon)


def prompt_of(model: SharedTransformer, tokens: Sequence[Sequence[int]], padding: int = 0) -> tuple[KVCache, Tensor]:
    """Cache of the prompts, and positions (B, 1 + N, 3) of BEGIN and the codes of the picture after each.

    `padding` columns are added on the right, of arbitrary ids.
    """
    ids, real = prompt_batch(tokens, model.vocabulary)
    ids = torch.cat([ids, ids.new_full((len(ids), padding), 7)], dim=1)
    real = torch.cat([real, real.new_zeros(len(real), padding)], dim=1)
    cache = model.prefill(ids, text_positions(ids.shape[1]), real)
    return cache, media_positions(model.config.image_grid) + real.sum(1)[:, None, None]


def tone(name: str) -> Recording:
    """A tenth of a second, and ann who says its name."""
    sound = 0.3 * torch.sin(2 * math.pi * TONES[name] / 16_000 * torch.arange(1600))
    return Recording(sound[None], name, "ann")


def tones(number: int, count: int) -> list[Recording]:
    """A SpeechSource: the three in turn, from one further in each batch."""
    names = [list(TONES)[(number + index) % len(TONES)] for index in range(count)]
    return [tone(name) for name in names]
