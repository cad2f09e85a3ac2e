"""Reading token shards: the ids of any content, whole or a part, and the proof of every sum.

t is the first axis of the ids: time, in clips and in sound.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .files import sha256_of_file
from .shard_format import MANIFEST, read_header, read_ids, read_manifest, read_part, shard_paths


def shard_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders of shards that `tokenize_...` wrote into `folder`: itself, or one per modality below it.

    Raises:
        ValueError: there is none.
    """
    root = Path(folder)
    found = [path.parent for path in (root / MANIFEST, *sorted(root.glob(f"*/{MANIFEST}"))) if path.is_file()]
    if not found:
        raise ValueError(f"{root}: no token shards there; point at a folder that tokenize wrote to its end")
    return found


def holds_shards(folder: str | os.PathLike[str]) -> bool:
    """Whether token shards lie in `folder`, or below it by modality: a manifest with a shard beside it."""
    root = Path(folder)
    manifests = (root / MANIFEST, *root.glob(f"*/{MANIFEST}"))
    return any(manifest.is_file() and shard_paths(manifest.parent) for manifest in manifests)


class ShardReader:
    """The ids of one folder of shards, by content. With `fingerprint`, only ids of that tokenizer.

    Raises:
        ValueError: no manifest, a damaged one, or ids of another tokenizer.
    """

    def __init__(self, folder: Path, fingerprint: str | None = None):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        if fingerprint is not None and fingerprint != self.manifest["fingerprint"]:
            raise ValueError(
                f"{self.folder}: these ids are of tokenizer {self.manifest['tokenizer'] or 'without a name'} "
                f"({self.manifest['fingerprint'][:12]}), got one with fingerprint {fingerprint[:12]}; "
                "load the tokenizer that made them, or tokenize the files again"
            )
        self.files: dict[str, str] = self.manifest["files"]  # name -> content
        self.contents: list[str] = sorted(self.manifest["contents"])

    def __len__(self) -> int:
        return len(self.contents)

    def media(self, content: str) -> dict[str, Any]:
        """What the tokenizing pipeline noted of this content: size, rate, length."""
        return self.manifest["contents"][content]["media"]

    def shape(self, content: str) -> tuple[int, ...]:
        """Of the ids of one content, as the manifest has it."""
        return tuple(self.manifest["contents"][content]["shape"])

    def ids(self, content: str) -> Tensor:
        """Int64 ids of one content, in [0, vocab_size).

        Raises:
            ValueError: the shard is missing or damaged, or does not hold what the manifest says.
        """
        path, shape = self._place(content)
        return self._checked(read_ids(path, [content])[content], shape, path)

    def several(self, contents: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Each of these contents and its int64 ids, shard by shard: opening one for every content costs a millisecond.

        Raises:
            ValueError: as `ids`.
        """
        by_path: dict[Path, list[str]] = {}
        for content in dict.fromkeys(contents):
            by_path.setdefault(self._place(content)[0], []).append(content)
        for path, together in by_path.items():
            for content, ids in read_ids(path, together).items():
                yield content, self._checked(ids, self._place(content)[1], path)

    def part(self, content: str, start: int, end: int) -> Tensor:
        """Int64 ids of one content from step `start` of t to before `end`.

        Raises:
            ValueError: as `ids`.
        """
        path, shape = self._place(content)
        return self._checked(read_part(path, content, slice(start, end)), [end - start, *shape[1:]], path)

    def parts(self, content: str, length: int) -> Iterator[Tensor]:
        """Int64 ids of one content, `length` steps of t after the other: a film need not be in memory at once.

        Raises:
            ValueError: as `ids`.
        """
        steps = self.shape(content)[0]
        for start in range(0, steps, length):
            yield self.part(content, start, min(start + length, steps))

    def _place(self, content: str) -> tuple[Path, list[int]]:
        entry = self.manifest["contents"][content]
        return self.folder / self.manifest["shards"][entry["shard"]]["file"], entry["shape"]

    def _checked(self, ids: np.ndarray, shape: list[int], path: Path) -> Tensor:
        as_listed = ids.dtype == self.manifest["dtype"] and list(ids.shape) == shape
        if not as_listed or (ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.manifest["vocab_size"]):
            raise ValueError(f"{path}: holds ids that are not those of the manifest; tokenize the files again")
        return torch.from_numpy(ids.astype(np.int64))

    def verify(self) -> list[str]:
        """Check every sum and every id: one line for each thing that is wrong, none when all is well."""
        problems = []
        expected: dict[int, set[str]] = {number: set() for number in range(len(self.manifest["shards"]))}
        for content in self.contents:
            expected[self.manifest["contents"][content]["shard"]].add(content)
        for number, shard in enumerate(self.manifest["shards"]):
            path = self.folder / shard["file"]
            if not path.is_file():
                problems.append(f"{path}: missing; tokenize the files again")
            elif path.stat().st_size != shard["bytes"] or sha256_of_file(path) != shard["sha256"]:
                problems.append(f"{path}: its sum is not that of the manifest; tokenize the files again")
            else:
                try:
                    if read_header(path)["media"].keys() != expected[number]:
                        raise ValueError(f"{path}: holds other contents than the manifest says")
                    for content in sorted(expected[number]):
                        self.ids(content)
                except ValueError as error:
                    problems.append(str(error))
        listed = {self.folder / shard["file"] for shard in self.manifest["shards"]}
        strangers = sorted(set(shard_paths(self.folder)) - listed)
        return problems + [f"{path}: not in the manifest; tokenize again to clean up" for path in strangers]


def verify_shards(folder: Path) -> list[str]:
    """`ShardReader.verify`, where a folder that cannot even be opened is one more line."""
    try:
        return ShardReader(folder).verify()
    except ValueError as error:
        return [str(error)]


def verify(folder: str | os.PathLike[str]) -> list[str]:
    """Check every sum of every folder of shards in `folder`: one line per problem, none when all is well."""
    return [problem for shards in shard_folders(folder) for problem in verify_shards(shards)]
