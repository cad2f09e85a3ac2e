"""Laws of models/digit_recognizer.py: CTC as torch and as counted, loudness and silence do not matter, it can learn."""

import itertools
import math

import pytest
import torch

from tokenloom.models.digit_recognizer import (
    BLANK,
    HOP,
    STRIDE,
    DigitRecognizer,
    DigitRecognizerConfig,
    collapsed,
    ctc_loss,
)

TINY = DigitRecognizerConfig(num_mels=20, width=32, num_blocks=2, kernel=5, dropout=0.0)


def chirps(count: int, samples: int) -> torch.Tensor:
    """Sounds (count, 1, samples) of a tone each that rises."""
    time = torch.arange(samples) / 8000
    return torch.stack([0.3 * torch.sin(2 * math.pi * (200 + 150 * i + 300 * time) * time) for i in range(count)])[
        :, None
    ]


@pytest.fixture
def recognizer() -> DigitRecognizer:
    torch.manual_seed(0)
    return DigitRecognizer(TINY).eval()


def test_the_loss_is_minus_the_log_of_all_ways_that_spell_the_digits():
    torch.manual_seed(0)
    log_probabilities = torch.randn(1, 4, 11).log_softmax(-1)
    symbols = (3, 5, BLANK)
    ways = [path for path in itertools.product(symbols, repeat=4) if collapsed(list(path)) == [3, 5]]
    total = sum(math.exp(sum(float(log_probabilities[0, t, s]) for t, s in enumerate(path))) for path in ways)
    assert float(ctc_loss(log_probabilities, [[3, 5]])) == pytest.approx(-math.log(total) / 2, rel=1e-4)


def test_repetitions_collapse_and_blanks_separate():
    assert collapsed([BLANK, 3, 3, BLANK, 3, 7, 7, BLANK]) == [3, 3, 7]
    assert collapsed([BLANK] * 3) == collapsed([]) == []


@pytest.mark.parametrize("samples", [1, HOP, 801, 4000])
def test_a_step_stands_for_40_ms(recognizer, samples):
    sounds = torch.randn(2, 1, samples)
    assert recognizer.log_mel(sounds).shape == (2, 20, math.ceil(samples / HOP))
    found = recognizer(sounds)
    assert found.shape == (2, math.ceil(samples / HOP / STRIDE), 11)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(found.shape[:2]))


def test_loudness_does_not_matter_and_silence_is_zero(recognizer):
    sounds = chirps(2, 4000)
    torch.testing.assert_close(recognizer(0.1 * sounds), recognizer(sounds), rtol=1e-3, atol=1e-4)
    assert not recognizer.log_mel(torch.zeros(1, 1, 800)).any()
    log_mel = recognizer.log_mel(torch.nn.functional.pad(sounds, (1600, 1600)))
    assert not log_mel[:, :, :17].any() and not log_mel[:, :, -17:].any()
    assert float(log_mel.max()) == pytest.approx(2) and float(log_mel.min()) == 0


def test_what_lies_beside_a_sound_does_not_change_what_is_heard(recognizer):
    sounds = chirps(3, 4000)
    torch.testing.assert_close(recognizer(sounds)[1:2], recognizer(sounds[1:2]), rtol=1e-3, atol=1e-4)


def test_it_overfits_one_batch():
    torch.manual_seed(0)
    recognizer, sounds, digits = DigitRecognizer(TINY), chirps(4, 4000), [[1], [2, 2], [3, 0, 4], [9, 8]]
    optimizer = torch.optim.AdamW(recognizer.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        ctc_loss(recognizer(sounds), digits).backward()
        torch.nn.utils.clip_grad_norm_(recognizer.parameters(), 1.0)
        optimizer.step()
    assert recognizer.recognize(sounds) == digits


def test_it_comes_back_as_it_was_saved(recognizer, tmp_path):
    recognizer.save_pretrained(tmp_path)
    back = DigitRecognizer.from_pretrained(tmp_path)
    assert back.config == TINY and torch.equal(back(chirps(1, 4000)), recognizer(chirps(1, 4000)))


def test_the_usual_one_is_small():
    assert sum(p.numel() for p in DigitRecognizer(DigitRecognizerConfig()).parameters()) <= 300_000


@pytest.mark.parametrize("wrong", [{"kernel": 4}, {"width": 0}, {"num_mels": 130}, {"storage_dtype": "int8"}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DigitRecognizerConfig(**wrong)
