"""Laws of pipelines/training_cost.py: every trainer tells the same things in the same words before it begins, and a
step of it keeps about as much memory as it said.

Each trainer is run up to its loop; there the losses of some steps are computed, and what they keep for the backward
pass is counted where torch puts it away.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.doubles import (
    CAPTIONS,
    SIZE,
    ToySource,
    tones,
    toy_audio_tokenizer,
    toy_config,
    toy_image_tokenizer,
    toy_picture,
    toy_pictures,
    toy_pipeline,
    toy_text_tokenizer,
)
from tests.test_train_audio_tokenizer import Voices
from tests.test_train_clips import FRAMES, ToyClips
from tests.test_train_image_tokenizer import Ramps
from tests.test_train_language import BYTES, LINES
from tests.test_train_speech import DATA, RECIPE, toy_model
from tests.test_train_video_tokenizer import Drifts
from tokenloom.models.contrastive import ContrastiveConfig
from tokenloom.models.digit_recognizer import DigitRecognizerConfig
from tokenloom.models.picture_classifier import PictureClassifierConfig
from tokenloom.models.transformer import SharedTransformer
from tokenloom.pipelines import train_audio_tokenizer as of_sounds
from tokenloom.pipelines import train_loop
from tokenloom.pipelines import train_units as of_units
from tokenloom.pipelines.contrastive_pairs import CaptionedMedia, ContrastiveRecipe, SpokenTexts
from tokenloom.pipelines.mixed_batches import MixedRecipe, mixing_table
from tokenloom.pipelines.mixed_model import new_mixed_model
from tokenloom.pipelines.named_pictures import NamedPictures
from tokenloom.pipelines.picture_judge import PictureJudgeRecipe, train_picture_judge
from tokenloom.pipelines.speech_judge import JudgeRecipe, train_judge
from tokenloom.pipelines.speech_model import SpeechModel
from tokenloom.pipelines.spoken_digits import Utterance, text_of
from tokenloom.pipelines.train_contrastive import train_contrastive
from tokenloom.pipelines.train_image_tokenizer import ImageTokenizerRecipe, train_image_tokenizer
from tokenloom.pipelines.train_language import LanguageRecipe, train_language
from tokenloom.pipelines.train_mixed import train_mixed
from tokenloom.pipelines.train_model import train_transformer
from tokenloom.pipelines.train_recipe import TransformerRecipe
from tokenloom.pipelines.train_speech import train_speech
from tokenloom.pipelines.train_video_tokenizer import VideoTokenizerRecipe, train_video_tokenizer
from tokenloom.pipelines.training_cost import WEIGHT
from tokenloom.tokenizers.audio import AudioTokenizerConfig
from tokenloom.tokenizers.image import ImageTokenizerConfig
from tokenloom.tokenizers.units import UnitsTokenizerConfig
from tokenloom.tokenizers.video import VideoTokenizerConfig

SHAPE = {"width": 64, "num_layers": 4, "num_heads": 4}
WORDS = re.compile(
    r"[\d.]+ M parameters.*?\n.*?(\d+) steps of (\d+): (\d+) \w.*?, (\S+) GFLOP each, (\S+) PFLOP in all; "
    r"about (\S+) GB; (\S+) hours at (\d+) GFLOP/s",
    re.DOTALL,
)
Say = Callable[[str], None]


def pictures(out: Path, say: Say, **changes) -> None:
    tokenizer = toy_image_tokenizer(alive=False)
    tokenizer.start_linear(toy_pictures())
    recipe = TransformerRecipe(batch_size=16, **changes)
    config = toy_config(**SHAPE, num_frames=FRAMES, image_grid=(2, 2))
    clips = ToyClips() if recipe.clip_data else None
    train_transformer(config, recipe, ToySource(), tokenizer, toy_text_tokenizer(), out, clips=clips, say=say)


def speech(out: Path, say: Say, **changes) -> None:
    toy = toy_model()
    transformer = SharedTransformer(replace(toy.transformer.config, **SHAPE))
    model = SpeechModel(transformer, toy.audio_tokenizer, toy.text_tokenizer)
    train_speech(model, replace(RECIPE, batch_size=32, **changes), DATA, out, say=say)


def text(out: Path, say: Say, **changes) -> None:
    recipe = LanguageRecipe(batch_size=8, **changes)
    train_language(
        toy_config(image_levels=(), text_vocab_size=256, **SHAPE), recipe, [LINES], [LINES], BYTES, out, say=say
    )


def vectors(out: Path, say: Say, **changes) -> None:
    config = ContrastiveConfig(trunk_width=64, layers=(1, 3), width=48, num_heads=2)
    recipe = ContrastiveRecipe(batch_size=64, **{"prompt_length": 5} | changes)
    source = CaptionedMedia(ToySource(), ToyClips() if recipe.clip_data else None, recipe)
    train_contrastive(config, recipe, source, toy_pipeline(**SHAPE, num_frames=FRAMES), out, say=say)


def vectors_of_sounds(out: Path, say: Say, **changes) -> None:
    toy, config = toy_model(), ContrastiveConfig(trunk_width=64, layers=(1, 3), width=48, num_heads=2)
    model = SpeechModel(
        SharedTransformer(replace(toy.transformer.config, **SHAPE)), toy.audio_tokenizer, toy.text_tokenizer
    )
    recipe = ContrastiveRecipe(batch_size=64, **{"prompt_length": 5} | changes)
    train_contrastive(config, recipe, SpokenTexts(tones, recipe), model, out, say=say)


def mixed(out: Path, say: Say, **changes) -> None:
    images = toy_image_tokenizer(alive=False)
    images.start_linear(toy_pictures())
    how = {"codebooks": 2, "seconds": 0.16, "seed": 0, "image_grid": (2, 2), "num_frames": FRAMES}
    model = new_mixed_model(images, toy_audio_tokenizer(), toy_text_tokenizer(), **how, **SHAPE)
    recipe = MixedRecipe(batch_size=24, clip_data=("clips",), prompt_length=8, **changes)
    train_mixed(model, recipe, ToySource(), DATA, out, clips=ToyClips(), say=say)


def image_codes(out: Path, say: Say, **changes) -> None:
    recipe = ImageTokenizerRecipe(batch_size=64, **changes)
    train_image_tokenizer(ImageTokenizerConfig(widths=(32, 48)), recipe, Ramps(), out, say=say)


def video_codes(out: Path, say: Say, **changes) -> None:
    config, recipe = VideoTokenizerConfig(widths=(24, 32)), VideoTokenizerRecipe(batch_size=8, **changes)
    train_video_tokenizer(config, recipe, Drifts(), out, say=say)


def sound_codes(out: Path, say: Say, **changes) -> None:
    recipe = of_sounds.AudioTokenizerRecipe(batch_size=8, **changes)
    config = AudioTokenizerConfig(width=48, fine_width=32)
    of_sounds.train_audio_tokenizer(config, recipe, Voices(of_sounds.PIECE), out, say=say)


def units(out: Path, say: Say, **changes) -> None:
    recipe, config = of_units.UnitsRecipe(batch_size=8, **changes), UnitsTokenizerConfig(num_units=16, width=48)
    of_units.train_units(config, recipe, Voices(of_sounds.PIECE), out, say=say)


def picture_judge(out: Path, say: Say, **changes) -> None:
    names = list(CAPTIONS)
    pixels = torch.stack([toy_picture(name) for name in names])
    pictures = NamedPictures(pixels, names, names, [True] * len(names))
    config = PictureClassifierConfig(names=tuple(names), size=SIZE, widths=(32,), num_blocks=(2,))
    train_picture_judge(config, PictureJudgeRecipe(batch_size=256), pictures, out, say=say, **changes)


class Digits:
    """Noise of a second each, as much of DigitStrings as the judge's training reads."""

    speakers = ("ann",)

    def __call__(self, number: int, count: int) -> list[Utterance]:
        sounds = torch.rand(count, 1, 8000, generator=torch.Generator().manual_seed(number)) - 0.5
        return [Utterance(sound, text_of([row % 10]), "ann") for row, sound in enumerate(sounds)]


