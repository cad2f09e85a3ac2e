"""Utterances of spoken digits: recordings of single digits, joined to strings, and to questions and their answers.

The recordings are those of the Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset) or
others named alike: `7_theo_12.wav` is take 12 of theo saying seven. All are decoded once and stay in memory. The last
takes of each digit by each speaker are for validation, and training never hears them.

S samples. As in picture_sources.py, what a source gives follows from its seed and the number of the batch alone.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.audio import read_audio
from ..data.find_files import SOUND_SUFFIXES
from ..data.folders import find_entries
from ..data.loader import generator_of
from ..data.media import MAX_BYTES
from .picture_sources import CACHE_BYTES, VALIDATION_NUMBER
from .sound_sources import at_loudness, stretched

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(\d)_([^_/.]+)_(\d{1,6})(?:\.\w+)?")  # digit, speaker, take
MAX_SECONDS = 10.0  # of a recording
TAKES_HELD_OUT = 3
QUIET_DB = 35.0  # below the loudest moment, at the ends of a recording: no part of the word
FRAME_SECONDS = 0.01  # in which loudness is measured
GAPS = (0.03, 0.15)  # seconds of silence between two digits
SAYING = 1  # random numbers for an utterance are apart from all others
SPEEDS = (0.94, 1.06)  # of training utterances; the pitch goes along
NOISE_DB = (20.0, 50.0)  # by which white noise lies below them


@dataclass(frozen=True)
class Recording:
    digit: int
    speaker: str
    take: int
    sound: Tensor  # float32 (1, S) in [-1, 1], without the silence around the word


@dataclass(frozen=True)
class Utterance:
    sound: Tensor  # float32 (1, S) in [-1, 1]
    text: str  # "seven two nine"
    speaker: str

    @property
    def digits(self) -> list[int]:
        return digits_of(self.text)


def text_of(digits: Sequence[int]) -> str:
    """[7, 2] -> "seven two"."""
    return " ".join(WORDS[digit] for digit in digits)


def digits_of(text: str) -> list[int]:
    """ "seven two" -> [7, 2]

    Raises:
        ValueError: a word is no digit.
    """
    unknown = [word for word in text.split() if word not in WORDS]
    if unknown:
        raise ValueError(f"digits must be words from {WORDS[0]} to {WORDS[-1]}, got {unknown[0]!r}; spell them so")
    return [WORDS.index(word) for word in text.split()]


def trimmed(sound: Tensor, sample_rate: int) -> Tensor:
    """A sound (1, S) without the quiet at its ends: from the first frame of the word to its last."""
    frame = round(FRAME_SECONDS * sample_rate)
    frames = F.pad(sound, (0, -sound.shape[1] % frame)).unflatten(1, (-1, frame))
    energy = frames.square().mean(2)[0]  # (frames,)
    (loud,) = torch.nonzero(energy >= energy.max() * 10 ** (-QUIET_DB / 10), as_tuple=True)
    return sound[:, int(loud[0]) * frame : (int(loud[-1]) + 1) * frame]


@lru_cache(maxsize=4)
def read_recordings(path: str | os.PathLike[str], sample_rate: int = 16_000) -> tuple[Recording, ...]:
    """All recordings of a folder or tar at `sample_rate` Hz, trimmed, sorted by speaker, digit and take.

    Raises:
        ValueError: a name does not tell digit, speaker and take, or there is more than fits into memory.
        MediaError: a recording is broken, or longer than `MAX_SECONDS`.
    """
    recordings, num_bytes = [], 0
    for entry in find_entries(path, "sounds", SOUND_SUFFIXES):
        found = NAME.fullmatch(entry.key.rpartition("/")[2])
        if not found:
            raise ValueError(f"{path}: names must be DIGIT_SPEAKER_TAKE, like 7_theo_12, got {entry.key!r}; rename it")
        piece = entry.image
        source = piece.path if piece.size is None else piece.read(MAX_BYTES)
        sound = read_audio(source, sample_rate=sample_rate, limit_s=MAX_SECONDS, name=piece.name)
        num_bytes += sound.nbytes
        if num_bytes > CACHE_BYTES:
            raise ValueError(f"{path}: recordings must fit into {CACHE_BYTES:,} bytes of memory; take fewer")
        recordings.append(Recording(int(found[1]), found[2], int(found[3]), trimmed(sound, sample_rate)))
    return tuple(sorted(recordings, key=lambda r: (r.speaker, r.digit, r.take)))


class DigitVoices:
    """Who says which digit how: the takes of each (speaker, digit), those for training apart from the last few."""

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, speakers: Sequence[str] | None, seconds: float):
        takes: dict[tuple[str, int], list[Recording]] = defaultdict(list)
        recordings = read_recordings(Path(path), sample_rate)
        for recording in recordings:
            if recording.sound.shape[1] <= seconds * sample_rate:
                takes[recording.speaker, recording.digit].append(recording)
        known = sorted({recording.speaker for recording in recordings})
        self.speakers = tuple(known if speakers is None else speakers)
        if not self.speakers or not set(self.speakers) <= set(known):
            raise ValueError(f"speakers must be some of {', '.join(known)}, got {self.speakers}; name others")
        for speaker in self.speakers:
            fewest = min(range(10), key=lambda digit: len(takes.get((speaker, digit), ())))
            if len(takes.get((speaker, fewest), ())) <= TAKES_HELD_OUT:
                raise ValueError(
                    f"{path}: {speaker} must say each digit more than {TAKES_HELD_OUT} times in at most "
                    f"{seconds:g} s, not {fewest}"
                )
        self.sample_rate = sample_rate
        self.for_training = {key: found[:-TAKES_HELD_OUT] for key, found in takes.items()}
        self.for_validation = {key: found[-TAKES_HELD_OUT:] for key, found in takes.items()}

    def say(self, digits: Sequence[int], speaker: str, number: int, generator: torch.Generator) -> Utterance:
        """These digits, by a random take each, with random silences between them."""
        takes = self.for_validation if number >= VALIDATION_NUMBER else self.for_training
        parts: list[Tensor] = []
        for digit in digits:
            if parts:
                seconds = GAPS[0] + (GAPS[1] - GAPS[0]) * float(torch.rand((), generator=generator))
                parts.append(torch.zeros(1, round(seconds * self.sample_rate)))
            found = takes[speaker, digit]
            parts.append(found[_choice(len(found), generator)].sound)
        return Utterance(torch.cat(parts, dim=1), text_of(digits), speaker)


Vary = Callable[[Sequence[Utterance], torch.Generator], list[Utterance]]  # utterances that belong together, alike


def at_another_speed(utterances: Sequence[Utterance], generator: torch.Generator) -> list[Utterance]:
    """The utterances at one other speed, and so pitch."""
    speed = SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * float(torch.rand((), generator=generator))
    return [replace(said, sound=stretched(said.sound, round(said.sound.shape[1] / speed))) for said in utterances]


def varied_alike(utterances: Sequence[Utterance], generator: torch.Generator) -> list[Utterance]:
    """The utterances at one other speed, of one other loudness, under white noise."""
    loudness, noise = torch.rand(2, generator=generator).tolist()
    below = 10 ** (-(NOISE_DB[0] + (NOISE_DB[1] - NOISE_DB[0]) * noise) / 20)
    varied = []
    for said in at_another_speed(utterances, generator):
        level = said.sound.square().mean().sqrt()
        noisy = said.sound + below * level * torch.randn(said.sound.shape, generator=generator)
        varied.append(replace(said, sound=at_loudness(noisy, loudness)))
    return varied


class DigitStrings:
    """Strings of 1 to `max_digits` random digits by one speaker each: (number, count) -> as many `Utterance`s.

    Those of a batch have equally many digits, so that little of it is padding.
    Batches from `VALIDATION_NUMBER` on are of takes held apart, and as they were recorded; `vary` changes those of
    training, None leaves them alone. Recordings of a digit that last longer than `seconds` are left out.

    Raises:
        ValueError: `max_digits` is less than 1, an unknown speaker, too few takes; else as `read_recordings`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sample_rate: int = 16_000,
        max_digits: int = 3,
        seed: int,
        speakers: Sequence[str] | None = None,
        vary: Vary | None = varied_alike,
        seconds: float = MAX_SECONDS,
    ):
        if max_digits < 1:
            raise ValueError(f"max_digits must be at least 1, got {max_digits}")
        self.voices = DigitVoices(path, sample_rate, speakers, seconds)
        self.max_digits, self.seed, self.vary = max_digits, seed, vary

    @property
    def speakers(self) -> tuple[str, ...]:
        return self.voices.speakers

    def __call__(self, number: int, count: int) -> list[Utterance]:
        length = 1 + _choice(self.max_digits, generator_of(self.seed, number))
        return [self._utterance(length, number, generator_of(self.seed, number, i, SAYING)) for i in range(count)]

    def of_any_length(self, number: int, count: int) -> list[Utterance]:
        """One from each of `count` batches, from `number` on: strings of all lengths, to be tried with."""
        return [said for batch in range(number, number + count) for said in self(batch, 1)]

    def of_mixed_lengths(self, number: int, count: int) -> list[Utterance]:
        """A batch whose strings are of all lengths."""
        generators = [generator_of(self.seed, number, i) for i in range(count)]
        return [self._utterance(1 + _choice(self.max_digits, each), number, each) for each in generators]

    def _utterance(self, length: int, number: int, generator: torch.Generator) -> Utterance:
        speaker = self.speakers[_choice(len(self.speakers), generator)]
        said = self.voices.say([_choice(10, generator) for _ in range(length)], speaker, number, generator)
        return self.vary([said], generator)[0] if self.vary and number < VALIDATION_NUMBER else said


