"""Kinds of values that options of many commands take: what cannot be is refused before anything is loaded or computed.

Each is the `type` of an argument of argparse, which reports what it raises as wrong usage, in one line.
"""

import math
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

MAX_SEED = 2**62  # generators take twice as much, so that there are seeds left for what is drawn next


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """The `type` of a count from `least` to `most`."""

    def count(word: str) -> int:
        value = int(word) if word.isdecimal() and len(word) < 20 else -1
        if not least <= value <= most:
            raise ArgumentTypeError(f"a whole number of {least} to {most} is needed, got {word!r}")
        return value

    return count


def real_number(least: float, most: float) -> Callable[[str], float]:
    """The `type` of a quantity from `least` to `most`."""

    def quantity(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # nan is within nothing
            raise ArgumentTypeError(f"a number of {least:g} to {most:g} is needed, got {word!r}")
        return value

    return quantity


def spec(word: str) -> str:
    """The `type` of "name" or "name:share", whose share must be above 0."""
    _, _, share = word.rpartition(":")
    try:
        usable = 0 < float(share) < math.inf
    except ValueError:  # it is part of the name
        return word
    if not usable and ":" in word:
        raise ArgumentTypeError(f"a share must be above 0, got {word!r}; leave the source out")
    return word


POSITIVE = whole_number(1, 10**9)
NATURAL = whole_number(0, 10**9)
SHARE = real_number(0, 1)
WEIGHT = real_number(0, 1000)  # of a term of a loss
LEARNING_RATE = real_number(0, 10)
TEMPERATURE = real_number(0, 100)
GUIDANCE = real_number(0, 100)
STEPS = whole_number(1, 1000)  # of a sampler
HERTZ = real_number(0.01, 1000)  # of frames
SECONDS = real_number(0.1, 3600)


def seed_number(word: str) -> int:
    """A seed that every generator takes, of 0 to `MAX_SEED`."""
    return whole_number(0, MAX_SEED)(word)


def pattern_with_group(word: str) -> str:
    """A regular expression whose first group finds something."""
    try:
        groups = re.compile(word).groups
    except re.error as error:
        raise ArgumentTypeError(f"a regular expression is needed, and {word!r} is none: {error}") from None
    if not groups:
        raise ArgumentTypeError(f"a group in brackets must say what is found, and {word!r} has none; write (.*), say")
    return word


def out_path(word: str) -> Path:
    """Where a file or a folder can be written, with the folders above it that are not there yet."""
    if not word:
        raise ArgumentTypeError("a path is needed, got an empty one; write . for this folder")
    path = Path(word)
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that is too long, a folder that must not be looked into
        raise ArgumentTypeError(f"{path} cannot be: {error.strerror}; choose another path") from None
    above = next(folder for folder in Path(os.path.abspath(path)).parents if os.path.lexists(folder))
    folder = path if os.path.isdir(path) else above
    if not os.path.isdir(folder):
        raise ArgumentTypeError(f"{folder} is a file, so {path} cannot be below it; choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"{folder} must let us write, and does not; choose another path")
    return path


def out_file(word: str) -> Path:
    """A file that can be written: a new one, or one that is replaced."""
    path = out_path(word)
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ArgumentTypeError(f"a file is written, but {path} is a folder or a device; choose another path")
    return path


def out_folder(word: str) -> Path:
    """A folder that can be written to: a new one, or one that is there."""
    path = out_path(word)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ArgumentTypeError(f"a folder is written, but {path} is a file; choose another path")
    return path
