"""Token shards: ids of many files in safetensors beside a JSON manifest that says whose they are and proves each sum.

A folder of shards is a pure function of its inputs, the tokenizer and the preprocessing. Inputs are known by their
content: equal files are tokenized once, the contents are cut into shards in the order of their sha256, and a shard is
named after the contents it is meant to hold. So a run that was killed anywhere and started again, or one that found
more files than the last, takes what is there, does what is missing, and ends with the bytes of an uninterrupted run.

    manifest.json                       written last; replaced in one step
    shard-0123456789abcdef.safetensors  one tensor of ids per content, named by its sha256

Ids under another tokenizer fingerprint or another preprocessing are refused, in writing and in reading.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from .files import only_writer, sha256_of_file, write_atomically
from .media import MediaError
from .shard_format import (
    FORMAT,
    MANIFEST,
    ShardSpec,
    canonical,
    read_header,
    read_ids,
    read_manifest,
    refuse_others,
    sha256,
    shard_paths,
    sum_of,
)

SHARD_SOURCES = 256  # contents per shard: what a kill can cost, and what one file holds
SHARD_BYTES = 256 * 2**20  # of sources per shard, for inputs as long as films


@dataclass(frozen=True)
class Source:
    """One input file."""

    name: str  # in the manifest: the path below what the user gave, with "/"
    path: Path
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Tokens:
    """Ids of one content, and what it takes to turn them back: its size, rate, length."""

    ids: np.ndarray  # integers, any shape
    media: dict[str, Any] = field(default_factory=dict)  # JSON values


@dataclass
class Summary:
    """What became of the inputs of one run."""

    tokenized: int = 0  # contents done by this run
    reused: int = 0  # contents that were there already
    files: int = 0  # names that have ids now
    failed: dict[str, str] = field(default_factory=dict)  # name -> reason


_Stored = tuple[np.ndarray, dict[str, Any]]  # ids as they lie in a shard, and their media


class ShardWriter:
    """Writes the shards of one modality into `folder`."""

    def __init__(self, folder: Path, spec: ShardSpec, shard_sources: int = SHARD_SOURCES):
        self.folder = Path(folder)
        self.spec = spec
        self.shard_sources = shard_sources

    def write(
        self,
        sources: Sequence[Source],
        encode_all: Callable[[list[Source]], Iterator[Tokens | MediaError]],
        *,
        failed: Mapping[str, str] | None = None,
    ) -> Summary:
        """Make the folder hold exactly the ids of `sources`.

        `encode_all` gets one source for each content that has no ids yet, and gives tokens for each in the same order,
        or the error by which that content is skipped. A shard is written as soon as its tokens are there. `failed` are
        inputs that never became sources, name -> reason, recorded with the others; what cannot be read this time, such
        as a disk that is not mounted, keeps the ids that it has.

        Raises:
            ValueError: the folder holds ids of another tokenizer or preprocessing, or of files not among `sources`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.folder):
            summary = Summary(failed=dict(failed or {}))
            self._refuse_to_lose({s.name for s in sources} | summary.failed.keys(), {s.sha256 for s in sources})
            for leftover in (*self.folder.glob(".shard-*.tmp"), *self.folder.glob(f".{MANIFEST}.*.tmp")):
                leftover.unlink()  # of a run that was killed while it wrote
            there = self._shards_there()
            have = {content: path for path, contents in there.items() for content in contents}
            kept = [source for source in self._sources_of(summary.failed) if source.sha256 in have]
            sources = [*sources, *kept]
            groups = list(_groups(sources, self.shard_sources))
            made = encode_all([source for group in groups for source in group if source.sha256 not in have])
            reasons: dict[str, str] = {}
            shards: list[Path] = []
            for group in groups:
                fresh: dict[str, _Stored] = {}
                for source in group:
                    if source.sha256 not in have:
                        tokens = next(made)
                        if isinstance(tokens, MediaError):
                            reasons[source.sha256] = tokens.reason
                        else:
                            fresh[source.sha256] = self._stored(tokens)
                contents = [source.sha256 for source in group if source.sha256 not in reasons]
                summary.tokenized += len(fresh)
                summary.reused += len(contents) - len(fresh)
                if contents:
                    shards.append(self._path_of(contents))
                    if shards[-1] not in there:
                        self._write_shard(shards[-1], {c: fresh.get(c) or _take(have[c], c) for c in contents})
            good = [source for source in sources if source.sha256 not in reasons]
            summary.files = len(good)
            summary.failed |= {s.name: reasons[s.sha256] for s in sources if s.sha256 in reasons}
            without_ids = summary.failed.keys() - {source.name for source in kept}
            self._write_manifest(shards, good, {name: summary.failed[name] for name in without_ids})
            for outdated in set(shard_paths(self.folder)) - set(shards):
                outdated.unlink()
        return summary

    def _path_of(self, contents: Sequence[str]) -> Path:
        return self.folder / f"shard-{sha256(canonical(contents))[:16]}.safetensors"

    def _refuse_to_lose(self, names: set[str], contents: set[str]) -> None:
        """A file may change under its name or keep its content under another; ids of neither would be deleted."""
        if not (self.folder / MANIFEST).exists():
            return
        manifest = read_manifest(self.folder)
        refuse_others(self.spec.identity, manifest, self.folder)
        if lost := sorted(n for n, content in manifest["files"].items() if n not in names and content not in contents):
            raise ValueError(
                f"{self.folder}: holds ids of {len(lost):,} files that are not among these inputs ({lost[0]!r}); "
                "give all inputs together, or choose another folder"
            )

    def _sources_of(self, names: Iterable[str]) -> list[Source]:
        """What the manifest knows of files that cannot be read: enough to keep their ids, not to make them."""
        if not (self.folder / MANIFEST).exists():
            return []
        manifest = read_manifest(self.folder)
        known = ((name, manifest["files"][name]) for name in names if name in manifest["files"])
        return [Source(n, Path(n), content, manifest["contents"][content]["source_bytes"]) for n, content in known]

    def _shards_there(self) -> dict[Path, set[str]]:
        """Sound shards and their contents. A damaged one counts as absent, so it is made again."""
        there = {}
        for path in shard_paths(self.folder):
            try:
                header = read_header(path)
                ids = read_ids(path, header["media"])
            except ValueError:
                continue
            refuse_others(self.spec.identity, header["identity"], self.folder)
            if sum_of(ids, header["media"]) == header["sum"]:
                there[path] = set(header["media"])
        return there

    def _stored(self, tokens: Tokens) -> _Stored:
        ids = tokens.ids
        if ids.size and not (0 <= int(ids.min()) and int(ids.max()) < self.spec.vocab_size):
            raise ValueError(
                f"ids must lie in [0, {self.spec.vocab_size}), got {int(ids.min())} to {int(ids.max())}; "
                "this is a fault of the tokenizer"
            )
        return np.ascontiguousarray(ids.astype(self.spec.dtype)), tokens.media

    def _write_shard(self, path: Path, contents: dict[str, _Stored]) -> None:
        ids = {content: ids for content, (ids, _) in contents.items()}
        media = {content: media for content, (_, media) in contents.items()}
        header = {"identity": self.spec.identity, "sum": sum_of(ids, media), "media": media}
        # One key: safetensors writes several in an order that changes from run to run.
        write_atomically(path, save(ids, metadata={FORMAT: canonical(header).decode()}))

    def _write_manifest(self, shards: list[Path], good: list[Source], failed: dict[str, str]) -> None:
        sizes = {source.sha256: source.num_bytes for source in good}
        contents = {}
        for number, path in enumerate(shards):
            media = read_header(path)["media"]
            for content, ids in read_ids(path, media).items():
                contents[content] = {
                    "shard": number,
                    "shape": list(ids.shape),
                    "media": media[content],
                    "source_bytes": sizes[content],
                }
        manifest = self.spec.identity | {
            "tokenizer": self.spec.tokenizer,
            "shards": [
                {"file": path.name, "sha256": sha256_of_file(path), "bytes": path.stat().st_size} for path in shards
            ],
            "contents": contents,
            "files": {source.name: source.sha256 for source in good},
            "failed": failed,
        }
        manifest["sum"] = sha256(canonical(manifest))
        data = json.dumps(manifest, sort_keys=True, indent=1).encode() + b"\n"
        path = self.folder / MANIFEST
        if not path.exists() or path.read_bytes() != data:
            write_atomically(path, data)


def _take(path: Path, content: str) -> _Stored:
    return read_ids(path, [content])[content], read_header(path)["media"][content]


def _groups(sources: Sequence[Source], most: int) -> Iterator[list[Source]]:
    """Distinct contents in the order of their sums, cut into shards by number and by bytes of their sources."""
    by_content = {source.sha256: source for source in sorted(sources, key=lambda source: source.name, reverse=True)}
    group: list[Source] = []
    for content in sorted(by_content):
        source = by_content[content]
        if group and (len(group) == most or sum(s.num_bytes for s in group) + source.num_bytes > SHARD_BYTES):
            yield group
            group = []
        group.append(source)
    if group:
        yield group
