"""Laws of pipelines/tokenize_files.py: files to ids and back are exact; one bad file costs only itself."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import needs_packs
from tokenloom.data.find_files import find_files
from tokenloom.data.media import fit, read_image
from tokenloom.data.progress import Progress
from tokenloom.data.shard_format import MANIFEST, canonical, sha256
from tokenloom.data.shard_reader import ShardReader, shard_folders, verify
from tokenloom.pipelines.detokenize_files import detokenize
from tokenloom.pipelines.tokenize_files import tokenize_images, tokenize_texts

LEFT, RIGHT = (250, 10, 0), (0, 20, 240)


class ColorTokenizer:
    """One id per pixel, its color with `bits` per channel: exact at 8, and any size goes."""

    def __init__(self, bits: int = 8):
        self.bits = bits
        self.vocab_size = 2 ** (3 * bits)
        self.fingerprint = f"color {bits}".ljust(64, "0")

    def grid(self, size):
        return size

    def encode(self, images):
        assert images.shape[0] == 1 and images.dtype == torch.float32
        levels = ((images + 1) / 2 * (2**self.bits - 1)).round().long()
        return levels[:, 0] * 4**self.bits + levels[:, 1] * 2**self.bits + levels[:, 2]

    def decode(self, ids, size=None):
        levels = torch.stack([ids // 4**self.bits, ids // 2**self.bits % 2**self.bits, ids % 2**self.bits], dim=1)
        return levels.float() / (2**self.bits - 1) * 2 - 1


class Bytes:
    vocab_size = 256
    fingerprint = "bytes".ljust(64, "0")

    def encode_bytes(self, data):
        return list(data)

    def decode_bytes(self, ids):
        return bytes(ids)


def png(width=6, height=4) -> bytes:
    buffer = io.BytesIO()
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = LEFT, RIGHT
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(paths, out, tokenizer=None, **options):
    files = find_files(paths, "image")
    return tokenize_images(files, out, tokenizer or ColorTokenizer(), show_progress=False, **options)


def texts(paths, out):
    return tokenize_texts(find_files(paths, "text"), out, Bytes(), show_progress=False)


PICTURES = {"a.png": png(), "deep/b.png": png(9, 5), "deep/again.png": png(), "c.JPG": png(1, 1), "notes.txt": b"hello"}


def test_pictures_of_any_size_come_back_as_they_were(tmp_path):
    folder = write_files(tmp_path / "in", PICTURES)
    summary = images([folder], tmp_path / "out", tokenizer_name="colors")
    assert (summary.files, summary.tokenized, summary.failed) == (4, 3, {})
    reader = ShardReader(tmp_path / "out" / "image")
    assert reader.manifest["tokenizer"] == "colors" and reader.manifest["dtype"] == "uint32"
    assert reader.media(reader.files["deep/b.png"]) == {"size": [5, 9]}
    summary = detokenize(tmp_path / "out" / "image", tmp_path / "back", ColorTokenizer(), show_progress=False)
    assert (summary.files, summary.failed) == (4, {})
    assert sorted(contents_of(tmp_path / "back")) == ["a.png", "c.png", "deep/again.png", "deep/b.png"]
    for name in ("a.png", "deep/b.png", "deep/again.png"):
        before, after = read_image(folder / name), read_image(tmp_path / "back" / name)
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))
    assert verify(tmp_path / "out") == []


@settings(max_examples=20, deadline=None)
@given(files=st.dictionaries(st.sampled_from(["a.txt", "b.md", "sub/c.txt"]), st.binary(max_size=50), min_size=1))
def test_texts_come_back_byte_for_byte(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("texts")
    write_files(root / "in", files)
    assert texts([root / "in"], root / "out").failed == {}
    assert detokenize(root / "out" / "text", root / "back", Bytes(), show_progress=False).failed == {}
    assert contents_of(root / "back") == files


def test_one_folder_holds_every_modality(tmp_path):
    folder = write_files(tmp_path / "in", PICTURES)
    images([folder], tmp_path / "out")
    texts([folder], tmp_path / "out")
    assert [path.name for path in shard_folders(tmp_path / "out")] == ["image", "text"]
    assert shard_folders(tmp_path / "out" / "text") == [tmp_path / "out" / "text"]
    assert verify(tmp_path / "out") == []
    with pytest.raises(ValueError, match="no token shards"):
        shard_folders(tmp_path)


def test_bad_files_are_named_in_one_line_each_and_skipped(tmp_path, capsys):
    bad = {"cut.png": png()[:50], "empty.jpg": b"", "wide.png": png(300, 300), "same.png": png()[:50]}
    folder = write_files(tmp_path / "in", PICTURES | bad)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    summary = images([folder], tmp_path / "out", max_pixels=10_000)
    assert sorted(summary.failed) == ["cut.png", "empty.jpg", "gone.png", "same.png", "wide.png"] and summary.files == 4
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # cut.png and same.png have one content
    assert all(line.startswith(f"skipped {folder}") for line in lines)
    assert ShardReader(tmp_path / "out" / "image").manifest["failed"] == summary.failed
    assert str(tmp_path) not in (tmp_path / "out" / "image" / MANIFEST).read_text()
    before = contents_of(tmp_path / "out")
    again = images([folder], tmp_path / "out", max_pixels=10_000)
    assert again.failed == summary.failed and (again.tokenized, again.reused) == (0, 3)
    assert contents_of(tmp_path / "out") == before


def test_a_picture_that_does_not_fit_into_memory_or_the_tokenizer_costs_only_itself(tmp_path):
    class Picky(ColorTokenizer):
        def encode(self, images):
            if images.shape[-1] == 9:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
            if images.shape[-1] == 1:
                raise ValueError("too small")
            return super().encode(images)

    folder = write_files(tmp_path / "in", PICTURES)
    summary = images([folder], tmp_path / "out", Picky())
    assert summary.failed == {
        "deep/b.png": "does not fit into memory; shrink it, or tokenize squares",
        "c.JPG": "too small",
    }

    class Broken(ColorTokenizer):
        def encode(self, images):
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        images([folder], tmp_path / "other", Broken())


def test_a_file_that_changes_between_two_looks_is_not_stored_under_its_old_sum(tmp_path):
    folder = write_files(tmp_path / "in", {"a.png": png(), "b.png": png(8, 8)})

    class Meddler(ColorTokenizer):
        def encode(self, images):
            for path in folder.iterdir():
                path.write_bytes(png(20, 20))
            return super().encode(images)

    summary = images([folder], tmp_path / "out", Meddler())
    assert summary.files == 1 and list(summary.failed.values()) == ["changed while it was being read; run again"]


def test_squares_and_background_are_part_of_what_the_ids_are(tmp_path):
    folder = write_files(tmp_path / "in", {"a.png": png(9, 5)})
    images([folder], tmp_path / "out", size=4)
    reader = ShardReader(tmp_path / "out" / "image")
    assert reader.media(reader.files["a.png"]) == {"size": [4, 4]}
    detokenize(tmp_path / "out" / "image", tmp_path / "back", ColorTokenizer(), show_progress=False)
    expected = fit(read_image(folder / "a.png"), 4)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "back" / "a.png")), np.asarray(expected))
    for change in ({"size": 5}, {"size": None}, {"size": 4, "background": (0, 0, 0)}):
        with pytest.raises(ValueError, match="preprocessing"):
            images([folder], tmp_path / "out", **change)
    with pytest.raises(ValueError, match="fingerprint"):
        images([folder], tmp_path / "out", ColorTokenizer(bits=2), size=4)
    with pytest.raises(ValueError, match="got one with fingerprint"):
        detokenize(tmp_path / "out" / "image", tmp_path / "back", ColorTokenizer(bits=2))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_skipped_not_waited_for(tmp_path):
    folder = write_files(tmp_path / "in", {"a.png": png()})
    os.mkfifo(folder / "b.png")
    assert images([folder], tmp_path / "out").failed == {"b.png": "not a regular file"}


def test_two_pictures_that_differ_in_their_suffix_stay_two(tmp_path):
    folder = write_files(tmp_path / "in", {"a.png": png(), "a.gif": png(3, 3), "b.png": png(2, 2)})
    images([folder], tmp_path / "out")
    detokenize(tmp_path / "out" / "image", tmp_path / "back", ColorTokenizer(), show_progress=False)
    assert sorted(contents_of(tmp_path / "back")) == ["a.gif.png", "a.png.png", "b.png.png"]


def stranger(folder: Path, change) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("sum")
    change(manifest)
    manifest["sum"] = sha256(canonical(manifest))
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "", ".", "link/evil.txt", "in\0.txt"]
)
def test_no_name_in_a_manifest_leads_out_of_the_folder(tmp_path, name, capsys):
    folder = write_files(tmp_path / "in", {"good.txt": b"good"})
    texts([folder], tmp_path / "out")
    stranger(tmp_path / "out" / "text", lambda m: m["files"].update({name: m["files"]["good.txt"]}))
    back, outside = tmp_path / "back", tmp_path / "outside"
    back.mkdir(), outside.mkdir()
    (back / "link").symlink_to(outside)
    summary = detokenize(tmp_path / "out" / "text", back, Bytes(), show_progress=False)
    assert list(summary.failed) == [name] and len(capsys.readouterr().err.splitlines()) == 1
    assert contents_of(back) == {"good.txt": b"good"} and not list(outside.iterdir())


@pytest.mark.parametrize("size", [None, [4], [4, "6"], [0, 6], [6, 4], [10**9, 10**9]])
def test_a_size_that_the_ids_do_not_have_is_refused(tmp_path, size):
    folder = write_files(tmp_path / "in", {"a.png": png(), "b.png": png(2, 2)})
    images([folder], tmp_path / "out")
    shards = tmp_path / "out" / "image"
    content = ShardReader(shards).files["a.png"]
    stranger(shards, lambda m: m["contents"][content]["media"].update(size=size))
    summary = detokenize(shards, tmp_path / "back", ColorTokenizer(), show_progress=False)
    assert list(summary.failed) == ["a.png"] and summary.files == 1


def test_a_damaged_shard_costs_only_its_files(tmp_path):
    folder = write_files(tmp_path / "in", {"a.txt": b"hello"})
    texts([folder], tmp_path / "out")
    shard = next((tmp_path / "out" / "text").glob("shard-*"))
    shard.write_bytes(b"")
    assert len(verify(tmp_path / "out")) == 1
    assert list(detokenize(tmp_path / "out" / "text", tmp_path / "back", Bytes(), show_progress=False).failed) == [
        "a.txt"
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_tells_the_time_left_and_keeps_notes(monkeypatch):
    now = iter(range(0, 10_000, 20))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    for stream in (io.StringIO(), Terminal()):
        with Progress("tokenizing", 4, stream=stream) as progress:
            progress.advance()
            progress.note("skipped x")
            progress.advance(3)
        text = stream.getvalue()
        assert "tokenizing 1/4, 0.05/s, 0:20 so far, 1:00 left" in text and "skipped x\n" in text
        assert text.endswith("\n") and "tokenizing 4/4" in text
    quiet = io.StringIO()
    with Progress("tokenizing", 4, stream=quiet, enabled=False) as progress:
        progress.advance(4)
        progress.note("skipped x")
    assert quiet.getvalue() == "skipped x\n"


@needs_packs
def test_pictures_as_people_send_them_go_there_and_back(packs, tmp_path):
    source = packs / "reallife" / "image"
    small = [path for path in sorted(source.iterdir()) if path.stat().st_size < 60_000]
    assert len(small) > 10
    assert images(small, tmp_path / "out").failed == {}
    summary = detokenize(tmp_path / "out" / "image", tmp_path / "back", ColorTokenizer(), show_progress=False)
    assert summary.files == len(small) and not summary.failed
    back = np.asarray(read_image(next((tmp_path / "back").glob("hopper.bmp*"))))
    np.testing.assert_array_equal(back, np.asarray(read_image(source / "hopper.bmp")))
