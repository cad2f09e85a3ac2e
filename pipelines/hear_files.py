"""Files of sounds in, what they say or what answers them out; a broken file costs its own result alone."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.audio import read_audio
from ..data.media import MediaError
from .out_of_memory import LEAVE_OUT, skipped
from .speech_model import SpeechModel
from .text_to_image import seeded
from .text_to_speech import SpeechToSpeechPipeline, SpeechToTextPipeline


@dataclass(frozen=True)
class Heard:
    """A file with its text or the sound that answers it, or with what is wrong with it."""

    file: Path
    text: str = ""
    sound: Tensor | None = None  # float32 (1, S) in [-1, 1]
    seconds: float = 0.0  # that answering took
    error: str = ""


def hear_file(file: Path, model: SpeechModel) -> Tensor:
    """A sound as the model takes it: float32 (1, S) at its rate.

    Raises:
        MediaError: it cannot be read, or is longer than the model knows.
    """
    rate, seconds = model.audio_tokenizer.sample_rate, model.max_seconds
    sound = read_audio(file, sample_rate=rate, stop=seconds + 1)
    if sound.shape[1] > round(seconds * rate):
        raise MediaError(str(file), f"the model hears {seconds:g} seconds at most; cut it")
    return sound


def beginning_of(file: Path, model: SpeechModel) -> Tensor:
    """The same of a sound of any length: one that is longer is cut there.

    Raises:
        MediaError: it cannot be read.
    """
    rate, most = model.audio_tokenizer.sample_rate, model.most_samples
    return read_audio(file, sample_rate=rate, stop=most / rate)[:, :most]


def transcripts(pipeline: SpeechToTextPipeline, files: Iterable[Path]) -> Iterator[Heard]:
    """What each file says, in their order."""
    for file in files:
        try:
            text = pipeline([hear_file(file, pipeline.model)])[0]
        except LEAVE_OUT as error:
            yield Heard(file, error=skipped(file, error))
            continue
        yield Heard(file, text=text)


def answers(pipeline: SpeechToSpeechPipeline, files: Iterable[Path], *, seed: int = 0, **how: Any) -> Iterator[Heard]:
    """What answers each file, in their order; number k has the seed `seed` + k. `how` as the pipeline takes it."""
    for number, file in enumerate(files):
        try:
            sound = hear_file(file, pipeline.model)
            began = time.perf_counter()
            answer = pipeline([sound], generator=seeded(seed + number, 1), **how).sounds[0]
        except LEAVE_OUT as error:
            yield Heard(file, error=skipped(file, error))
            continue
        yield Heard(file, sound=answer, seconds=time.perf_counter() - began)
