"""Was it memory that was missing? And why a file is left out, told in one line."""

import re
from pathlib import Path

import torch

from ..data.media import MediaError

LEAVE_OUT = (MediaError, OSError, RuntimeError, MemoryError)  # what may be one file's fault, where models run


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch (on a device or on the CPU) or Python could not allocate; on the CPU torch has no class for it."""
    told = re.search("out of memory|allocate memory|not enough memory", str(error).lower())
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or told is not None


def why_left_out(error: Exception) -> str:
    """Why a file, or what was made of it, is left out, in one line.

    Raises:
        Exception: `error` itself, if it is no fault of the file.
    """
    if isinstance(error, MediaError):
        return error.reason
    if isinstance(error, (ValueError, OSError)):
        return " ".join(str(error).split())
    if is_out_of_memory(error):
        return "there is not enough memory for media of this size"
    raise error


def skipped(file: Path, error: Exception) -> str:
    """As `why_left_out`, with the name of the file."""
    return str(error) if isinstance(error, (MediaError, OSError)) else f"{file}: {why_left_out(error)}"
