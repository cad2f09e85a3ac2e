"""Laws of judging speech: judges hear what the model said and nobody else's, figures count what was understood."""

import json

import pytest
import torch

from tests.test_speech import toy_model
from tests.test_spoken_digits import RATE, tone
from tokenloom.data.write_audio import write_audio
from tokenloom.models.digit_recognizer import DigitRecognizer, DigitRecognizerConfig
from tokenloom.pipelines import evaluate_speech
from tokenloom.pipelines.evaluate_speech import Heard, answers, real_and_reconstructed, says, writes
from tokenloom.pipelines.spoken_digits import DigitStrings, DigitSums
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_speech import TextToSpeechPipeline
from tokenloom.scripts import cli, train_digit_judge
from tokenloom.scripts import evaluate_speech as command
from tokenloom.scripts.cli import main_of

SPEAKERS = ("ann", "bo")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Tones of 0.1 s for words, four takes of each."""
    folder = tmp_path_factory.mktemp("digits")
    for number, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for take in range(4):
                write_audio(folder / f"{digit}_{speaker}_{take:02}.wav", tone(400 + 60 * digit + 10 * number), RATE)
    return folder


def speaking_model():
    """Long enough for three tones."""
    return toy_model(sound_steps=40)


class Recorder:
    """A judge that keeps what it was given, and always understands the same."""

    def __init__(self, text: str):
        self.text, self.sounds = text, []

    def __call__(self, sounds, rate):
        assert rate == 16_000
        self.sounds += list(sounds)
        return [self.text] * len(sounds)


def test_figures_count_digits_and_whole_strings():
    heard = Heard(["one two", "three", "four five six"], ["one two", "", "four nine six six"])
    assert heard.recognized == pytest.approx(1 - (0 + 1 + 2) / 6)
    assert heard.right == pytest.approx(1 / 3)
    assert Heard(["one two"], ["one uh two"]).recognized == 0.5 == Heard(["one two"], ["uh two"]).recognized


def test_each_voice_is_judged_by_its_own_judge(digits):
    model, judges = speaking_model(), {name: Recorder("one") for name in SPEAKERS}
    found = says(model, "ar", judges, ["one", "two"], seed=4)
    assert {name: (heard.said, heard.heard) for name, heard in found.items()} == {
        name: (["one", "two"], ["one", "one"]) for name in SPEAKERS
    }
    again = TextToSpeechPipeline(model)(["one", "two"], speaker="bo", generator=seeded(6, 2)).sounds
    assert all(torch.equal(a, b) for a, b in zip(judges["bo"].sounds, again, strict=True))


def test_recordings_are_judged_as_they_are_and_as_their_codes_say(digits):
    model, judges = speaking_model(), {name: Recorder("two") for name in SPEAKERS}
    strings = DigitStrings(digits, sample_rate=16_000, seed=0, vary=None, max_digits=2)
    real, back = real_and_reconstructed(model, strings, judges, 3)
    assert real.said == back.said and len(real.said) == 6
    sounds = [sound for judge in judges.values() for sound in judge.sounds]
    assert len(sounds) == 12
    first, *_ = judges["ann"].sounds
    count = len(judges["ann"].sounds) // 2
    assert torch.equal(judges["ann"].sounds[count], model.decode(model.encode([first]))[0])


def test_what_is_written_and_answered_is_compared_with_what_was_said(digits):
    model = speaking_model()
    strings = DigitStrings(digits, sample_rate=16_000, seed=0, vary=None, max_digits=2)
    written = writes(model, strings, 8)
    assert sum(len(heard.said) for heard in written.values()) == 8 and set(written) <= set(SPEAKERS)
    sums = DigitSums(digits, sample_rate=16_000, seed=0, vary=None)
    answered = answers(model, "ar", sums, {name: Recorder("one five") for name in SPEAKERS}, 10, seed=0)
    pairs = sums(evaluate_speech.VALIDATION_NUMBER, 10)
    assert answered.said == [answer.text for _, answer in pairs] and answered.heard == ["one five"] * 10
    for question, answer in pairs:
        assert sum(question.digits) == int("".join(map(str, answer.digits)))


def test_the_command_prints_a_row_for_everything_and_writes_every_string(digits, tmp_path, capsys):
    speaking_model().save_pretrained(tmp_path / "model")
    for speaker in SPEAKERS:
        torch.manual_seed(0)
        recognizer = DigitRecognizer(DigitRecognizerConfig(num_mels=8, width=8, num_blocks=1))
        recognizer.save_pretrained(tmp_path / "judges" / speaker)
    run = [str(tmp_path / "model"), "--digits", str(digits), "--judges", str(tmp_path / "judges"), "--strings", "2"]
    assert main_of(command.build_parser, command.run, [*run, "--steps", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for row in ("recordings", "their codes", "masked, bo", "written, ann", "answers, diffusion"):
        assert row in printed
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert [len(pair) for pair in report["ar, ann"]["strings"]] == [2, 2]
    assert report["ar"]["strings"] == report["ar, ann"]["strings"] + report["ar, bo"]["strings"]
    assert "strangers" not in printed

    model = speaking_model()
    model.voices = ["ann"]  # trained without bo
    model.save_pretrained(tmp_path / "model")
    assert main_of(command.build_parser, command.run, [*run, "--steps", "2", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert "written, ann" in report and "written, bo" not in report and "ar, bo" not in report
    assert len(report["written, strangers, bo"]["strings"]) == 2 == len(report["written, strangers"]["strings"])


def test_one_judge_may_know_all_speakers(tmp_path):
    DigitRecognizer(DigitRecognizerConfig(num_mels=8, width=8, num_blocks=1)).save_pretrained(tmp_path)
    found = evaluate_speech.open_judges(tmp_path, SPEAKERS)
    assert list(found) == list(SPEAKERS) and found["ann"] is found["bo"]


def test_judges_that_are_not_there_are_told(digits, tmp_path, capsys):
    speaking_model().save_pretrained(tmp_path / "model")
    run = ["evaluate-speech", str(tmp_path / "model"), "--digits", str(digits), "--judges", str(tmp_path)]
    assert cli.main(run) == 1
    assert "must hold a folder with a judge for each speaker" in capsys.readouterr().err


@pytest.mark.slow
def test_judges_of_strangers_and_of_acquaintances_are_trained_and_tried(digits, tmp_path, capsys):
    words = ["--data", str(digits), "--steps", "1", "--strings", "1"]
    assert (
        main_of(train_digit_judge.build_parser, train_digit_judge.run, [*words, "--out", str(tmp_path / "each")]) == 0
    )
    one = [*words, "--acquainted", "--out", str(tmp_path / "all")]
    assert main_of(train_digit_judge.build_parser, train_digit_judge.run, one) == 0
    assert "mean: real " in capsys.readouterr().out
    for folder in ("each", "all"):
        scores = json.loads((tmp_path / folder / "judges.json").read_text())
        assert set(scores) == set(SPEAKERS) and set(scores["bo"]) == {"real", *(f"{k} codebooks" for k in (2, 4, 6, 8))}
    for folder in (tmp_path / "each" / "ann", tmp_path / "each" / "bo", tmp_path / "all"):
        assert DigitRecognizer.from_pretrained(folder).config == DigitRecognizerConfig()
    with pytest.raises(SystemExit, match="2"):
        main_of(train_digit_judge.build_parser, train_digit_judge.run, [*one, "--speakers", "eve"])
    assert "must be some of ann, bo, got eve" in capsys.readouterr().err
