"""Laws of pipelines/train_audio_tokenizer.py: it learns, tells the truth about it, and resumes to the bit."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import toy_audio_tokenizer
from tokenloom.data.audio import read_audio
from tokenloom.models.audio_metrics import si_sdr
from tokenloom.models.spectral_loss import mel_distance, phase_distance
from tokenloom.pipelines import train_audio_tokenizer as train_audio
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
from tokenloom.pipelines.train_audio_tokenizer import (
    OVERFIT_DISTANCE,
    PIECE,
    AudioLosses,
    AudioTokenizerRecipe,
    diagnose,
    overfit_one,
    random_levels,
    train_audio_tokenizer,
)
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from tokenloom.tokenizers.vocoder import HOP, SAMPLE_RATE

CONFIG = AudioTokenizerConfig(
    levels=((1, 1, 4, 2), (2, 4, 1, 1), (1, 2, 2, 2)), width=24, fine_width=16, encoder_blocks=1, fine_blocks=1
)


@pytest.fixture(autouse=True)
def few_pieces(monkeypatch):
    """Enough to draw, and to start from."""
    monkeypatch.setattr(train_audio, "VALIDATION_PIECES", 8)
    monkeypatch.setattr(train_audio, "START_PIECES", 16)


class Voices:
    """A SoundSource of buzzes: pulses of a random pitch through a random resonance, louder and softer."""

    def __init__(self, samples: int = 20 * HOP):
        self.samples = samples

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        generator = torch.Generator().manual_seed(number)
        time = torch.arange(self.samples) / SAMPLE_RATE
        low, range_ = torch.tensor([[80, 300, 1], [150, 2000, 4]]).view(2, 3, 1, 1)  # Hz
        pitch, center, swell = low + range_ * torch.rand(3, count, 1, generator=generator)
        harmonics = torch.arange(1, 30).view(-1, 1, 1)
        loudness = 1 / (1 + ((harmonics * pitch - center) / 300) ** 2)
        waves = (loudness * torch.sin(2 * math.pi * harmonics * pitch * time)).sum(0)
        waves = waves * (0.6 + 0.4 * torch.sin(2 * math.pi * swell * time))
        return (0.5 * waves / waves.abs().amax(1, keepdim=True)).unsqueeze(1), [""] * count

    def captions(self):
        return []


def recipe(**changes) -> AudioTokenizerRecipe:
    every = {"evaluate_every": 8, "checkpoint_every": 3}
    return AudioTokenizerRecipe(**({"steps": 8, "batch_size": 2, "warmup": 2} | every | changes))


def run(out: Path, **options) -> tuple[AudioTokenizer, list[str]]:
    words: list[str] = []
    made = {"config": CONFIG, "recipe": recipe(), "source": Voices(), "out": out, "say": words.append} | options
    return train_audio_tokenizer(**made), words


def bits(out: Path) -> dict[str, Tensor]:
    found = load_checkpoint(out)
    assert found is not None
    return {f"{part}.{name}": tensor for part, tensors in found[1].items() for name, tensor in tensors.items()}


def distance(tokenizer: AudioTokenizer) -> float:
    sounds, _ = Voices()(VALIDATION_NUMBER, 8)
    heard = tokenizer.decode(tokenizer.encode(sounds), (sounds.shape[2],))
    return float(mel_distance(heard, sounds, SAMPLE_RATE).mean())


def test_training_improves_on_the_linear_start_and_writes_curves_pictures_and_sounds(tmp_path):
    start = AudioTokenizer(CONFIG).eval()
    start.start_linear(Voices()(VALIDATION_NUMBER - 1, 16)[0])
    trained, words = run(tmp_path / "out", recipe=recipe(steps=40, batch_size=4, evaluate_every=40))
    assert distance(trained) < 0.95 * distance(start)
    assert not trained.training and trained.config == CONFIG
    assert "3 codebooks of 8 codes, 0.15 to 0.45 kb/s" in words[0]
    told = next(word for word in words if word.startswith("step 40: mel_of_2 "))
    assert all(f" {name} " in told for name in ("si_sdr_of_2", "mel_of_3", "codes_in_use_1", "bits_per_code_3"))
    with Image.open(tmp_path / "out" / "spectrograms.png") as picture:
        frames = 20 * HOP // 256 - 1  # windows of 512
        assert picture.size == (4 * (3 * frames + 2) + 2, 2 * (2 * 3 * 64 + 2) + 2)
    for name in ("original", "reconstruction"):
        assert read_audio(tmp_path / "out" / f"{name}.wav").shape == (1, 8 * 20 * HOP)


@pytest.mark.parametrize("options", [{}, {"freeze_encoder": True, "phases": 0.0}], ids=str)
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, options):
    class Death(BaseException):
        pass

    class Deadly(Voices):
        def __call__(self, number, count):
            if number == 5:
                raise Death
            return super().__call__(number, count)

    whole, _ = run(tmp_path / "whole", recipe=recipe(**options))
    with pytest.raises(Death):
        run(tmp_path / "killed", recipe=recipe(**options), source=Deadly())
    resumed, _ = run(tmp_path / "killed", recipe=recipe(**options), resume=True)
    a, b = bits(tmp_path / "whole"), bits(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.fingerprint == whole.fingerprint


def test_a_frozen_encoder_keeps_the_ids(tmp_path):
    init = toy_audio_tokenizer()
    sounds, _ = Voices()(0, 2)
    ids, heard = init.encode(sounds), init.decode(init.encode(sounds))
    trained, _ = run(tmp_path, recipe=recipe(freeze_encoder=True), init=init)
    assert torch.equal(trained.encode(sounds), ids) and not torch.equal(trained.decode(ids), heard)


def test_bfloat16_trains_what_float32_encodes(tmp_path):
    trained, _ = run(tmp_path, recipe=recipe(bfloat16=True))
    assert {parameter.dtype for parameter in trained.parameters()} == {torch.float32}


def test_the_loss_is_the_mel_distance_and_the_weighted_error_of_phases():
    tokenizer, (sounds, _) = toy_audio_tokenizer(), Voices()(0, 2)
    levels = torch.tensor([1, 3])
    value, figures = AudioLosses(tokenizer, recipe(phases=0.7))(sounds, levels)
    heard = tokenizer(sounds, levels)[0].detach()
    targets = sounds[:, :, : heard.shape[2]]
    mel = mel_distance(heard, targets, SAMPLE_RATE).mean()
    torch.testing.assert_close(value.detach(), mel + 0.7 * phase_distance(heard, targets, SAMPLE_RATE).mean())
    assert figures["mel_train"] == pytest.approx(float(mel))
    assert figures["si_sdr_train"] == pytest.approx(float(si_sdr(heard, targets).mean()), rel=1e-4)


def test_levels_are_drawn_from_seed_and_number_and_every_number_of_them_occurs():
    drawn = random_levels(8, 1000, 0, 5)
    assert torch.equal(drawn, random_levels(8, 1000, 0, 5)) and not torch.equal(drawn, random_levels(8, 1000, 0, 6))
    assert drawn.unique().tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert random_levels(1, 3, 0, 0).tolist() == [1, 1, 1]


def test_scores_are_those_of_what_comes_back():
    tokenizer, (sounds, _) = toy_audio_tokenizer(), Voices()(0, 2)
    scores, heard = diagnose(tokenizer, sounds)
    ids = tokenizer.encode(sounds)
    few = tokenizer.decode(ids[:, :2], (sounds.shape[2],))
    assert torch.equal(heard, tokenizer.decode(ids, (sounds.shape[2],)))
    assert scores["mel_of_2"] == pytest.approx(float(mel_distance(few, sounds, SAMPLE_RATE).mean()))
    assert scores["si_sdr_of_3"] == pytest.approx(float(si_sdr(heard, sounds).mean()))
    assert scores["codes_in_use_2"] == len(ids[:, 1].unique())


@pytest.mark.slow
def test_one_sound_is_learned():
    assert overfit_one(AudioTokenizerConfig(), Voices(PIECE)) < OVERFIT_DISTANCE


def test_a_tokenizer_that_cannot_learn_one_sound_is_told():
    with pytest.raises(TrainingError, match="one sound must come as near as"):
        overfit_one(CONFIG, Voices(), steps=2)


def test_silence_is_refused_before_training(tmp_path):
    class Silence(Voices):
        def __call__(self, number, count):
            return torch.zeros(count, 1, self.samples), [""] * count

    with pytest.raises(ValueError, match="sounds must not all be silent"):
        run(tmp_path / "out", source=Silence())
    assert not (tmp_path / "out").exists()
