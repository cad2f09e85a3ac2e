"""Where training sounds come from: random pieces of the files of folders and tars, in stated shares.

As in picture_sources.py a source maps (number, count) to a batch and captions and depends on nothing else. Training
pieces vary in loudness and speed, so that few speakers stand for more.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.audio import probe_audio, read_audio
from ..data.find_files import SOUND_SUFFIXES
from ..data.folders import Entry, Examples, find_entries
from ..data.loader import generator_of
from ..data.media import MAX_BYTES, MediaError
from .picture_sources import CACHE_BYTES, VALIDATION_NUMBER, Draw, MixedSource, PictureSource, parse_shares, seeds_of

WHOLE_SECONDS = 60.0  # files up to so long are read once and kept
SPEEDS = (80, 125)  # percent, the slowest and the fastest
LOUDNESS = (0.01, 0.2)  # root mean square of a piece; speech is recorded at 0.03 to 0.1

# (number, count) -> float32 (count, 1, S) in [-1, 1] at one rate, and a caption each: a PictureSource of sounds.
SoundSource = PictureSource


class SoundFileSource:
    """Pieces of `samples` samples at `sample_rate` Hz from random moments of files; shorter files lie in silence.

    Files for training and for validation are held apart; pieces for validation are as they were recorded.
    """

    def __init__(self, entries: list[Entry], samples: int, sample_rate: int, seed: int):
        self.examples, self.samples, self.sample_rate, self.seed = Examples(entries), samples, sample_rate, seed
        self.longest = samples * SPEEDS[1] // 100
        self.draw = Draw(self._read, len(entries), seed)
        self._cache: dict[int, Tensor] = {}
        self._cached_bytes = 0

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        pieces, captions = self.draw(number, count)
        if number >= VALIDATION_NUMBER:
            return pieces[:, :, : self.samples], captions
        generator = generator_of(self.seed, number, 1)
        return torch.stack([varied(piece, self.samples, generator) for piece in pieces]), captions

    def _read(self, index: int, generator: torch.Generator) -> tuple[Tensor, str]:
        start = float(torch.rand((), generator=generator))
        return self._piece(index, start), self.examples.caption(index) or ""

    def _piece(self, index: int, start: float) -> Tensor:
        """The longest piece that is needed, (1, S), from a moment on: 0 is as early, 1 as late as possible."""
        if index not in self._cache:
            piece = self.examples.entries[index].image
            source, name = piece.path if piece.size is None else piece.read(MAX_BYTES), piece.name
            seconds = probe_audio(source, name=name).seconds
            if seconds is not None and seconds > WHOLE_SECONDS:
                length = self.longest / self.sample_rate
                first = start * (seconds - length)
                sound = read_audio(source, sample_rate=self.sample_rate, start=first, stop=first + length, name=name)
                return F.pad(sound, (0, self.longest))[:, : self.longest]  # its header may have promised more
            sound = read_audio(source, sample_rate=self.sample_rate, name=name)
            self._cached_bytes += sound.nbytes
            if self._cached_bytes > CACHE_BYTES:
                return cut(sound, self.longest, start)
            self._cache[index] = sound
        return cut(self._cache[index], self.longest, start)

    def captions(self) -> Iterable[str]:
        for index in range(len(self.examples.entries)):
            try:
                yield self.examples.caption(index) or ""
            except MediaError as error:
                self.draw.skip(index, error)


def cut(sound: Tensor, samples: int, start: float) -> Tensor:
    """A piece (1, `samples`) of a sound (1, S); if the sound is shorter, it lies in silence, and `start` says where."""
    room = sound.shape[1] - samples
    if room >= 0:
        first = int(start * (room + 1))
        return sound[:, first : first + samples]
    before = int(start * (1 - room))
    return F.pad(sound, (before, -room - before))


def varied(piece: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """A piece (1, at least 1.25 `samples`) at another speed and pitch, of another loudness, (1, `samples`).

    Both are uniform, the loudness in decibels.
    """
    speed, loudness = torch.rand(2, generator=generator).tolist()
    length = samples * int(SPEEDS[0] + speed * (SPEEDS[1] - SPEEDS[0] + 1)) // 100
    return at_loudness(stretched(piece[:, :length], samples), loudness)


def stretched(sound: Tensor, samples: int) -> Tensor:
    """A sound (C, S) at the speed, and so at the pitch, at which it has `samples` samples.

    This is done in the spectrum, which is cut or filled with zeros, so nothing folds over.
    """
    spectrum = torch.fft.rfft(sound)
    bins = samples // 2 + 1
    spectrum = F.pad(spectrum, (0, max(0, bins - spectrum.shape[1])))[:, :bins]
    return torch.fft.irfft(spectrum, samples) * (samples / sound.shape[1])


def at_loudness(sound: Tensor, share: float) -> Tensor:
    """A sound (C, S) as loud as `LOUDNESS` goes, from the softest (`share` 0) to the loudest (1), even in decibels.

    It ends where the peak would pass 1, and raises a nearly silent sound by no more than 26 dB.
    """
    low, high = LOUDNESS
    asked = low * (high / low) ** share / sound.square().mean().sqrt().clamp(min=low)
    return sound * torch.minimum(asked, 0.99 / sound.abs().max().clamp(min=1e-5))


def open_sound_source(specs: Sequence[str], samples: int, sample_rate: int, seed: int) -> MixedSource:
    """The mixed source of several specs: folders and tars of sounds.

    Raises:
        ValueError: there is no spec, a path holds no sounds, or a share is no positive number.
    """
    names, shares = parse_shares(specs)
    sources: list[SoundSource] = [
        SoundFileSource(find_entries(Path(name), "sounds", SOUND_SUFFIXES), samples, sample_rate, own)
        for name, own in zip(names, seeds_of(seed, len(names)), strict=True)
    ]
    return MixedSource(tuple(sources), shares)
