"""Laws of pipelines/spoken_digits.py: numbers alone decide, takes are held apart, strings hold what they say."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import needs_packs
from tokenloom.data.media import MediaError
from tokenloom.data.write_audio import write_audio
from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
from tokenloom.pipelines.spoken_digits import (
    GAPS,
    TAKES_HELD_OUT,
    WORDS,
    DigitStrings,
    DigitSums,
    at_another_speed,
    digits_of,
    read_recordings,
    text_of,
    trimmed,
    varied_alike,
)

RATE = 8000
SPEAKERS, TAKES = ("ann", "bo"), 5
LENGTH = 800  # samples of each word: 0.1 s


def pitch(speaker: int, digit: int, take: int) -> int:
    """Hz, a multiple of 10, which each recording has for itself."""
    return 500 + 10 * (take + TAKES * (digit + 10 * speaker))


def tone(hz: float) -> Tensor:
    return 0.1 * torch.sin(2 * math.pi * hz / RATE * torch.arange(LENGTH))[None]


def heard(sound: Tensor) -> list[int]:
    """Pitches of the tones of a string (1, S), by its silences and by a spectrum of each."""
    loud = torch.nn.functional.max_pool1d(sound.abs(), 81, 1, 40)[0] > 0.01
    edges = torch.nonzero(loud.int().diff(prepend=torch.zeros(1), append=torch.zeros(1)))[:, 0].tolist()
    tones = [sound[0, start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return [10 * round(int(torch.fft.rfft(tone, 8000).abs().argmax()) / 10) for tone in tones]


def write_digits(path: Path) -> None:
    """Tones for words, with silence around them."""
    for number, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for take in range(TAKES):
                sound = torch.nn.functional.pad(tone(pitch(number, digit, take)), (400, 640))
                write_audio(path / f"{digit}_{speaker}_{take:02}.wav", sound, RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits")
    write_digits(path)
    return path


def strings(folder, **options) -> DigitStrings:
    return DigitStrings(folder, **{"sample_rate": RATE, "seed": 3, "vary": None, **options})


def test_seed_and_number_alone_decide(folder):
    one, other = strings(folder, vary=varied_alike), strings(folder, vary=varied_alike)
    other(7, 4)
    first, second = one(5, 4), other(5, 6)
    assert [said.text for said in first] == [said.text for said in second[:4]]
    assert all(torch.equal(a.sound, b.sound) for a, b in zip(first, second, strict=False))
    assert [said.text for said in one(6, 20)] != [said.text for said in one(5, 20)]
    assert [said.text for said in strings(folder, seed=4)(5, 20)] != [said.text for said in one(5, 20)]


def test_a_batch_of_mixed_lengths_follows_from_seed_and_number_too(folder):
    one, other = strings(folder, vary=varied_alike), strings(folder, vary=varied_alike)
    first, second = one.of_mixed_lengths(5, 30), other.of_mixed_lengths(5, 40)
    assert {len(said.digits) for said in first} == {1, 2, 3}
    assert [said.text for said in first] == [said.text for said in second[:30]]
    assert all(torch.equal(a.sound, b.sound) for a, b in zip(first, second, strict=False))
    assert [said.text for said in one.of_mixed_lengths(6, 30)] != [said.text for said in first]


@pytest.mark.parametrize("number", [0, VALIDATION_NUMBER])
def test_a_string_sounds_as_its_text_says_and_lasts_as_long_as_its_parts(folder, number):
    batches = [strings(folder)(number + part, 8) for part in range(8)]
    assert [len({len(said.digits) for said in batch}) for batch in batches] == [1] * 8
    assert {len(batch[0].digits) for batch in batches} == {1, 2, 3}
    for said in (said for batch in batches for said in batch):
        digits, speaker = said.digits, SPEAKERS.index(said.speaker)
        possible = [{pitch(speaker, digit, take) for take in range(TAKES)} for digit in digits]
        found = heard(said.sound)
        assert len(found) == len(digits) and all(hz in them for hz, them in zip(found, possible, strict=True))
        silence = (said.sound.shape[1] - len(digits) * LENGTH) / RATE
        assert GAPS[0] * (len(digits) - 1) - 1e-3 <= silence <= GAPS[1] * (len(digits) - 1) + 1e-3


def test_validation_has_takes_that_training_never_hears(folder):
    takes = {}
    for number in (0, VALIDATION_NUMBER):
        said = strings(folder)(number, 400)
        takes[number] = {(hz - 500) // 10 % TAKES for utterance in said for hz in heard(utterance.sound)}
    assert takes[0] == set(range(TAKES - TAKES_HELD_OUT))
    assert takes[VALIDATION_NUMBER] == set(range(TAKES - TAKES_HELD_OUT, TAKES))


def test_training_varies_and_validation_does_not(folder):
    plain, varied = strings(folder), strings(folder, vary=varied_alike)
    assert all(map(torch.equal, *([said.sound for said in s(VALIDATION_NUMBER, 8)] for s in (plain, varied))))
    for said in varied(0, 20):
        assert said.sound.dtype == torch.float32 and float(said.sound.abs().max()) <= 1
    ratios = [b.sound.shape[1] / a.sound.shape[1] for a, b in zip(plain(0, 20), varied(0, 20), strict=True)]
    assert 1 / 1.07 < min(ratios) < 0.99 and 1.01 < max(ratios) < 1 / 0.93


def test_strings_to_try_have_all_lengths_and_are_those_of_their_batches(folder):
    source = strings(folder)
    mixed = source.of_any_length(5, 30)
    assert {len(said.digits) for said in mixed} == {1, 2, 3}
    assert torch.equal(mixed[2].sound, source(7, 1)[0].sound) and len(mixed) == 30


def test_at_another_speed_nothing_else_changes(folder):
    plain, faster = strings(folder)(0, 20), strings(folder, vary=at_another_speed)(0, 20)
    for before, after in zip(plain, faster, strict=True):
        energies = [said.sound.square().mean() for said in (before, after)]
        torch.testing.assert_close(*energies, rtol=0.02, atol=0)
    assert len({after.sound.shape[1] / before.sound.shape[1] for before, after in zip(plain, faster, strict=True)}) > 15


def test_only_the_speakers_asked_for_speak(folder):
    assert {said.speaker for said in strings(folder)(0, 50)} == set(SPEAKERS)
    assert {said.speaker for said in strings(folder, speakers=["bo"])(0, 50)} == {"bo"}


@pytest.mark.parametrize("vary", [None, varied_alike])
def test_an_answer_is_the_sum_of_the_question_by_the_same_speaker(folder, vary):
    sums = DigitSums(folder, sample_rate=RATE, seed=0, vary=vary)(0, 60)
    for question, answer in sums:
        assert int("".join(map(str, answer.digits))) == sum(question.digits) and len(question.digits) == 2
        assert question.speaker == answer.speaker
    assert {len(answer.digits) for _, answer in sums} == {1, 2}
    if vary is None:
        assert all(len(heard(said.sound)) == len(said.digits) for pair in sums for said in pair)


def test_silence_is_trimmed_to_a_frame():
    word = trimmed(torch.nn.functional.pad(tone(1000), (399, 641)), RATE)
    assert LENGTH <= word.shape[1] <= LENGTH + 160 and float(word.square().sum()) > 0.99 * tone(1000).square().sum()
    assert trimmed(torch.zeros(1, 100), RATE).shape == (1, 100)


def test_text_and_digits_are_mirrors():
    assert text_of([7, 0]) == "seven zero" and digits_of("seven zero") == [7, 0]
    assert all(digits_of(word) == [digit] for digit, word in enumerate(WORDS))
    with pytest.raises(ValueError, match="'ten'"):
        digits_of("nine ten")


def test_what_cannot_be_used_is_refused_in_a_line(folder, tmp_path):
    with pytest.raises(ValueError, match="some of ann, bo, got"):
        strings(folder, speakers=["cy"])
    with pytest.raises(ValueError, match="max_digits"):
        strings(folder, max_digits=0)
    write_audio(tmp_path / "7_ann_00.wav", tone(500), RATE)
    with pytest.raises(ValueError, match="ann must say each digit more than 3 times"):
        strings(tmp_path)
    write_audio(tmp_path / "seven.wav", tone(500), RATE)
    with pytest.raises(ValueError, match="DIGIT_SPEAKER_TAKE"):
        read_recordings(tmp_path, 4000)
    (tmp_path / "seven.wav").rename(tmp_path / "7_ann_01.wav").write_bytes(b"RIFF no sound")
    with pytest.raises(MediaError, match="7_ann_01"):
        read_recordings(tmp_path, 4001)


def test_recordings_that_last_too_long_are_left_out(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    long = torch.cat([tone(3000)] * 3, dim=1)
    for take in range(5, 9):
        write_audio(tmp_path / f"3_ann_{take:02}.wav", long, RATE)
    brief = strings(tmp_path, max_digits=1, seconds=0.15)
    assert all(said.sound.shape[1] <= 0.15 * RATE for number in range(40) for said in brief(number, 4))
    with pytest.raises(ValueError, match=r"more than 3 times in at most 0\.05 s"):
        strings(tmp_path, seconds=0.05)


@needs_packs
def test_the_pack_has_five_speakers_and_twenty_takes(packs):
    recordings = read_recordings(packs / "audio" / "fsdd_train.tar", RATE)
    assert len(recordings) == 5 * 10 * 20 and {recording.take for recording in recordings} == set(range(20))
    assert all(0.1 < recording.sound.shape[1] / RATE < 2.3 for recording in recordings)
