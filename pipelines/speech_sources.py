"""Where training speech comes from: recordings with their texts, in folders and tars.

A recording is used whole, because its text speaks of all of it. The JSON beside it may name the `speaker`.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.audio import probe_audio, read_audio
from ..data.find_files import SOUND_SUFFIXES
from ..data.folders import Examples, find_entries
from ..data.media import MAX_BYTES, MediaError
from .picture_sources import CACHE_BYTES, Draw, divide, parse_shares, seeds_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    sound: Tensor  # float32 (1, S) in [-1, 1]
    text: str
    speaker: str  # "" if nothing says


class RecordedSpeech:
    """Number and count -> recordings with their texts, each with equal chance; those for validation are held apart.

    Recordings longer than `seconds` or without a text are left out, and the log says how many.
    """

    def __init__(self, path: Path, *, seconds: float, sample_rate: int, seed: int):
        examples = Examples(find_entries(path, "sounds", SOUND_SUFFIXES))
        self.sample_rate = sample_rate
        fitting = [number for number in range(len(examples)) if _fits(examples, number, seconds)]
        if len(fitting) < len(examples):
            log.warning(
                "%s: %d of %d recordings have a text and at most %g s; the others are left out",
                *(path, len(fitting), len(examples), seconds),
            )
        if not fitting:
            raise ValueError(f"{path} must hold recordings of at most {seconds:g} s with texts; raise --seconds")
        self.examples = Examples([examples.entries[number] for number in fitting])
        self.draw = Draw(self._number, len(self.examples), seed)
        self._drawn: dict[int, Recording] = {}  # of the batch that is being drawn
        self._cache: dict[int, Recording] = {}
        self._cached_bytes = 0

    def __call__(self, number: int, count: int) -> list[Recording]:
        self._drawn = {}
        numbers, _ = self.draw(number, count)
        return [self._drawn[index] for index in numbers.tolist()]

    def speakers(self) -> set[str]:
        """All that are named."""
        named = (self.examples.extra(index).get("speaker") for index in range(len(self.examples)))
        return {name for name in named if isinstance(name, str) and name}

    def texts(self) -> Iterator[str]:
        for index in range(len(self.examples)):
            yield self.examples.caption(index) or ""

    def _number(self, index: int, generator: torch.Generator) -> tuple[Tensor, str]:
        """The number of a recording that can be read, so that `Draw` passes over the others."""
        if index not in self._drawn:
            self._drawn[index] = self._recording(index)
        return torch.tensor(index), ""

    def _recording(self, index: int) -> Recording:
        if index not in self._cache:
            piece = self.examples.entries[index].image
            source = piece.path if piece.size is None else piece.read(MAX_BYTES)
            sound = read_audio(source, sample_rate=self.sample_rate, name=piece.name)
            speaker = self.examples.extra(index).get("speaker")
            text = self.examples.caption(index) or ""
            recording = Recording(sound, text, speaker if isinstance(speaker, str) else "")
            self._cached_bytes += sound.nbytes
            if self._cached_bytes > CACHE_BYTES:
                return recording
            self._cache[index] = recording
        return self._cache[index]


@dataclass(frozen=True)
class MixedSpeech:
    """Several sources in one batch, each in its share."""

    sources: Sequence[RecordedSpeech]
    shares: Sequence[float]

    def __call__(self, number: int, count: int) -> list[Recording]:
        counts = divide(count, self.shares, number)
        return [one for source, n in zip(self.sources, counts, strict=True) if n for one in source(number, n)]

    def speakers(self) -> set[str]:
        return {name for source in self.sources for name in source.speakers()}

    def texts(self) -> Iterator[str]:
        return (text for source in self.sources for text in source.texts())


def open_recorded_speech(specs: Sequence[str], *, seconds: float, sample_rate: int, seed: int) -> MixedSpeech:
    """The mixed source of several specs: folders and tars of recordings with their texts.

    Raises:
        ValueError: there is no spec, a path holds no recording that fits, or a share is no positive number.
    """
    names, shares = parse_shares(specs)
    sources = [
        RecordedSpeech(Path(name), seconds=seconds, sample_rate=sample_rate, seed=own)
        for name, own in zip(names, seeds_of(seed, len(names)), strict=True)
    ]
    return MixedSpeech(sources, shares)


def _fits(examples: Examples, number: int, seconds: float) -> bool:
    """Whether a recording has a text and is short enough, as far as its header says; a broken one is told of later."""
    piece = examples.entries[number].image
    try:
        source = piece.path if piece.size is None else piece.read(MAX_BYTES)
        length = probe_audio(source, name=piece.name).seconds
        return bool(examples.caption(number)) and length is not None and length <= seconds
    except MediaError as error:
        log.warning("skipped %s", error)
        return False
