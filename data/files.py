"""Files written so that a name appears only with all its bytes, names that stay in their folder, sums of contents.

A reader, or a run started again after a kill, meets the old file or the new one, never half of one.
"""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

MAX_JSON_BYTES = 64 << 20


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path`, which appears with all its bytes or not at all."""
    with appears_whole(path) as unfinished:
        unfinished.write_bytes(data)


@contextmanager
def appears_whole(path: str | os.PathLike) -> Iterator[Path]:
    """`.NAME.RANDOM.tmp` beside `path`, to be written in the block; at its end flushed to the disk and renamed.

    If the block fails, the file is removed, and what stood at `path` still stands there. Several writers of one path
    have a file each, and the last one's stays. A long NAME is shortened.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system lets folders be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, some network disks
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def sha256_of_file(path: str | os.PathLike, block: int = 1 << 20) -> str:
    """Hex sha256 of a file of any size, read in blocks of `block` bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while data := file.read(block):
            digest.update(data)
    return digest.hexdigest()


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object that a file of at most `MAX_JSON_BYTES` holds.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is larger, or holds something else.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{path} must have at most {MAX_JSON_BYTES} bytes of JSON, got more; save it again")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is broken ({type(error).__name__}: {error}); save it again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is broken (it must hold an object, got a {type(value).__name__}); save it again")
    return value


def path_below(folder: Path, name: str) -> Path:
    """`folder` / `name` for a name that came from outside, with "/" between its parts.

    Raises:
        ValueError: the name would leave `folder`, on this system or another, or names nothing.
    """
    inner = PurePosixPath(name)
    leaves = inner.is_absolute() or ".." in inner.parts or "\\" in name or PureWindowsPath(name).drive or "\0" in name
    if leaves or not inner.name:
        raise ValueError(f"a file name must stay below its folder, got {name!r}; correct it")
    return folder / inner


def path_inside(folder: Path, name: str) -> Path:
    """As `path_below`, and no link on the way leads out of `folder` either."""
    path = path_below(folder, name)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path}: a link leads out of {folder}; remove it")
    return path


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """`folder` and every folder below it, with the names of the files there; hidden folders and files are passed over.

    Raises:
        OSError: a folder cannot be read: what lies in it would be missing, and nobody would know.
    """

    def refuse(error: OSError) -> None:
        raise error

    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(here), [name for name in files if not name.startswith(".")]


def refuse_to_replace(path: Path) -> None:
    """
    Raises:
        ValueError: there is a file at `path`, which may be somebody's original.
    """
    if path.exists():
        raise ValueError(f"{path} is there already; take another folder, or overwrite it")


def json_line(value: Any, indent: int | None = None) -> bytes:
    """A value as a line of JSON. Letters stay letters; what is no Unicode, as in names of old files, is escaped."""
    try:
        return (json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value, indent=indent) + "\n").encode()


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a value as JSON for people to read, too: indented, letters as in `json_line`; as `write_atomically`."""
    write_atomically(path, json_line(value, indent=1))


def target_names(names: Iterable[str], suffix: str | None) -> dict[str, str]:
    """Name of a file that is read -> name of the file to write; with `suffix`, that takes the place of its own.

    Where two names would become one, all keep their own suffix before the new one.
    """
    if suffix is None:
        return {name: name for name in names}
    plain = {name: str(PurePosixPath(name).with_suffix(suffix)) if PurePosixPath(name).name else name for name in names}
    return plain if len({*plain.values()}) == len(plain) else {name: name + suffix for name in plain}


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` against another process that would write to it; the system lets go of it when we die.

    Raises:
        ValueError: another process holds it.
    """
    if sys.platform == "win32":  # no such lock there: two runs into one folder are the user's to avoid
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another run is writing there; wait for it or choose another folder") from None
        except OSError:  # a disk that cannot lock, as some network disks
            pass
        yield
    finally:
        os.close(descriptor)
