"""Any media file, opened safely, whatever decodes it.

Files are hostile: containers that name other files (playlists) are not opened, and FFmpeg never sees a name that it
could take for an address. A file is read as it is needed, never as a whole, so it may have any length.
"""

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO

from .cut_off import why_cut_off
from .media import MediaError, open_regular

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av.container import InputContainer

Source = str | os.PathLike[str] | bytes | BinaryIO  # a path, all bytes of a file, or a file that can seek


@contextmanager
def open_media(source: Source, name: str, kind: str, *, keep_decodable: bool) -> Iterator[BinaryIO]:
    """The file of a source, at its beginning; `name` is what messages call it, `kind` what it should hold: "video".

    A file that is cut off is refused, unless `keep_decodable`. It is closed on the way out if it was opened here.

    Raises:
        MediaError: whatever is wrong with the file, here or inside the block.
    """
    import av

    try:
        with _open_file(source) as file:
            if not file.read(1):
                raise MediaError(name, "the file is empty")
            if not keep_decodable and (reason := why_cut_off(file)):
                raise MediaError(name, reason)
            file.seek(0)
            yield file
    except MediaError:
        raise
    except (av.InvalidDataError, av.ArgumentError) as error:  # the second of a format that is not among the known
        raise MediaError(name, f"no {kind} of a known format, or too broken to be opened") from error
    except EOFError as error:
        raise MediaError(name, "cut off: it ends where more must come") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(name, getattr(error, "strerror", None) or error) from error


def open_container(file: BinaryIO, formats: str, options: dict[str, str]) -> "InputContainer":
    """An open file as a container of one of FFmpeg's `formats`; to be closed by whoever opens it."""
    import av

    known = {"format_whitelist": formats}
    return av.open(file, "r", container_options=known, options=options, metadata_errors="replace")


def name_of(source: Source, kind: str) -> str:
    """What messages call a source: its path, or `kind` where it has none."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "name", kind))


def _open_file(source: Source) -> AbstractContextManager[BinaryIO]:
    """The file at a path, which closes with the block, or the one that was given, from its beginning."""
    if isinstance(source, (str, os.PathLike)):
        return open_regular(source)
    if isinstance(source, bytes):
        return io.BytesIO(source)
    source.seek(0)
    return nullcontext(source)