def speech_judge(out: Path, say: Say, **changes) -> None:
    config = DigitRecognizerConfig(num_mels=20, width=32, num_blocks=2, kernel=5, dropout=0.1)
    train_judge(config, JudgeRecipe(batch_size=16), cast(Any, Digits()), out, say=say, **changes)


CASES = {
    "pictures": (pictures, "train_model", {}),
    "pictures by one": (pictures, "train_model", {"decoders": ("ar",), "prompt_length": 16}),
    "pictures in bfloat16": (pictures, "train_model", {"bfloat16": True}),
    "captions": (pictures, "train_model", {"text_share": 0.99}),
    "clips": (pictures, "train_model", {"clip_data": ("clips",), "prompt_length": 8}),
    "speech": (speech, "train_speech", {}),
    "speech that is written": (speech, "train_speech", {"shares": {"write": 1.0}}),
    "text": (text, "train_language", {}),
    "long text": (text, "train_language", {"window": 384}),
    "text in bfloat16": (text, "train_language", {"bfloat16": True}),
    "vectors": (vectors, "train_contrastive", {}),
    "vectors of clips": (vectors, "train_contrastive", {"clip_data": ("clips",), "clip_share": 0.5}),
    "vectors of sounds": (vectors_of_sounds, "train_contrastive", {}),
    "everything": (mixed, "train_mixed", {"mix": mixing_table([], clips=True, answers=True)}),
    "image tokenizer": (image_codes, "train_reconstruction", {}),
    "image tokenizer, judged": (image_codes, "train_reconstruction", {"adversarial": 0.1}),
    "image tokenizer in bfloat16": (image_codes, "train_reconstruction", {"bfloat16": True}),
    "video tokenizer": (video_codes, "train_reconstruction", {}),
    "sound tokenizer": (sound_codes, "train_reconstruction", {}),
    "units": (units, "train_reconstruction", {}),
    "judge of pictures": (picture_judge, "picture_judge", {}),
    "judge of pictures in bfloat16": (picture_judge, "picture_judge", {"bfloat16": True}),
    "judge of spoken digits": (speech_judge, "speech_judge", {}),
}


