"""Laws of data/export_shards.py and `tokenloom export`: what others read is what the shards hold."""

import io
import json
import subprocess
import sys
import tarfile
from importlib.util import find_spec

import numpy as np
import pytest

from tests.test_tokenize_files import PICTURES, contents_of, images, png, texts, write_files
from tokenloom.data.export_shards import to_webdataset
from tokenloom.data.shard_reader import ShardReader
from tokenloom.scripts import cli


@pytest.fixture
def shards(tmp_path):
    folder = write_files(tmp_path / "in", PICTURES)
    images([folder], tmp_path / "shards")
    texts([folder], tmp_path / "shards")
    return tmp_path / "shards"


def export(*words: object) -> int:
    return cli.main(["export", *map(str, words)])


def test_tars_hold_every_content_of_the_shards(shards, tmp_path, capsys):
    assert export(shards, "--to", "webdataset", "--out", tmp_path / "tars") == 0
    assert sorted(contents_of(tmp_path / "tars")) == ["image/00000.tar", "text/00000.tar"]
    assert "image: 3 contents in 1 files" in capsys.readouterr().out
    reader = ShardReader(shards / "image")
    with tarfile.open(tmp_path / "tars" / "image" / "00000.tar") as tar:
        names = tar.getnames()
        assert names == [f"{content}.{kind}" for content in reader.contents for kind in ("npy", "json")]
        for content in reader.contents:
            ids = np.load(io.BytesIO(tar.extractfile(f"{content}.npy").read()), allow_pickle=False)
            details = json.load(tar.extractfile(f"{content}.json"))
            np.testing.assert_array_equal(ids, reader.ids(content))
            assert ids.dtype == np.uint32 and details["media"] == reader.media(content)
            assert details["names"] == sorted(name for name, c in reader.files.items() if c == content)


def test_the_same_shards_give_the_same_tars(shards, tmp_path):
    for out in ("a", "b"):
        to_webdataset(ShardReader(shards / "image"), tmp_path / out)
    assert contents_of(tmp_path / "a") == contents_of(tmp_path / "b") != {}


@pytest.mark.skipif(find_spec("webdataset") is None, reason="needs webdataset")
def test_webdataset_reads_the_tars(shards, tmp_path):
    assert export(shards / "image", "--to", "webdataset", "--out", tmp_path / "tars") == 0
    code = (
        "import json, sys, webdataset\n"
        "for row in webdataset.WebDataset(sys.argv[1], shardshuffle=False).decode():\n"
        "    print(json.dumps([row['__key__'], row['npy'].tolist(), row['json']['media']]))"
    )
    rows = [json.loads(line) for line in output_of(code, tmp_path / "tars" / "00000.tar").splitlines()]
    reader = ShardReader(shards / "image")
    assert rows == [[c, reader.ids(c).tolist(), reader.media(c)] for c in reader.contents]


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow, the extra export")
def test_names_that_are_no_unicode_are_escaped_in_parquet(tmp_path):
    import pyarrow.parquet

    folder = write_files(tmp_path / "in", {"caf\udce9.png": png()})
    images([folder], tmp_path / "shards")
    assert export(tmp_path / "shards", "--to", "datasets", "--out", tmp_path / "folder") == 0
    table = pyarrow.parquet.read_table(tmp_path / "folder" / "data" / "train-00000-of-00001.parquet")
    assert table.to_pylist()[0]["names"] == ["caf\\udce9.png"]


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow, the extra export")
def test_parquet_holds_every_content_of_the_shards(shards, tmp_path):
    import pyarrow.parquet

    assert export(shards / "image", "--to", "datasets", "--out", tmp_path / "folder") == 0
    assert list(contents_of(tmp_path / "folder")) == ["data/train-00000-of-00001.parquet"]
    table = pyarrow.parquet.read_table(tmp_path / "folder" / "data" / "train-00000-of-00001.parquet")
    reader = ShardReader(shards / "image")
    assert [row["content"] for row in table.to_pylist()] == reader.contents
    for row in table.to_pylist():
        np.testing.assert_array_equal(np.array(row["ids"]).reshape(row["shape"]), reader.ids(row["content"]))
        assert json.loads(row["media"]) == reader.media(row["content"])
        assert row["names"] == sorted(name for name, content in reader.files.items() if content == row["content"])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("datasets") is None or find_spec("pyarrow") is None, reason="needs datasets")
def test_hugging_face_datasets_opens_the_folder(shards, tmp_path):
    assert export(shards / "image", "--to", "datasets", "--out", tmp_path / "folder") == 0
    code = (
        "import datasets, json, sys\n"
        "rows = datasets.load_dataset(sys.argv[1], split='train', cache_dir=sys.argv[1] + '-cache')\n"
        "print(json.dumps([rows[n] for n in range(len(rows))]))"
    )
    rows = json.loads(output_of(code, tmp_path / "folder").splitlines()[-1])
    reader = ShardReader(shards / "image")
    assert [np.array(row["ids"]).reshape(row["shape"]).tolist() for row in rows] == [
        reader.ids(content).tolist() for content in reader.contents
    ]


def output_of(code: str, *words: object) -> str:
    run = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_without_pyarrow_one_line_says_what_to_install(shards, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    assert export(shards / "image", "--to", "datasets", "--out", tmp_path / "folder") == 1
    assert "install tokenloom[export]" in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    "form",
    [
        "webdataset",
        pytest.param("datasets", marks=pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")),
    ],
)
def test_what_another_export_left_is_not_taken_for_a_part_of_this_one(form, shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(shards / "image", "--to", form, "--out", out) == 0
    first = contents_of(out)
    assert export(shards / "image", "--to", form, "--out", out, "--overwrite") == 0 and contents_of(out) == first
    old = next(path for path in out.rglob("*") if path.is_file())
    old.write_bytes(b"an original")
    assert export(shards / "image", "--to", form, "--out", out) == 1 and old.read_bytes() == b"an original"
    assert f"{old} is there already" in capsys.readouterr().err
    stray = old.with_name(old.name.replace("00000", "00007", 1))
    old.rename(stray)
    assert export(shards / "image", "--to", form, "--out", out) == 1
    assert f"{stray}: of another export" in capsys.readouterr().err and not old.exists()
