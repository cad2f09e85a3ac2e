"""The format of token shards: what a shard and a manifest hold, and how they are read from a folder nobody vouches for.

A shard is one safetensors file: a tensor of ids per content, named by the sha256 of the source, in the smallest integer
type that fits, and under one metadata key a JSON header with the identity of the ids, their sum, and what it takes to
turn each back into media. The manifest is JSON: identity, shards with their sums, contents, files, and its own sum.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from .media import MediaError, read_bytes

FORMAT, VERSION = "tokenloom-shards", 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**31
DTYPES = ("uint8", "uint16", "uint32", "int64")  # of ids; the first that holds them all
_SHARD_NAME = re.compile(r"shard-[0-9a-f]{16}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ShardSpec:
    """Whose ids these are. All but `tokenizer` decides the ids, and must be equal wherever shards meet."""

    modality: str
    fingerprint: str  # of the tokenizer
    vocab_size: int
    preprocessing: Mapping[str, Any]  # how a file became the tensor that was tokenized; JSON values
    tokenizer: str = ""  # the name by which to load it again

    @property
    def dtype(self) -> str:
        """The smallest integer type that holds every id."""
        return next(name for name in DTYPES if self.vocab_size - 1 <= np.iinfo(name).max)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "modality": self.modality,
            "fingerprint": self.fingerprint,
            "vocab_size": self.vocab_size,
            "dtype": self.dtype,
            "preprocessing": json.loads(canonical(dict(self.preprocessing))),  # as it comes back: tuples are lists
            "preprocessing_sha256": sha256(canonical(dict(self.preprocessing))),
        }


def refuse_others(ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> None:
    """Let ids meet only ids of one identity.

    Raises:
        ValueError: something that decides the ids differs.
    """
    for name, value, other in _differing(ours, theirs):
        raise ValueError(
            f"{folder}: holds ids with {name} {_short(other)}, these would have {_short(value)}; "
            "choose another folder, or delete this one"
        )


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, our value and theirs of what differs; of the preprocessing, of each of its settings."""
    for name, value in ours.items():
        other = theirs.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            for inner, mine, others in _differing(dict.fromkeys(other) | dict(value), other):
                yield f"{name}, {inner}", mine, others
        elif other != value:
            yield name, value, other


def shard_paths(folder: Path) -> list[Path]:
    """The files of `folder` that bear the name of a shard, sorted."""
    return sorted(path for path in folder.glob("shard-*") if _SHARD_NAME.fullmatch(path.name))


def read_ids(path: Path, contents: Collection[str]) -> dict[str, np.ndarray]:
    """The ids of some contents of one shard, as stored."""
    try:
        with safe_open(path, framework="np") as shard:
            return {content: shard.get_tensor(content) for content in contents}
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type that numpy lacks
        raise ValueError(f"{path}: not a token shard, or damaged ({error}); tokenize the files again") from error


def read_part(path: Path, content: str, part: slice) -> np.ndarray:
    """Some of the ids of one content of one shard, as stored: a stretch of their first axis."""
    try:
        with safe_open(path, framework="np") as shard:
            return shard.get_slice(content)[part]
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path}: not a token shard, or damaged ({error}); tokenize the files again") from error


def read_header(path: Path) -> dict[str, Any]:
    """`identity`, `sum` and `media` (content -> JSON object) of one shard.

    Raises:
        ValueError: not a shard, or damaged in its header; the ids themselves are not looked at.
    """
    try:
        with safe_open(path, framework="np") as shard:
            header = json.loads((shard.metadata() or {})[FORMAT])
            names = set(shard.keys())
        if not isinstance(header["identity"], dict) or not isinstance(header["sum"], str):
            raise ValueError("its header lacks an identity or a sum")
        if header["media"].keys() != names:
            raise ValueError("its header and its tensors differ")
        return header
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a token shard, or damaged ({error}); tokenize the files again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, checked.

    Raises:
        ValueError: missing, damaged, of another format, or not what a reader can rely on.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: no {MANIFEST} there; point at a folder that tokenize wrote to its end")
    try:
        manifest = json.loads(read_bytes(path, MAX_MANIFEST_BYTES))
        total = manifest.pop("sum")
        if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {manifest['format']} {manifest['version']} is not {FORMAT} {VERSION}")
        if total != sha256(canonical(manifest)):
            raise ValueError("its sum is wrong")
        _check_manifest(manifest)
    except MediaError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a manifest of token shards, or damaged ({error}); tokenize again") from error
    return manifest


def _check_manifest(manifest: dict[str, Any]) -> None:
    """What the reader relies on. The sum proves that nothing changed, not that a stranger wrote it in good faith."""
    for name in ("modality", "fingerprint", "tokenizer"):
        if not isinstance(manifest[name], str):
            raise ValueError(f"{name} must be a string")
    if type(manifest["vocab_size"]) is not int:
        raise ValueError("vocab_size must be an integer")
    if manifest["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}")
    for shard in manifest["shards"]:
        if not _SHARD_NAME.fullmatch(shard["file"]):
            raise ValueError(f"a shard cannot be named {shard['file']!r}")
        if not isinstance(shard["sha256"], str) or not isinstance(shard["bytes"], int):
            raise ValueError(f"{shard['file']} has no sum")
    for content, entry in manifest["contents"].items():
        if not _SHA256.fullmatch(content) or not _is_index(entry["shard"], manifest["shards"]):
            raise ValueError(f"{content[:12]!r} is not a content of these shards")
        if not isinstance(entry["media"], dict) or not isinstance(entry["shape"], list):
            raise ValueError(f"media and shape of {content[:12]} are missing")
        if not all(isinstance(length, int) and length >= 0 for length in entry["shape"]):
            raise ValueError(f"{content[:12]} cannot have the shape {entry['shape']}")
    for name, content in manifest["files"].items():
        if content not in manifest["contents"]:
            raise ValueError(f"{name!r} has no ids")


def _is_index(value: Any, items: Sequence[Any]) -> bool:
    return type(value) is int and 0 <= value < len(items)


def sum_of(ids: Mapping[str, np.ndarray], media: Mapping[str, Any]) -> str:
    """Hex sha256 over all that a shard says of its contents, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(ids):
        digest.update(canonical([name, str(ids[name].dtype), list(ids[name].shape), media[name]]))
        digest.update(ids[name].tobytes())
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """One value, one spelling in JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:12]}..."
