"""Captioned pictures as people keep them: folders, Hugging Face imagefolder, WebDataset tar shards.

- A folder, searched recursively: `name.png` with an optional `name.txt` (caption) and `name.json` (details) beside it.
- `metadata.jsonl` in any of its folders: one object per line with `file_name` and `text` or `caption`; the rest of the
  object is details (https://huggingface.co/docs/datasets/image_dataset).
- A `.tar`, or a folder of them: members `key.png`, `key.txt`, `key.json` of one key follow each other
  (https://github.com/webdataset/webdataset). Headers are read once; a member is read by its offset, never extracted.

Every form becomes one sorted list of entries that say where bytes lie; bytes are read on access, so an entry is small,
pickles, and serves worker processes. What is wrong with one example is a MediaError on access; what is wrong with the
data set as a whole is an error on opening.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, overload

from PIL import Image

from .files import path_below, walk
from .media import MAX_BYTES, MAX_PIXELS, SUFFIXES, WHITE, MediaError, read_bytes, read_image

MAX_TEXT_BYTES = 2**20  # of one caption or one JSON sidecar
_BLOCK = 512  # bytes of a tar header


@dataclass(frozen=True)
class Example:
    key: str  # path below the folder, or the key of a WebDataset
    caption: str | None
    image: Image.Image  # RGB at its own size
    extra: dict[str, Any] = field(default_factory=dict)  # JSON sidecar, or the rest of a line of metadata.jsonl


@dataclass(frozen=True, slots=True)
class Piece:
    """Where bytes lie: a whole file, or `size` bytes at `offset` of a tar."""

    path: Path
    member: str = ""
    offset: int = 0
    size: int | None = None

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self, max_bytes: int) -> bytes:
        if self.size is None:
            return read_bytes(self.path, max_bytes)
        if self.size > max_bytes:
            raise MediaError(self.name, f"{self.size:,} bytes are more than {max_bytes:,}")
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise MediaError(self.name, error.strerror or error) from error
        if len(data) < self.size:
            raise MediaError(self.name, f"cut off: {len(data):,} of {self.size:,} bytes are there")
        return data


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    image: Piece  # the picture; in data/clip_frames.py, the clip
    caption: Piece | str | None = None
    extra: Piece | dict[str, Any] | None = None


class Examples(Sequence[Example]):
    """The examples of `open_examples`, read on access; `caption(i)` reads no pixels.

    Raises:
        MediaError: on access, when this example is broken or beyond a limit.
    """

    def __init__(
        self, entries: Sequence[Entry], background: tuple[int, int, int] = WHITE, max_pixels: int = MAX_PIXELS
    ):
        self.entries = entries
        self.background = background
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Examples": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Examples(self.entries[index], self.background, self.max_pixels)
        entry = self.entries[index]
        image = read_image(
            entry.image.read(MAX_BYTES), background=self.background, max_pixels=self.max_pixels, name=entry.image.name
        )
        return Example(entry.key, self.caption(index), image, self.extra(index))

    def caption(self, index: int) -> str | None:
        """The caption alone: the text file, the line of metadata.jsonl, or `caption` or `text` of the JSON sidecar.

        Raises:
            MediaError: it cannot be read, or is no Unicode.
        """
        caption = self._caption(index)
        try:
            (caption or "").encode()
        except UnicodeEncodeError as error:  # JSON can tell half a character
            name = self.entries[index].image.name
            raise MediaError(name, f"its caption is no Unicode: half a character at {error.start}") from None
        return caption

    def _caption(self, index: int) -> str | None:
        entry = self.entries[index]
        if isinstance(entry.caption, Piece):
            return _read_text(entry.caption).strip()
        if entry.caption is None and isinstance(entry.extra, Piece):
            row = _read_json(entry.extra)
            found = row.get("caption", row.get("text"))
            return found if isinstance(found, str) else None
        return entry.caption

    def extra(self, index: int) -> dict[str, Any]:
        """The details alone: the JSON sidecar, or the rest of a line of metadata.jsonl."""
        extra = self.entries[index].extra
        return extra if isinstance(extra, dict) else _read_json(extra)


class NothingFoundError(ValueError):
    """A folder or tar holds no file of the kind that was looked for."""


def open_examples(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
) -> Examples:
    """Open a folder of pictures, a folder of tars, a tar, or several of these, in sorted order.

    Raises:
        ValueError: as `find_entries`.
    """
    return Examples(find_entries(paths, "pictures", SUFFIXES), background, max_pixels)


def find_entries(
    paths: str | os.PathLike | Sequence[str | os.PathLike], what: str, suffixes: Sequence[str]
) -> list[Entry]:
    """The entries of all files with one of `suffixes` in folders and tars; `what` is their name in messages.

    Raises:
        ValueError: a path is missing or of another kind, or metadata.jsonl breaks its form.
        NothingFoundError: no file has such a suffix.
        MediaError: a tar is damaged or compressed.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    entries: list[Entry] = []
    for path in map(Path, several):
        if path.is_dir():
            entries += _folder_entries(path, suffixes)
        elif path.is_file() and path.suffix.lower() == ".tar":
            entries += _tar_entries(path, suffixes)
        else:
            raise ValueError(
                f"{path}: expected a folder of {what} or a .tar of WebDataset, found neither; check the path"
            )
    if not entries:
        shown = ", ".join(map(str, several))
        raise NothingFoundError(
            f"{shown}: no {what} found ({' '.join(suffixes)}); point at a folder or .tar that holds some"
        )
    return entries


