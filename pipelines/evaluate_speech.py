"""How well a model of speech says digits, writes them down, and answers sums: on strings and takes it never heard.

What it says is judged by a recognizer that never heard the speaker whom it judges (speech_judge.py). The figure of all
is digits recognized, 1 - edit distance / digits; of sums also how many answers are wholly right. Real recordings and
their reconstructions by the sound tokenizer are judged in the same way: no model says more plainly than these.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.digit_recognizer import DigitRecognizer
from .picture_sources import VALIDATION_NUMBER
from .speech_judge import digits_recognized, judge
from .speech_model import SpeechModel
from .spoken_digits import DigitStrings, DigitSums, Utterance
from .text_to_image import seeded
from .text_to_speech import SpeechToSpeechPipeline, SpeechToTextPipeline, TextToSpeechPipeline

Judge = Callable[[Sequence[Tensor], int], Sequence[str]]  # sounds (1, S) at a rate -> what each says


@dataclass(frozen=True)
class Heard:
    """What was meant and what was understood, string by string."""

    said: list[str]
    heard: list[str]

    @property
    def recognized(self) -> float:
        return digits_recognized(self.heard, self.said)

    @property
    def right(self) -> float:
        """Share of strings understood without a fault."""
        return sum(a == b for a, b in zip(self.said, self.heard, strict=True)) / len(self.said)


def with_all(name: str, heard: Mapping[str, Heard]) -> dict[str, Heard]:
    """What was understood of all speakers together, under `name`, and of each, under "name, speaker"."""
    said = [text for one in heard.values() for text in one.said]
    understood = [text for one in heard.values() for text in one.heard]
    return {name: Heard(said, understood)} | {f"{name}, {speaker}": one for speaker, one in heard.items()}


def open_judge(folder: Path) -> DigitRecognizer:
    """One judge.

    Raises:
        ValueError: there is none in this folder, or its files are damaged.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} must hold a judge (config.json and weights); train one first")
    return DigitRecognizer.from_pretrained(folder)


def open_judges(folder: Path, speakers: Sequence[str]) -> dict[str, DigitRecognizer]:
    """The judge of each speaker, as `train_digit_judge.py` leaves them: a folder per speaker, or one judge of all.

    Raises:
        ValueError: there is none.
    """
    if (folder / "config.json").is_file():
        return dict.fromkeys(speakers, open_judge(folder))
    found = {path.parent.name: open_judge(path.parent) for path in folder.glob("*/config.json")}
    if not found:
        raise ValueError(f"{folder} must hold a folder with a judge for each speaker; train them first")
    return found


def judge_of(recognizer: DigitRecognizer) -> Judge:
    return lambda sounds, rate: judge(recognizer, sounds, rate)


def real_and_reconstructed(
    model: SpeechModel, strings: DigitStrings, judges: Mapping[str, Judge], count: int
) -> tuple[Heard, Heard]:
    """`count` validation strings for each speaker, as recorded, and as the tokens of the model give them back."""
    rate = model.audio_tokenizer.sample_rate
    spoken = by_speaker(strings.of_any_length(VALIDATION_NUMBER, count * len(strings.speakers)))
    real, back = Heard([], []), Heard([], [])
    for speaker, utterances in spoken.items():
        sounds = [one.sound for one in utterances]
        for heard, heard_sounds in ((real, sounds), (back, model.decode(model.encode(sounds)))):
            heard.said.extend(one.text for one in utterances)
            heard.heard.extend(judges[speaker](heard_sounds, rate))
    return real, back


def says(
    model: SpeechModel, decoder: str, judges: Mapping[str, Judge], texts: Sequence[str], *, seed: int, **how: Any
) -> dict[str, Heard]:
    """What each voice of the model makes of each text, by one decoder, as its judge understands it."""
    pipeline = TextToSpeechPipeline(model)
    found = {}
    for number, speaker in enumerate(sorted(set(model.voices) & judges.keys())):
        generators = seeded(seed + number * len(texts), len(texts))
        said = pipeline(texts, speaker=speaker, decoder=decoder, generator=generators, **how)
        found[speaker] = Heard(list(texts), list(judges[speaker](said.sounds, said.sample_rate)))
    return found


def writes(model: SpeechModel, strings: DigitStrings, count: int) -> dict[str, Heard]:
    """What the model writes of `count` validation strings, by speaker."""
    pipeline = SpeechToTextPipeline(model)
    return {
        speaker: Heard([one.text for one in said], pipeline([one.sound for one in said]))
        for speaker, said in by_speaker(strings.of_any_length(VALIDATION_NUMBER, count)).items()
    }


def answers(
    model: SpeechModel, decoder: str, sums: DigitSums, judges: Mapping[str, Judge], count: int, *, seed: int
) -> Heard:
    """What the model answers to `count` validation questions, as the judge of the asking speaker understands it."""
    pipeline = SpeechToSpeechPipeline(model)
    pairs = sums(VALIDATION_NUMBER, count)
    found = Heard([], [])
    said = pipeline([question.sound for question, _ in pairs], decoder=decoder, generator=seeded(seed, count))
    for (question, answer), sound in zip(pairs, said.sounds, strict=True):
        found.said.append(answer.text)
        found.heard.extend(judges[question.speaker]([sound], said.sample_rate))
    return found


def by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    speakers = sorted({one.speaker for one in utterances})
    return {speaker: [one for one in utterances if one.speaker == speaker] for speaker in speakers}