class Enough(BaseException):
    pass


def put_away(forward: Callable[[], Tensor], weights: set[int]) -> int:
    """Bytes that torch puts away for the backward pass, of all but the weights."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (where := tensor.untyped_storage().data_ptr()) not in weights:
            kept[where] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("case", CASES)
def test_every_trainer_tells_parameters_arithmetic_memory_and_hours_and_takes_that_memory(case, tmp_path, monkeypatch):
    trainer, module, changes = CASES[case]
    monkeypatch.setattr(of_units, "START_BATCHES", 1)  # of pieces in which units are found
    lines: list[str] = []
    seen: dict[str, int] = {}

    def measured(losses, loss, *rest, **options):
        weights = {p.untyped_storage().data_ptr() for p in losses.parameters()}
        seen["parameters"] = sum(p.numel() for p in losses.parameters())
        seen["kept"] = max(put_away(lambda n=number: loss(losses, n)[0], weights) for number in range(8))
        raise Enough

    monkeypatch.setattr(import_module(f"tokenloom.pipelines.{module}"), "train", measured)
    with pytest.raises(Enough):
        trainer(tmp_path, lines.append, **changes)
    found = WORDS.search("\n".join(lines))
    assert found, lines
    steps, batch_size, count, each, total, memory, hours, pace = map(float, found.groups())
    assert count == steps * batch_size and total == pytest.approx(each * count / 1e6, rel=0.02)
    assert hours == pytest.approx(total * 1e6 / pace / 3600, rel=0.02)
    told = memory * 1e9 - WEIGHT * seen["parameters"]
    assert 0.6 < told / seen["kept"] < 1.6
    assert seen["kept"] > WEIGHT * seen["parameters"] / 4, "or the rounding of what is told would count"


def test_whoever_trains_is_among_these_cases():
    """The modules of pipelines that use the loop of training."""
    using = {
        path.stem
        for path in Path(train_loop.__file__).parent.glob("*.py")
        if re.search(r"from \.train_loop import .*\btrain\b", path.read_text())
    }
    assert using == {module for _, module, _ in CASES.values()}