def _folder_entries(root: Path, suffixes: Sequence[str]) -> list[Entry]:
    entries: dict[str, Entry] = {}
    listed: dict[str, Entry] = {}
    tars: list[Path] = []
    for here, files in walk(root):
        names = set(files)
        for name in files:
            path = here / name
            if path.suffix.lower() == ".tar":
                tars.append(path)
            elif path.suffix.lower() in suffixes:
                beside = {
                    kind: Piece(path.with_suffix(kind)) for kind in (".txt", ".json") if path.stem + kind in names
                }
                key = path.relative_to(root).as_posix()
                entries[key] = Entry(key, Piece(path), beside.get(".txt"), beside.get(".json"))
        if "metadata.jsonl" in names:
            rows = _metadata_entries(here / "metadata.jsonl", root)
            listed |= {entry.key: entry for entry in rows if entry.image.path.suffix.lower() in suffixes}
    entries |= listed  # what metadata.jsonl says of a picture goes before what lies beside it
    found = [entries[key] for key in sorted(entries)]
    for path in sorted(tars, key=lambda path: path.relative_to(root).as_posix()):
        found += _tar_entries(path, suffixes)
    return found


def _metadata_entries(path: Path, root: Path) -> Iterator[Entry]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: must be one JSON object per line ({error})") from None
            name = row.pop("file_name", None) if isinstance(row, dict) else None
            if not isinstance(name, str) or not name:
                raise ValueError(f"{path}, line {number}: must be an object with a string file_name")
            try:
                image = path_below(path.parent, name)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            caption = row.pop("caption" if "caption" in row else "text", None)
            if caption is not None and not isinstance(caption, str):
                raise ValueError(f"{path}, line {number}: the caption must be a string, got {type(caption).__name__}")
            beside = image.with_suffix(".txt")
            text = caption.strip() if caption is not None else Piece(beside) if beside.is_file() else None
            yield Entry(image.relative_to(root).as_posix(), Piece(image), text, row)


def _tar_entries(path: Path, suffixes: Sequence[str]) -> list[Entry]:
    entries = []
    for key, group in groupby(_tar_members(path), key=lambda piece: _split_key(piece.member)[0]):
        pieces = {_split_key(piece.member)[1]: piece for piece in group}
        media = [piece for kind, piece in pieces.items() if f".{kind.rsplit('.')[-1]}" in suffixes]
        if media:
            image = min(media, key=lambda piece: piece.member.count("."))  # key.png before key.mask.png
            entries.append(Entry(key, image, pieces.get("txt"), pieces.get("json")))
    return entries


def _tar_members(path: Path) -> Iterator[Piece]:
    """The regular files of a tar, from its headers alone; links, devices and sparse files are passed over."""
    count, end = 0, 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                count += 1
                name = member.name.removeprefix("./")
                hidden = name.rpartition("/")[2].startswith(".")
                if member.isreg() and not member.issparse() and not hidden:
                    yield Piece(path, name, member.offset_data, member.size)
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        damaged = f"damaged after {count} members ({error}); make the tar again"
        reason = damaged if count else f"not an uncompressed tar ({error}); if it is compressed, decompress it first"
        raise MediaError(str(path), reason) from error
    with open(path, "rb") as file:  # tarfile takes a damaged header for the end; the end is zeros
        file.seek(end)
        if any(file.read(_BLOCK)):
            raise MediaError(str(path), f"damaged after {count} members; make the tar again")


def _split_key(member: str) -> tuple[str, str]:
    """`dir/key.seg.png` -> (`dir/key`, `seg.png`): the key ends at the first dot of the last part."""
    folder, slash, name = member.rpartition("/")
    stem, _, kind = name.partition(".")
    return folder + slash + stem, kind.lower()


def _read_text(piece: Piece) -> str:
    try:
        return piece.read(MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(piece.name, f"not UTF-8 ({error.reason} at byte {error.start})") from error


def _read_json(piece: Piece | None) -> dict[str, Any]:
    if piece is None:
        return {}
    try:
        value = json.loads(_read_text(piece))
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise MediaError(piece.name, f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise MediaError(piece.name, f"must hold a JSON object, found {type(value).__name__}")
    return value
