"""Pictures and texts of any size <-> token shards, exactly and resumably; one bad file never stops the others.

`tokenize_images` and `tokenize_texts` write `out/image` and `out/text` (see data/shards.py), so that one `out` can hold
every modality. `detokenize` turns one such folder back: PNG at the size the picture had, texts byte for byte (unless
the tokenizer normalizes). H W pixels, h w grid of ids.
"""

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

import torch
from torch import Tensor

from ..data import media
from ..data.files import path_below, sha256_of_file, write_atomically
from ..data.media import MAX_BYTES, MAX_PIXELS, WHITE, MediaError, fit, read_bytes, read_image, to_tensor, write_png
from ..data.progress import Progress
from ..data.shard_format import MANIFEST, ShardSpec, sha256
from ..data.shards import ShardReader, ShardWriter, Source, Summary, Tokens, verify_shards
from ..tokenizers.protocol import MediaTokenizer

TEXT_SUFFIXES = (".txt", ".text", ".md")
MAX_TEXT_BYTES = 64 * 2**20  # ids of one text are made in memory, some 40 bytes for each of its bytes
PathLike = str | os.PathLike[str]


class ByteTokenizer(Protocol):
    """What of a text tokenizer is used here."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_bytes(self, data: bytes) -> list[int]: ...
    def decode_bytes(self, ids: list[int]) -> bytes: ...


def tokenize_images(
    paths: Sequence[PathLike],
    out: PathLike,
    tokenizer: MediaTokenizer,
    *,
    tokenizer_name: str = "",
    size: int | None = None,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    device: torch.device | str = "cpu",
    show_progress: bool = True,
) -> Summary:
    """Tokenize pictures, and those in folders, into `out/image`, at their own size or as squares of `size` pixels.

    One picture at a time, so that its ids depend on nothing but itself. `tokenizer` is on `device` already.

    Raises:
        ValueError: no picture found, a path is missing, or `out/image` holds other files' or other tokenizers' ids.
    """

    def encode(source: Source) -> Tokens:
        image = read_image(_read_unchanged(source), background=background, max_pixels=max_pixels, name=str(source.path))
        image = image if size is None else fit(image, size)
        with torch.no_grad():
            ids = tokenizer.encode(to_tensor(image)[None].to(device))[0]  # (h, w)
        return Tokens(ids, {"size": [image.height, image.width]})

    spec = ShardSpec(
        modality="image",
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        preprocessing={
            "background": list(background),
            "square": size,
            "filter": None if size is None else media.RESIZE_FILTER.name.lower(),
        },
        tokenizer=tokenizer_name,
    )
    return _tokenize(find_files(paths, media.SUFFIXES), Path(out), spec, encode, MAX_BYTES, show_progress)


def tokenize_texts(
    paths: Sequence[PathLike],
    out: PathLike,
    tokenizer: ByteTokenizer,
    *,
    tokenizer_name: str = "",
    show_progress: bool = True,
) -> Summary:
    """Tokenize text files, and those in folders, into `out/text`: one row of ids per file, whatever bytes it holds.

    Raises:
        ValueError: no text found, a path is missing, or `out/text` holds other files' or other tokenizers' ids.
    """

    def encode(source: Source) -> Tokens:
        data = _read_unchanged(source)
        return Tokens(torch.tensor(tokenizer.encode_bytes(data), dtype=torch.long), {"bytes": len(data)})

    spec = ShardSpec(
        modality="text",
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        preprocessing={},
        tokenizer=tokenizer_name,
    )
    return _tokenize(find_files(paths, TEXT_SUFFIXES), Path(out), spec, encode, MAX_TEXT_BYTES, show_progress)


def detokenize(
    folder: PathLike,
    out: PathLike,
    tokenizer: MediaTokenizer | ByteTokenizer,
    *,
    device: torch.device | str = "cpu",
    show_progress: bool = True,
) -> Summary:
    """Turn one folder of shards (see `shard_folders`) back into files below `out`, under their own names.

    Pictures take the suffix .png, after their own if two names would become one. Whatever cannot be turned back is
    reported and left out; the summary says so.

    Raises:
        ValueError: no shards there, a modality that is not pictures or texts, or ids of another tokenizer.
    """
    reader = ShardReader(Path(folder), tokenizer.fingerprint)
    modality = reader.manifest["modality"]
    if modality not in ("image", "text"):
        raise ValueError(f"{folder}: must hold pictures or texts, got {modality!r}; use a version that knows it")
    targets = _targets(reader.files, ".png" if modality == "image" else None)
    names: dict[str, list[str]] = {}
    for name, content in sorted(reader.files.items()):
        names.setdefault(content, []).append(name)
    summary = Summary()
    with Progress("detokenizing", len(names), enabled=show_progress) as progress:
        for content, copies in names.items():
            try:
                made: Tensor | bytes
                if modality == "image":
                    made = _decode_image(reader, content, cast(MediaTokenizer, tokenizer), device)
                else:
                    made = cast(ByteTokenizer, tokenizer).decode_bytes(reader.ids(content).tolist())
            except ValueError as error:
                _note_failures(summary, copies, error, progress)
            else:
                for name in copies:
                    _write_below(Path(out), name, targets, made, summary, progress)
            progress.advance()
    return summary


def shard_folders(folder: PathLike) -> list[Path]:
    """The folders of shards that `tokenize_...` wrote into `folder`: itself, or one per modality below it.

    Raises:
        ValueError: there is none.
    """
    root = Path(folder)
    found = [path.parent for path in (root / MANIFEST, *sorted(root.glob(f"*/{MANIFEST}"))) if path.is_file()]
    if not found:
        raise ValueError(f"{root}: no token shards there; point at a folder that tokenize wrote to its end")
    return found


def verify(folder: PathLike) -> list[str]:
    """Check every sum of every folder of shards in `folder`: one line per problem, none when all is well."""
    return [problem for shards in shard_folders(folder) for problem in verify_shards(shards)]


def find_files(paths: Iterable[PathLike], suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Name -> path of the files given, whatever their suffix, and of those with one of `suffixes` in folders given.

    Names are relative to the deepest folder that holds all that was given, with "/". Hidden files and what links to
    folders are passed over.

    Raises:
        ValueError: a path is neither file nor folder, or nothing was found.
    """
    found: set[Path] = set()
    roots: list[Path] = []
    for path in (Path(os.path.abspath(path)) for path in paths):
        if path.is_dir():
            roots.append(path)
            for folder, folders, files in os.walk(path):
                folders[:] = [name for name in folders if not name.startswith(".")]
                here = [Path(folder, name) for name in files if not name.startswith(".")]
                found.update(file for file in here if file.suffix.lower() in suffixes)
        elif path.is_file():
            roots.append(path.parent)
            found.add(path)
        else:
            raise ValueError(f"{path}: no such file or folder; check the path")
    if not found:
        shown = ", ".join(map(str, roots)) or "no path was given"
        raise ValueError(f"nothing to tokenize: no file ending in {' '.join(suffixes)} ({shown})")
    root = Path(os.path.commonpath(roots))
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def _tokenize(
    files: dict[str, Path],
    out: Path,
    spec: ShardSpec,
    encode: Callable[[Source], Tokens],
    max_bytes: int,
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
    with Progress("tokenizing", len({source.sha256 for source in sources}), enabled=show_progress) as progress:

        def on_content(error: MediaError | None) -> None:
            if error is not None:
                progress.note(f"skipped {error}")
            progress.advance()

        writer = ShardWriter(out / spec.modality, spec)
        return writer.write(sources, lambda source: _one_line(source, encode), failed=failed, on_content=on_content)


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


def _read_unchanged(source: Source) -> bytes:
    data = read_bytes(source.path)
    if sha256(data) != source.sha256:
        raise MediaError(str(source.path), "changed while it was being read; run again")
    return data


def _one_line(source: Source, encode: Callable[[Source], Tokens]) -> Tokens:
    """`encode`, where whatever one file can cause is a MediaError that names it."""
    try:
        return encode(source)
    except MediaError:
        raise
    except ValueError as error:
        raise MediaError(str(source.path), error) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in str(error):  # the CPU's has no type
            raise MediaError(str(source.path), "does not fit into memory; shrink it or tokenize squares") from error
        raise


def _decode_image(reader: ShardReader, content: str, tokenizer: MediaTokenizer, device: torch.device | str) -> Tensor:
    ids, size = reader.ids(content), reader.media(content).get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"{reader.folder}: {content[:12]} must have a size of height and width, got {size!r}")
    if tuple(tokenizer.grid((size[0], size[1]))) != tuple(ids.shape):
        raise ValueError(f"{reader.folder}: ids {tuple(ids.shape)} of {content[:12]} are not a picture of size {size}")
    with torch.no_grad():
        return tokenizer.decode(ids[None].to(device), size=(size[0], size[1]))[0]  # (3, H, W)


def _targets(names: Iterable[str], suffix: str | None) -> dict[str, str]:
    """Name in the manifest -> name of the file to write; with `suffix`, that takes the place of its own.

    Where two names would become one, all keep their own suffix before the new one.
    """
    if suffix is None:
        return {name: name for name in names}
    plain = {name: str(PurePosixPath(name).with_suffix(suffix)) if PurePosixPath(name).name else name for name in names}
    return plain if len({*plain.values()}) == len(plain) else {name: name + suffix for name in plain}


def _write_below(
    out: Path, name: str, targets: dict[str, str], made: Tensor | bytes, summary: Summary, progress: Progress
) -> None:
    try:
        path = path_below(out, targets[name])
        if not path.parent.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"{path}: a link leads out of {out}; remove it")
        if isinstance(made, bytes):
            write_atomically(path, made)
        else:
            write_png(path, made)
    except (ValueError, OSError) as error:
        _note_failures(summary, [name], error, progress)
    else:
        summary.files += 1


def _note_failures(summary: Summary, names: list[str], error: Exception, progress: Progress) -> None:
    reason = " ".join(str(error).split())
    summary.failed |= dict.fromkeys(names, reason)
    for name in names:
        progress.note(f"skipped {MediaError(name, reason)}")
