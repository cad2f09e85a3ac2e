"""Files of pictures -> small files, and back, by a picture codec. One bad file never stops the others."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..data.files import path_inside, target_names, write_atomically
from ..data.media import MediaError, read_bytes, read_image, write_png
from ..data.progress import Progress
from ..data.shards import Summary
from .picture_codec import MAX_FILE_BYTES, SUFFIX, PictureCodec, read_header
from .train_loop import is_out_of_memory


def compress_files(files: Mapping[str, Path], out: Path, codec: PictureCodec, *, show_progress: bool = True) -> Summary:
    """Pictures by name -> files below `out` of the same names, ending in `SUFFIX`.

    What cannot be read is reported and left out; the summary says so.
    """

    def compress(source: Path, target: Path) -> None:
        write_atomically(target, codec.compress(read_image(source)))

    return _each(files, out, SUFFIX, compress, "compressing", show_progress)


def decompress_files(
    files: Mapping[str, Path], out: Path, codecs: Iterable[PictureCodec], *, show_progress: bool = True
) -> Summary:
    """Files that one of the codecs made, by name -> PNG below `out`; as `compress_files`."""
    known = {codec.fingerprint: codec for codec in codecs}

    def decompress(source: Path, target: Path) -> None:
        data = read_bytes(source, MAX_FILE_BYTES)
        fingerprint, _ = read_header(data)
        if fingerprint not in known:
            raise ValueError(f"compressed by models that are not here ({fingerprint.hex()}); name theirs")
        write_png(target, known[fingerprint].decompress(data))

    return _each(files, out, ".png", decompress, "decompressing", show_progress)


def _each(
    files: Mapping[str, Path],
    out: Path,
    suffix: str,
    write: Callable[[Path, Path], None],
    words: str,
    show_progress: bool,
) -> Summary:
    targets = target_names(files, suffix)
    summary = Summary()
    with Progress(words, len(files), enabled=show_progress) as progress:
        for name, source in files.items():
            try:
                write(source, path_inside(out, targets[name]))
                summary.files += 1
            except (ValueError, OSError) as error:
                reason = error.reason if isinstance(error, MediaError) else " ".join(str(error).split())
                summary.failed[name] = reason
                progress.note(f"skipped {MediaError(name, reason)}")
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                summary.failed[name] = "there is not enough memory for a picture of this size; shrink it"
                progress.note(f"skipped {MediaError(name, summary.failed[name])}")
            progress.advance()
    return summary
