"""Any video file, opened safely, whatever decodes it.

Clips are hostile: containers that name other files (playlists) are not opened, FFmpeg never sees a name that it could
take for an address, and pixels are bounded before they are decoded. A file is read as it is needed, never as a whole,
so it may have any length.
"""

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import BinaryIO

from .clip import Clip
from .container_clip import FORMATS, OPTIONS, ContainerClip
from .cut_off import why_cut_off
from .media import MediaError, open_regular
from .webp_clip import WebPClip

Source = str | os.PathLike[str] | bytes | BinaryIO  # a path, all bytes of a file, or a file that can seek


@contextmanager
def open_video(source: Source, name: str | None = None, *, keep_decodable: bool = False) -> Iterator[Clip]:
    """A clip, closed on the way out, however one leaves. `name` stands in messages where the source has no path.

    A damaged or cut-off file is refused, or, with `keep_decodable`, gives the frames that are whole.

    Raises:
        MediaError: whatever is wrong with the clip, here or inside the block.
    """
    import av

    name = name or name_of(source)
    try:
        with _open_file(source) as file:
            head = file.read(12)
            if not head:
                raise MediaError(name, "the file is empty")
            if not keep_decodable and (reason := why_cut_off(file)):
                raise MediaError(name, reason)
            file.seek(0)
            if head.startswith(b"RIFF") and head.endswith(b"WEBP"):
                yield WebPClip(file, name, keep_decodable)
            else:
                known = {"format_whitelist": FORMATS}
                with av.open(
                    file, "r", container_options=known, options=OPTIONS, metadata_errors="replace"
                ) as container:
                    yield ContainerClip(container, name, keep_decodable)
    except MediaError:
        raise
    except (av.InvalidDataError, av.ArgumentError) as error:  # the latter: known, but not one of FORMATS
        raise MediaError(name, "not a video of a known format, or too broken to be opened") from error
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise MediaError(name, getattr(error, "strerror", None) or error) from error


def name_of(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "name", "clip"))


def _open_file(source: Source) -> AbstractContextManager[BinaryIO]:
    """The file at a path, which closes with the block, or the one that was given, from its beginning."""
    if isinstance(source, (str, os.PathLike)):
        return open_regular(source)
    if isinstance(source, bytes):
        return io.BytesIO(source)
    source.seek(0)
    return nullcontext(source)
