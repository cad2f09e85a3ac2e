"""Token shards -> files: texts byte for byte, pictures as PNG, clips as mp4, at the size, rate and length they had.

Texts come back as they were unless their tokenizer normalizes. Clips are decoded as a stream, whatever their length.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, cast

import torch

from ..data.files import appears_whole, path_below, write_atomically
from ..data.media import MediaError, write_png
from ..data.progress import Progress
from ..data.shard_reader import ShardReader
from ..data.shards import Summary
from ..data.write_video import write_video
from ..tokenizers.protocol import MediaTokenizer
from .media_encoders import ByteTokenizer, StreamingTokenizer, decode_clip

GROUPS = 8  # steps of ids on the time axis that are read at once
SUFFIXES = {"text": None, "image": ".png", "video": ".mp4"}  # modality -> suffix of the files; None: their own
PathLike = str | os.PathLike[str]
Write = Callable[[str, Path], None]  # a content of the shards -> its file


def detokenize(
    folder: PathLike,
    out: PathLike,
    tokenizer: MediaTokenizer | StreamingTokenizer | ByteTokenizer,
    *,
    device: torch.device | str = "cpu",
    show_progress: bool = True,
) -> Summary:
    """Turn one folder of shards (see `shard_folders`) back into files below `out`, under their own names.

    Pictures and clips take the suffix .png or .mp4, after their own if two names would become one. Whatever cannot be
    turned back is reported and left out; the summary says so. `tokenizer` is on `device` already.

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
    else:
        write = _video_writer(reader, cast(StreamingTokenizer, tokenizer), device)
    targets = _targets(reader.files, SUFFIXES[modality])
    names: dict[str, list[str]] = {}
    for name, content in sorted(reader.files.items()):
        names.setdefault(content, []).append(name)
    summary = Summary()
    with Progress("detokenizing", len(reader.files), enabled=show_progress) as progress:
        for content, copies in names.items():
            first: Path | None = None
            for name in copies:
                try:
                    path = _inside(Path(out), targets[name])
                    if first is None:
                        write(content, path)
                        first = path
                    else:
                        with appears_whole(path) as temporary:
                            shutil.copyfile(first, temporary)
                    summary.files += 1
                except (ValueError, OSError) as error:
                    summary.failed[name] = " ".join(str(error).split())
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
        size = _size(reader, content, tokenizer, ["size"])
        write_png(path, tokenizer.decode(reader.ids(content)[None].to(device), size=size)[0])

    return write


def _video_writer(reader: ShardReader, tokenizer: StreamingTokenizer, device: torch.device | str) -> Write:
    def write(content: str, path: Path) -> None:
        frames, height, width = _size(reader, content, tokenizer, ["frames", "size"])
        fps = reader.media(content).get("fps")
        if not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
            raise ValueError(f"{reader.folder}: {content[:12]} must have a rate in frames per second, got {fps!r}")
        pieces = reader.parts(content, GROUPS)
        blocks = decode_clip(pieces, (frames, height, width), tokenizer, device)
        write_video(path, blocks, fps)

    return write


def _size(reader: ShardReader, content: str, tokenizer: MediaTokenizer, names: list[str]) -> tuple[int, ...]:
    """What the manifest says of the size of a content under these names, flat; of its ids, if it speaks the truth."""
    said: list[Any] = [reader.media(content).get(name) for name in names]
    size = list(chain.from_iterable(part if isinstance(part, list) else [part] for part in said))
    if not all(isinstance(side, int) and side > 0 for side in size) or len(size) != 1 + len(names):
        raise ValueError(f"{reader.folder}: {content[:12]} must have its size in {' and '.join(names)}, got {said}")
    shape = reader.shape(content)
    if tuple(tokenizer.grid(tuple(size))) != shape:
        raise ValueError(f"{reader.folder}: ids {shape} of {content[:12]} are not of media of size {size}")
    return tuple(size)


def _targets(names: Iterable[str], suffix: str | None) -> dict[str, str]:
    """Name in the manifest -> name of the file to write; with `suffix`, that takes the place of its own.

    Where two names would become one, all keep their own suffix before the new one.
    """
    if suffix is None:
        return {name: name for name in names}
    plain = {name: str(PurePosixPath(name).with_suffix(suffix)) if PurePosixPath(name).name else name for name in names}
    return plain if len({*plain.values()}) == len(plain) else {name: name + suffix for name in plain}


def _inside(out: Path, name: str) -> Path:
    path = path_below(out, name)
    if not path.parent.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"{path}: a link leads out of {out}; remove it")
    return path
