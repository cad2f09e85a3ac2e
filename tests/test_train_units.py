"""Laws of pipelines/train_units.py: units stay while the vocoder learns; it resumes to the bit and tells the truth."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.doubles import toy_units_tokenizer
from tests.test_train_audio_tokenizer import Voices, bits
from tokenloom.models.spectral_loss import mel_distance
from tokenloom.pipelines import train_audio_tokenizer
from tokenloom.pipelines import train_units as training
from tokenloom.pipelines.train_audio_tokenizer import OVERFIT_DISTANCE, PIECE
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.pipelines.train_units import UnitsLosses, UnitsRecipe, diagnose, overfit_one, train_units
from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig
from tokenloom.tokenizers.vocoder import SAMPLE_RATE

CONFIG = UnitsTokenizerConfig(num_units=16, dims=8, width=24, fine_width=16, decoder_blocks=1, fine_blocks=1)


@pytest.fixture(autouse=True)
def few_pieces(monkeypatch):
    monkeypatch.setattr(train_audio_tokenizer, "VALIDATION_PIECES", 4)
    monkeypatch.setattr(training, "START_BATCHES", 2)
    monkeypatch.setattr(training, "START_PIECES", 8)


def recipe(**changes) -> UnitsRecipe:
    every = {"evaluate_every": 8, "checkpoint_every": 3}
    return UnitsRecipe(**({"steps": 8, "batch_size": 2, "warmup": 2} | every | changes))


def run(out: Path, **options) -> tuple[UnitsTokenizer, list[str]]:
    words: list[str] = []
    made = {"config": CONFIG, "recipe": recipe(), "source": Voices(), "out": out, "say": words.append} | options
    return train_units(**made), words


def test_the_vocoder_learns_while_the_units_stay_and_all_is_told(tmp_path):
    start, sounds = UnitsTokenizer(CONFIG).eval(), Voices()(0, 4)[0]
    training.start_units(start, Voices(), seed=0)
    trained, words = run(tmp_path, recipe=recipe(steps=40, batch_size=4, evaluate_every=40))
    assert torch.equal(trained.centroids, start.centroids) and torch.equal(trained.encode(sounds), start.encode(sounds))
    before, after = (diagnose(tokenizer, sounds)[0]["mel"] for tokenizer in (start, trained))
    assert after < 0.95 * before
    assert "speech units: 16 kinds, 25 a second, 100 b/s" in words[0]
    told = next(word for word in words if word.startswith("step 40: mel "))
    assert " units_in_use " in told and " perplexity " in told
    assert all((tmp_path / name).is_file() for name in ("spectrograms.png", "original.wav", "reconstruction.wav"))


def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path):
    class Death(BaseException):
        pass

    class Deadly(Voices):
        def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
            if number == 5:
                raise Death
            return super().__call__(number, count)

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Death):
        run(tmp_path / "killed", source=Deadly())
    resumed, _ = run(tmp_path / "killed", resume=True)
    a, b = bits(tmp_path / "whole"), bits(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.fingerprint == whole.fingerprint


def test_the_units_of_another_stay_and_its_vocoder_goes_on(tmp_path):
    init = toy_units_tokenizer()
    sounds, _ = Voices()(0, 2)
    ids, heard = init.encode(sounds), init.decode(init.encode(sounds))
    trained, _ = run(tmp_path, init=init)
    assert torch.equal(trained.encode(sounds), ids) and not torch.equal(trained.decode(ids), heard)


def test_the_loss_is_the_mel_distance():
    tokenizer, (sounds, _) = toy_units_tokenizer(), Voices()(0, 2)
    value, figures = UnitsLosses(tokenizer, recipe())(sounds)
    heard = tokenizer(sounds)[0].detach()
    expected = mel_distance(heard, sounds[:, :, : heard.shape[2]], SAMPLE_RATE).mean()
    assert float(value.detach()) == figures["mel_train"] == pytest.approx(float(expected))


def test_perplexity_counts_equally_frequent_units():
    tokenizer, (sounds, _) = toy_units_tokenizer(), Voices()(0, 2)
    shares = torch.bincount(tokenizer.encode(sounds).flatten()).double()
    shares = shares[shares > 0] / shares.sum()
    scores, _ = diagnose(tokenizer, sounds)
    assert scores["perplexity"] == pytest.approx(float((-(shares * shares.log()).sum()).exp()))
    assert scores["units_in_use"] == len(shares)


def test_silence_and_too_few_sounds_are_refused_before_training(tmp_path):
    class Silence(Voices):
        def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
            return torch.zeros(count, 1, self.samples), [""] * count

    with pytest.raises(ValueError, match="sounds must not all be silent"):
        run(tmp_path / "out", source=Silence())
    with pytest.raises(ValueError, match="200 centroids need as many vectors"):
        run(tmp_path / "out", config=UnitsTokenizerConfig(num_units=200, width=8, fine_width=8))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_one_sound_is_learned():
    assert overfit_one(UnitsTokenizerConfig(), Voices(PIECE)) < OVERFIT_DISTANCE


def test_a_tokenizer_that_cannot_learn_one_sound_is_told():
    with pytest.raises(TrainingError, match="one sound must come as near as"):
        overfit_one(CONFIG, Voices(), steps=2)
