"""Files of pictures -> small files, and back, by a picture codec. One bad file never stops the others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..data.files import path_inside, refuse_to_replace, target_names, write_atomically
from ..data.media import MediaError, read_bytes, read_image, write_png
from ..data.progress import Progress
from .out_of_memory import why_left_out
from .picture_codec import SUFFIX, PictureCodec, read_header


@dataclass
class Written:
    """What became of the files of one run."""

    files: int = 0
    bytes_read: int = 0  # of those of which one was written
    bytes_written: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # name -> reason


def compress_files(
    files: Mapping[str, Path], out: Path, codec: PictureCodec, *, overwrite: bool = False, show_progress: bool = True
) -> Written:
    """Pictures by name -> files below `out` of the same names, ending in `SUFFIX`.

    What cannot be read is reported and left out, and `failed` says so. A file that is there already, which may be that
    of another picture, is kept and told about, unless `overwrite`.
    """

    def compress(source: Path, target: Path) -> None:
        if not overwrite:
            refuse_to_replace(target)
        write_atomically(target, codec.compress(read_image(source)))

    return _each(files, out, SUFFIX, compress, "compressing", show_progress)


def decompress_files(
    files: Mapping[str, Path],
    out: Path,
    codecs: Iterable[PictureCodec],
    *,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Written:
    """Files that one of the codecs made, by name -> PNG below `out`; as `compress_files`."""
    known = {codec.fingerprint: codec for codec in codecs}

    def decompress(source: Path, target: Path) -> None:
        if not overwrite:
            refuse_to_replace(target)
        data = read_bytes(source)
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
) -> Written:
    targets = target_names(files, suffix)
    out.mkdir(parents=True, exist_ok=True)  # where none can be, no file need be read
    done = Written()
    with Progress(words, len(files), enabled=show_progress) as progress:
        for name, source in files.items():
            try:
                target = path_inside(out, targets[name])
                write(source, target)
                done.files += 1
                done.bytes_read += source.stat().st_size
                done.bytes_written += target.stat().st_size
            except (ValueError, OSError, MemoryError, RuntimeError) as error:
                done.failed[name] = why_left_out(error)
                progress.note(f"skipped {MediaError(name, done.failed[name])}")
            progress.advance()
    return done
