"""Files of any size -> token shards, exactly and resumably; one bad file never stops the others.

`tokenize_texts`, `tokenize_images`, `tokenize_videos` and `tokenize_sounds` write `out/text`, `out/image`, `out/video`
and `out/audio` (see data/shards.py), so that one `out` can hold every modality. Files come by name, as
data/find_files.py finds them. A crew (see workers.py) does the work: this process, several, or a cluster. The bytes are
the same for each.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from ..data import media, resample
from ..data.files import sha256_of_file
from ..data.media import MAX_BYTES, MAX_PIXELS, WHITE, MediaError
from ..data.progress import Progress
from ..data.shard_format import ShardSpec
from ..data.shards import ShardWriter, Source, Summary, Tokens
from ..data.video import MAX_FPS
from ..tokenizers.protocol import MediaTokenizer
from .media_encoders import (
    AudioEncoder,
    ByteTokenizer,
    ImageEncoder,
    SoundTokenizer,
    StreamingTokenizer,
    TextEncoder,
    VideoEncoder,
)
from .out_of_memory import is_out_of_memory
from .workers import Crew, Made, Report, here

MAX_TEXT_BYTES = (
    64 * 2**20
)  # ids of one text are made in memory, some 40 bytes for each of its bytes, without spaces 300
MAX_STREAM_BYTES = 2**40  # of a clip or a sound
SHARD_CLIPS = 16  # contents of a shard of clips: fewer, because a kill costs what a shard would have held
PathLike = str | os.PathLike[str]


def tokenize_texts(
    files: Mapping[str, Path],
    out: PathLike,
    tokenizer: ByteTokenizer,
    *,
    tokenizer_name: str = "",
    crew: Crew = here,
    show_progress: bool = True,
) -> Summary:
    """Tokenize text files into `out/text`: one row of ids per file, whatever bytes it holds.

    Raises:
        ValueError: `out/text` holds other files' or other tokenizers' ids.
    """
    spec = _spec("text", tokenizer, tokenizer_name, {})
    encode = TextEncoder(tokenizer)
    return _tokenize(files, ShardWriter(Path(out) / "text", spec), encode, MAX_TEXT_BYTES, crew, show_progress)


def tokenize_images(
    files: Mapping[str, Path],
    out: PathLike,
    tokenizer: MediaTokenizer,
    *,
    tokenizer_name: str = "",
    size: int | None = None,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    device: torch.device | str = "cpu",
    crew: Crew = here,
    show_progress: bool = True,
) -> Summary:
    """Tokenize pictures into `out/image`, at their own size or as squares of `size` pixels.

    One picture at a time, so that its ids depend on nothing but itself. `tokenizer` is on `device` already.

    Raises:
        ValueError: `out/image` holds other files' or other tokenizers' ids.
    """
    preprocessing = {
        "background": list(background),
        "square": size,
        "filter": None if size is None else media.RESIZE_FILTER.name.lower(),
    }
    spec = _spec("image", tokenizer, tokenizer_name, preprocessing)
    encode = ImageEncoder(tokenizer, size, background, max_pixels, device)
    return _tokenize(files, ShardWriter(Path(out) / "image", spec), encode, MAX_BYTES, crew, show_progress)


def tokenize_videos(
    files: Mapping[str, Path],
    out: PathLike,
    tokenizer: StreamingTokenizer,
    *,
    tokenizer_name: str = "",
    fps: float | None = None,
    size: int | None = None,
    background: tuple[int, int, int] = WHITE,
    device: torch.device | str = "cpu",
    crew: Crew = here,
    show_progress: bool = True,
) -> Summary:
    """Tokenize clips of any length into `out/video`, at their own rate and size, or at `fps` as squares of `size`.

    Reading, the tokenizer and writing overlap, and memory does not grow with length but for the ids themselves.
    `tokenizer` is on `device` already.

    Raises:
        ValueError: `out/video` holds other files' or other tokenizers' ids, or `fps` is out of range.
    """
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps must be more than 0 and at most {MAX_FPS}, got {fps}")
    preprocessing = {
        "background": list(background),
        "square": size,
        "filter": None if size is None else "bicubic",
        "fps": None if fps is None else float(fps),  # 5 and 5.0 are one rate and must be one JSON
    }
    spec = _spec("video", tokenizer, tokenizer_name, preprocessing)
    encode = VideoEncoder(tokenizer, fps, size, background, device)
    writer = ShardWriter(Path(out) / "video", spec, shard_sources=SHARD_CLIPS)
    return _tokenize(files, writer, encode, MAX_STREAM_BYTES, crew, show_progress)


def tokenize_sounds(
    files: Mapping[str, Path],
    out: PathLike,
    tokenizer: SoundTokenizer,
    *,
    tokenizer_name: str = "",
    device: torch.device | str = "cpu",
    crew: Crew = here,
    show_progress: bool = True,
) -> Summary:
    """Tokenize sounds of any length, and sound tracks of videos, into `out/audio`: one channel at the tokenizer's rate.

    Reading, the tokenizer and writing overlap, and memory does not grow with length but for the ids themselves. How
    loud each sound is, and whether it was clipped, stands beside its ids. `tokenizer` is on `device` already.

    Raises:
        ValueError: `out/audio` holds other files' or other tokenizers' ids.
    """
    preprocessing = {"sample_rate": tokenizer.sample_rate, "channels": "mean", "resampler": resample.NAME}
    spec = _spec("audio", tokenizer, tokenizer_name, preprocessing)
    writer = ShardWriter(Path(out) / "audio", spec)
    return _tokenize(files, writer, AudioEncoder(tokenizer, device), MAX_STREAM_BYTES, crew, show_progress)


def _spec(
    modality: str, tokenizer: ByteTokenizer | MediaTokenizer, name: str, preprocessing: Mapping[str, object]
) -> ShardSpec:
    return ShardSpec(
        modality=modality,
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        preprocessing=preprocessing,
        tokenizer=name,
    )


def _tokenize(
    files: Mapping[str, Path],
    writer: ShardWriter,
    encode: Callable[[Source, Report], Tokens],
    max_bytes: int,
    crew: Crew,
    show_progress: bool,
) -> Summary:
    sources: list[Source] = []
    failed: dict[str, str] = {}
    with Progress("reading", len(files), enabled=show_progress) as progress:
        for name, path in files.items():
            try:
                sources.append(_source(name, path, max_bytes))
            except MediaError as error:
                failed[name] = error.reason
                progress.note(f"skipped {error}")
            progress.advance()
    with crew(_Guarded(encode)) as work:  # before the folder is locked: a process of the crew must not hold the lock

        def encode_all(missing: list[Source]) -> Iterator[Made]:
            total = sum(source.num_bytes for source in missing)
            with Progress("tokenizing", total, unit=(1e6, "MB"), enabled=show_progress) as progress:
                for made in work(missing, progress.advance):
                    if isinstance(made, MediaError):
                        progress.note(f"skipped {made}")
                    yield made

        return writer.write(sources, encode_all, failed=failed)


def _source(name: str, path: Path, max_bytes: int) -> Source:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise MediaError(str(path), "not a regular file")
        if found.st_size > max_bytes:
            raise MediaError(str(path), f"{found.st_size:,} bytes are more than {max_bytes:,}; split or shrink it")
        return Source(name, path, sha256_of_file(path), found.st_size)
    except OSError as error:
        raise MediaError(str(path), error.strerror or error) from error


class _Guarded:
    """The task of a crew: whatever one file can cause is a MediaError that names it, and all its bytes get reported."""

    def __init__(self, encode: Callable[[Source, Report], Tokens]):
        self.encode = encode

    def __call__(self, source: Source, report: Report) -> Made:
        left = float(source.num_bytes)

        def report_some(done: float) -> None:
            nonlocal left
            left -= (done := min(done, left))
            report(done)

        try:
            return self.encode(source, report_some)
        except MediaError as error:
            return error
        except (ValueError, OSError) as error:
            return MediaError(str(source.path), error)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                return MediaError(str(source.path), "does not fit into memory; shrink it, or tokenize squares")
            raise
        finally:
            report(left)