class DigitSums:
    """Two digits, and their sum digit by digit, by the same speaker: (number, count) -> pairs of `Utterance`s.

    "seven nine" is answered by "one six", "two three" by "five". Otherwise as `DigitStrings`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sample_rate: int = 16_000,
        seed: int,
        speakers: Sequence[str] | None = None,
        vary: Vary | None = varied_alike,
    ):
        self.voices = DigitVoices(path, sample_rate, speakers, MAX_SECONDS)
        self.seed, self.vary = seed, vary

    @property
    def speakers(self) -> tuple[str, ...]:
        return self.voices.speakers

    def __call__(self, number: int, count: int) -> list[tuple[Utterance, Utterance]]:
        return [self._pair(number, generator_of(self.seed, number, i, SAYING)) for i in range(count)]

    def _pair(self, number: int, generator: torch.Generator) -> tuple[Utterance, Utterance]:
        speaker = self.speakers[_choice(len(self.speakers), generator)]
        one, other = _choice(10, generator), _choice(10, generator)
        pair = [
            self.voices.say(digits, speaker, number, generator)
            for digits in ([one, other], [int(digit) for digit in str(one + other)])
        ]
        question, answer = self.vary(pair, generator) if self.vary and number < VALIDATION_NUMBER else pair
        return question, answer


def _choice(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
