"""Laws of pipelines/speech_judge.py: how errors are counted, what variation keeps, and that a judge can learn."""

import random
from functools import lru_cache

import pytest
import torch

from tests.test_spoken_digits import RATE, folder, strings  # noqa: F401
from tokenloom.models.digit_recognizer import DigitRecognizer, DigitRecognizerConfig
from tokenloom.pipelines.speech_judge import (
    MAX_SECONDS,
    JudgeRecipe,
    digits_recognized,
    edit_distance,
    judge,
    masked,
    train_judge,
    varied_log_mel,
    varied_sounds,
)
from tokenloom.pipelines.spoken_digits import text_of

TINY = DigitRecognizerConfig(num_mels=20, width=32, num_blocks=2, kernel=5, dropout=0.0)


def levenshtein(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """By the definition."""

    @lru_cache(None)
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = one[i - 1] == other[j - 1]
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (not same))

    return between(len(one), len(other))


def test_the_edit_distance_is_that_of_its_definition():
    chance = random.Random(0)
    for _ in range(200):
        one, other = (tuple(chance.choices(range(3), k=chance.randrange(7))) for _ in range(2))
        assert edit_distance(one, other) == levenshtein(one, other)


def test_digits_recognized_counts_over_all_strings():
    assert digits_recognized(["one two", ""], ["one two", "three"]) == pytest.approx(2 / 3)
    assert digits_recognized(["one one one"], ["one"]) == -1
    with pytest.raises(ValueError, match="at least one digit"):
        digits_recognized([""], [""])


def test_variation_is_a_function_of_the_generator_and_keeps_what_a_sound_is(folder):  # noqa: F811
    said = strings(folder)(0, 8)
    one, other = (varied_sounds(said, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one, other) and one.shape[:2] == (8, 1) and one.isfinite().all()
    log_mel = DigitRecognizer(TINY).log_mel(one)
    first, second = (varied_log_mel(log_mel, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, second) and first.shape[:2] == (8, 20) and first.isfinite().all()
    assert float(first.min()) >= 0


def test_silence_stays_silence_under_variation():
    assert not varied_log_mel(torch.zeros(2, 20, 50), torch.Generator().manual_seed(0)).any()


def test_a_mask_is_one_stretch_of_bounded_length():
    masks = masked(30, 6, 200, torch.Generator().manual_seed(0))
    hidden = (masks == 0).sum(1)
    assert set(hidden.tolist()) == set(range(7))
    assert all(int((row.diff() != 0).sum()) <= 2 for row in masks)


def test_a_judge_hears_a_sound_alone_and_at_any_rate():
    torch.manual_seed(0)
    recognizer = DigitRecognizer(TINY).eval()
    sounds = [0.1 * torch.randn(1, samples) for samples in (1, 3000, 8000)]
    assert judge(recognizer, sounds, RATE) == [judge(recognizer, [sound], RATE)[0] for sound in sounds]
    assert judge(recognizer, sounds, RATE) == [text_of(recognizer.recognize(sound[None])[0]) for sound in sounds]
    assert len(judge(recognizer, [torch.randn(1, 44_100)], 44_100)) == 1


@pytest.mark.parametrize(
    "sound", [torch.zeros(2, 800), torch.zeros(800), torch.zeros(1, 0), torch.zeros(1, int(MAX_SECONDS * RATE) + 1)]
)
def test_what_is_no_short_mono_sound_is_refused(sound):
    with pytest.raises(ValueError, match="mono"):
        judge(DigitRecognizer(TINY), [sound], RATE)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        judge(DigitRecognizer(TINY), [torch.full((1, 800), torch.nan)], RATE)


def test_a_finished_training_resumed_and_one_begun_anew_end_in_the_same_weights(folder, tmp_path):  # noqa: F811
    recipe, source = JudgeRecipe(steps=3, batch_size=2, max_digits=2), strings(folder, speakers=["ann"])
    whole = train_judge(TINY, recipe, source, tmp_path / "whole", say=lambda line: None)
    again = train_judge(TINY, recipe, source, tmp_path / "whole", resume=True, say=lambda line: None)
    other = train_judge(TINY, recipe, source, tmp_path / "other", say=lambda line: None)
    for model in (again, other):
        assert all(map(torch.equal, whole.state_dict().values(), model.state_dict().values()))
