"""Pictures that go by names: captioned files, the name that each caption holds, and which of them training leaves out.

N pictures of S x S pixels. Many pictures may go by one name, such as one thing drawn in two styles.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.media import MediaError
from .picture_sources import FileSource, open_files, whole

MAX_BYTES = 2 << 30  # of pictures, which are all held in memory


@dataclass(frozen=True)
class NamedPictures:
    """`known` is false where `train` on the same files holds a picture out for validation."""

    pixels: Tensor  # uint8 (N, 3, S, S)
    captions: list[str]
    names: list[str]
    known: list[bool]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every name once, sorted."""
        return tuple(sorted(set(self.names)))

    def chosen(self, known: bool, count: int, seed: int) -> list[int]:
        """Numbers of at most `count` pictures that are known, or not, in an order that `seed` decides."""
        found = [number for number, is_known in enumerate(self.known) if is_known == known]
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
        return [found[place] for place in order[:count]]


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression that finds a name in a caption.

    Raises:
        ValueError: it is none, or has no group.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a name is found by a regular expression, but {pattern!r} is none: {error}") from error
    if not found.groups:
        raise ValueError(f"the first group in brackets finds the name, but {pattern!r} has none; write (.*), say")
    return found


def name_in(caption: str, pattern: re.Pattern[str]) -> str:
    """The name that a caption holds: the first group of the pattern, which must fit the whole caption.

    Raises:
        ValueError: it does not fit.
    """
    found = pattern.fullmatch(caption)
    if found is None or not found[1]:
        raise ValueError(f"{pattern.pattern!r} must find a name in every caption, not in {caption!r}; change it")
    return found[1]


def read_named(paths: Sequence[Path], size: int, pattern: str) -> NamedPictures:
    """The captioned pictures of folders and tars, the middle square of each at `size` pixels.

    A picture that is broken is left out, with a line in the log; so is one without a caption.

    Raises:
        ValueError: nothing is there, it is too much, or a caption does not fit the pattern.
    """
    expression = compiled(pattern)
    pixels: list[Tensor] = []
    captions: list[str] = []
    known: list[bool] = []
    for path in paths:
        source = FileSource(open_files(path), size, 0, whole)
        if (len(pixels) + len(source.examples)) * 3 * size**2 > MAX_BYTES:
            raise ValueError(f"{path} makes {len(source.examples):,} pictures more than are held at once; name fewer")
        training = set(source.draw.for_training)
        for index in range(len(source.examples)):
            try:
                example = source.examples[index]
            except MediaError as error:
                source.draw.skip(index, error)
                continue
            if example.caption:
                pixels.append(whole(example.image, size, torch.Generator()))
                captions.append(example.caption)
                known.append(index in training)
    if not pixels:
        raise ValueError(f"{', '.join(map(str, paths))} must hold captioned pictures, and holds none")
    return NamedPictures(torch.stack(pixels), captions, [name_in(text, expression) for text in captions], known)
