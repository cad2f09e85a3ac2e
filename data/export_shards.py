"""Token shards in the formats of others: tars for WebDataset, Parquet for Hugging Face `datasets`.

One file for each shard, one example for each content, with everything that the manifest knows of it: `names` of the
files, `media` (size, rate, length). The same shards give the same bytes. Neither format holds the sums.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .files import appears_whole, refuse_to_replace
from .shard_reader import ShardReader


@dataclass(frozen=True)
class Exported:
    content: str  # sha256 of the source
    ids: np.ndarray  # as stored
    names: list[str]
    media: dict[str, Any]


def to_webdataset(reader: ShardReader, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write `out/00000.tar`, ...: CONTENT.npy with the ids, CONTENT.json with names and media.

    Raises:
        ValueError: `out` holds tars so named that would stay, and be taken for a part of these; or, without
            `overwrite`, tars that would be replaced.
    """
    paths = [out / f"{number:05}.tar" for number in range(len(reader.manifest["shards"]))]
    _refuse_others(out.glob("[0-9][0-9][0-9][0-9][0-9].tar"), paths, overwrite)
    for path, examples in zip(paths, _shards(reader), strict=True):
        with appears_whole(path) as unfinished, tarfile.open(unfinished, "w") as tar:
            for example in examples:
                array = io.BytesIO()
                np.save(array, example.ids, allow_pickle=False)
                _add(tar, f"{example.content}.npy", array.getvalue())
                details = {"names": example.names, "media": example.media}
                _add(tar, f"{example.content}.json", json.dumps(details, sort_keys=True).encode())
    return paths


def to_parquet(reader: ShardReader, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write `out/data/train-00000-of-00002.parquet`, ...: `datasets.load_dataset(out)` opens the folder.

    Columns: content, ids (flat), shape, names, media (JSON). What is no Unicode in a name is written as an escape.

    Raises:
        ValueError: pyarrow, the extra `export`, is not installed; or as `to_webdataset`.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise ValueError(f"Parquet needs pyarrow, got {missing}; install tokenloom[export]") from None
    schema = pyarrow.schema(
        {
            "content": pyarrow.string(),
            "ids": pyarrow.list_(pyarrow.type_for_alias(reader.manifest["dtype"])),
            "shape": pyarrow.list_(pyarrow.int64()),
            "names": pyarrow.list_(pyarrow.string()),
            "media": pyarrow.string(),
        }
    )
    total = len(reader.manifest["shards"])
    paths = [out / "data" / f"train-{number:05}-of-{total:05}.parquet" for number in range(total)]
    _refuse_others((out / "data").glob("train-*-of-*.parquet"), paths, overwrite)
    for path, examples in zip(paths, _shards(reader), strict=True):
        rows = [
            {
                "content": example.content,
                "ids": example.ids.reshape(-1),
                "shape": list(example.ids.shape),
                "names": [name.encode("utf-8", "backslashreplace").decode() for name in example.names],
                "media": json.dumps(example.media, sort_keys=True),
            }
            for example in examples
        ]
        with appears_whole(path) as unfinished:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), unfinished)
    return paths


def _refuse_others(found: Iterable[Path], expected: Sequence[Path], overwrite: bool) -> None:
    """Whoever opens the folder would read what an earlier export left there as well; and a tar may be an original."""
    if not overwrite:
        for path in expected:
            refuse_to_replace(path)
    if others := sorted(set(found) - set(expected)):
        raise ValueError(
            f"{others[0]}: of another export, and would be read with this one; remove it, or name another folder"
        )


def _shards(reader: ShardReader) -> Iterator[list[Exported]]:
    """The contents of each shard, in the order of their sums."""
    names: dict[str, list[str]] = {}
    for name, content in sorted(reader.files.items()):
        names.setdefault(content, []).append(name)
    shards: list[list[str]] = [[] for _ in reader.manifest["shards"]]
    for content in reader.contents:
        shards[reader.manifest["contents"][content]["shard"]].append(content)
    for contents in shards:
        yield [
            Exported(
                content,
                reader.ids(content).numpy().astype(reader.manifest["dtype"]),
                names.get(content, []),
                reader.media(content),
            )
            for content in contents
        ]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner: the same bytes whoever writes it
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
