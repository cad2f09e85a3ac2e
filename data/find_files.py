"""Which files are meant: those given by name, and those in folders given, each of one modality.

A suffix tells the modality, but .gif and .webp hold pictures and clips alike, and .mp4, .mov, .webm and .mkv clips and
sounds without a picture: there the content does.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .audio import is_sound_only
from .clip_frames import CLIP_SUFFIXES
from .files import walk
from .media import SUFFIXES, is_animated

PathLike = str | os.PathLike[str]

SOUND_SUFFIXES = tuple(
    ".wav .flac .aif .aiff .aifc .mp3 .ogg .oga .opus .m4a .m4b .aac .caf .au .w64 .weba .mka".split()
)
SOUND_OR_VIDEO = (".mp4", ".mov", ".webm", ".mkv")
SUFFIXES_OF = {
    "text": (".txt", ".text", ".md"),
    "image": SUFFIXES,
    "video": (*CLIP_SUFFIXES, ".gif", ".webp"),
    "audio": (*SOUND_SUFFIXES, *SOUND_OR_VIDEO),
}


def modality_of(path: Path) -> str | None:
    """What a file holds: a key of `SUFFIXES_OF`, or None where its suffix says nothing."""
    suffix = path.suffix.lower()
    found = [modality for modality, suffixes in SUFFIXES_OF.items() if suffix in suffixes]
    if found == ["image", "video"]:
        return "video" if is_animated(path) else "image"
    if found == ["video", "audio"]:
        return "audio" if is_sound_only(path) else "video"
    return found[0] if found else None


def find_files(paths: Iterable[PathLike], modality: str) -> dict[str, Path]:
    """Name -> path of the files given, whatever they are, and of those of one modality in folders given.

    Names are relative to the deepest folder that holds all that was given, with "/". Hidden files and what links to
    folders are passed over.

    Raises:
        ValueError: a path is neither file nor folder, or nothing was found.
    """
    roots = [Path(os.path.abspath(path)) for path in paths]
    found = {path for path, given in _walk(roots) if given or modality_of(path) == modality}
    return _named(found, roots, SUFFIXES_OF[modality])


def find_ending(paths: Iterable[PathLike], suffix: str) -> dict[str, Path]:
    """As `find_files`, of files that end in `suffix`, such as ".tlp"."""
    roots = [Path(os.path.abspath(path)) for path in paths]
    return _named({path for path, given in _walk(roots) if given or path.suffix.lower() == suffix}, roots, [suffix])


def sort_files(paths: Iterable[PathLike]) -> dict[str, dict[str, Path]]:
    """Modality -> name -> path of all files given and of all in folders given; names as in `find_files`.

    Raises:
        ValueError: as `find_files`; or a file was given whose suffix tells no modality.
    """
    roots = [Path(os.path.abspath(path)) for path in paths]
    modalities: dict[Path, str] = {}
    for path, given in _walk(roots):
        modality = modality_of(path)
        if given and path.suffix.lower() == ".tar":
            raise ValueError(f"{path}: tars are for training; unpack it to tokenize its files")
        if given and modality is None:
            raise ValueError(
                f"{path}: its suffix does not tell what it holds; say it with --modality {' or '.join(SUFFIXES_OF)}"
            )
        if modality is not None:
            modalities[path] = modality
    named = _named(modalities.keys(), roots, sorted({suffix for each in SUFFIXES_OF.values() for suffix in each}))
    return {
        modality: files
        for modality in SUFFIXES_OF
        if (files := {name: path for name, path in named.items() if modalities[path] == modality})
    }


def _walk(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file, and whether it was given itself."""
    for path in paths:
        if path.is_dir():
            for folder, names in walk(path):
                yield from ((folder / name, False) for name in names)
        elif path.is_file():
            yield path, True
        else:
            raise ValueError(f"{path}: no such file or folder; check the path")


def _named(found: Iterable[Path], paths: list[Path], suffixes: Iterable[str]) -> dict[str, Path]:
    found = sorted(found)
    roots = [path if path.is_dir() else path.parent for path in paths]
    if not found:
        shown = ", ".join(map(str, roots)) or "no path was given"
        raise ValueError(f"nothing to read: no file ending in {' '.join(suffixes)} ({shown})")
    root = Path(os.path.commonpath(roots))
    return {path.relative_to(root).as_posix(): path for path in found}
