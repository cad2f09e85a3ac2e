"""Token shards -> files: texts byte for byte, pictures as PNG, clips as mp4, sounds as wav, of the size they had.

Texts come back as they were unless their tokenizer normalizes. Clips and sounds are decoded as streams, whatever their
length; clips keep their rate, sounds have their tokenizer's, in one channel.
"""

import math
import os
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch

from ..data.files import appears_whole, path_inside, refuse_to_replace, target_names, write_atomically
from ..data.media import MediaError, write_png
from ..data.progress import Progress
from ..data.shard_reader import ShardReader
from ..data.shards import Summary
from ..data.write_audio import write_audio
from ..data.write_video import write_video
from ..tokenizers.protocol import MediaTokenizer
from .media_encoders import ByteTokenizer, SoundTokenizer, StreamingTokenizer, decode_clip, decode_sound
from .out_of_memory import why_left_out

GROUPS = 8  # steps of ids on the time axis of clips that are read at once
SOUND_STEPS = 4096  # likewise, of sounds
SUFFIXES = {
    "text": None,
    "image": ".png",
    "video": ".mp4",
    "audio": ".wav",
}  # modality -> suffix of the files; None: their own
PathLike = str | os.PathLike[str]
Write = Callable[[str, Path], None]  # a content of the shards -> its file


def detokenize(
    folder: PathLike,
    out: PathLike,
    tokenizer: MediaTokenizer | StreamingTokenizer | SoundTokenizer | ByteTokenizer,
    *,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    show_progress: bool = True,
) -> Summary:
    """Turn one folder of shards (see `shard_folders`) back into files below `out`, under their own names.

    Pictures, clips and sounds take the suffix .png, .mp4 or .wav, after their own if two names would become one.
    Whatever cannot be turned back is reported and left out; the summary says so. A file that is there already, which
    may be the original, is kept and reported, unless `overwrite`. `tokenizer` is on `device` already.

    Raises:
        ValueError: no shards there, a modality without files, or ids of another tokenizer.
    """
    reader = ShardReader(Path(folder), tokenizer.fingerprint)
    modality = reader.manifest["modality"]
    if modality not in SUFFIXES:
        raise ValueError(f"{folder}: must hold {', '.join(SUFFIXES)}, got {modality!r}; use a version that knows it")
    write: Write
    if modality == "text":
        write = _text_writer(reader, cast(ByteTokenizer, tokenizer))
    elif modality == "image":
        write = _image_writer(reader, cast(MediaTokenizer, tokenizer), device)
    elif modality == "video":
        write = _video_writer(reader, cast(StreamingTokenizer, tokenizer), device)
    else:
        write = _audio_writer(reader, cast(SoundTokenizer, tokenizer), device)
    targets = target_names(reader.files, SUFFIXES[modality])
    names: dict[str, list[str]] = {}
    for name, content in sorted(reader.files.items()):
        names.setdefault(content, []).append(name)
    summary = Summary()
    with Progress("detokenizing", len(reader.files), enabled=show_progress) as progress:
        for content, copies in names.items():
            first: Path | None = None
            for name in copies:
                try:
                    path = path_inside(Path(out), targets[name])
                    if not overwrite:
                        refuse_to_replace(path)
                    if first is None:
                        write(content, path)
                        first = path
                    else:
                        with appears_whole(path) as temporary:
                            shutil.copyfile(first, temporary)
                    summary.files += 1
                except (ValueError, OSError, MemoryError, RuntimeError) as error:
                    summary.failed[name] = why_left_out(error)
                    progress.note(f"skipped {MediaError(name, summary.failed[name])}")
                progress.advance()
    return summary


def _text_writer(reader: ShardReader, tokenizer: ByteTokenizer) -> Write:
    def write(content: str, path: Path) -> None:
        write_atomically(path, tokenizer.decode_bytes(reader.ids(content).tolist()))

    return write


def _image_writer(reader: ShardReader, tokenizer: MediaTokenizer, device: torch.device | str) -> Write:
    @torch.no_grad()
    def write(content: str, path: Path) -> None:
        size = _size(reader, content, ["size"], 2)
        _check_grid(reader, content, size, tokenizer.grid(size))
        write_png(path, tokenizer.decode(reader.ids(content)[None].to(device), size=size)[0])

    return write


def _video_writer(reader: ShardReader, tokenizer: StreamingTokenizer, device: torch.device | str) -> Write:
    def write(content: str, path: Path) -> None:
        frames, height, width = size = _size(reader, content, ["frames", "size"], 3)
        _check_grid(reader, content, size, tokenizer.grid(size))
        fps = reader.media(content).get("fps")
        if not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
            raise ValueError(f"{reader.folder}: {content[:12]} must have a rate in frames per second, got {fps!r}")
        pieces = reader.parts(content, GROUPS)
        blocks = decode_clip(pieces, (frames, height, width), tokenizer, device)
        write_video(path, blocks, fps)

    return write


def _audio_writer(reader: ShardReader, tokenizer: SoundTokenizer, device: torch.device | str) -> Write:
    def write(content: str, path: Path) -> None:
        size = _size(reader, content, ["samples"], 1)
        _check_grid(reader, content, size, tokenizer.grid(size)[::-1])  # stored with time first
        blocks = decode_sound(reader.parts(content, SOUND_STEPS), size[0], tokenizer, device)
        write_audio(path, blocks, tokenizer.sample_rate)

    return write


def _size(reader: ShardReader, content: str, names: list[str], axes: int) -> tuple[int, ...]:
    """What the manifest says of the size of a content under these names, flat: so many positive numbers."""
    said: list[Any] = [reader.media(content).get(name) for name in names]
    size = list(chain.from_iterable(part if isinstance(part, list) else [part] for part in said))
    if not all(isinstance(side, int) and side > 0 for side in size) or len(size) != axes:
        raise ValueError(f"{reader.folder}: {content[:12]} must have its size in {' and '.join(names)}, got {said}")
    return tuple(size)


def _check_grid(reader: ShardReader, content: str, size: tuple[int, ...], grid: tuple[int, ...]) -> None:
    """Refuse a size that the ids of a content do not have."""
    if tuple(grid) != reader.shape(content):
        raise ValueError(
            f"{reader.folder}: ids {reader.shape(content)} of {content[:12]} are not of media of size {size}"
        )
