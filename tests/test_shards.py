"""Laws of data/shards.py: killed anywhere and run again, the bytes are those of an uninterrupted run.

And nothing foreign or damaged is read as sound.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tokenloom.data.media import MediaError
from tokenloom.data.shard_format import FORMAT, MANIFEST, ShardSpec, canonical, sha256
from tokenloom.data.shard_reader import ShardReader, verify_shards
from tokenloom.data.shards import ShardWriter, Source, Tokens

SPEC = ShardSpec(modality="image", fingerprint="f" * 64, vocab_size=300, preprocessing={"background": (1, 2, 3)})


def sources_of(names: dict[str, str]) -> list[Source]:
    """Name -> content, as sources; the content need not be on disk, since the toy encoder makes ids of its sum."""
    return [Source(n, Path("nowhere", n), hashlib.sha256(c.encode()).hexdigest(), len(c)) for n, c in names.items()]


NAMES = {f"{n:02}.png": f"content {n}" for n in range(10)} | {"copy.png": "content 3", "sub/copy.png": "content 3"}
BROKEN = sources_of({"x": "content 7"})[0].sha256


def encode(source: Source) -> Tokens:
    if source.sha256 == BROKEN:
        raise MediaError(source.name, "broken")
    rng = np.random.default_rng(int(source.sha256[:8], 16))
    height = int(source.sha256[:2], 16) % 4
    return Tokens(rng.integers(300, size=(height, 5)), {"size": (height, 5), "rate": 0.1})


def write(folder, names=NAMES, spec=SPEC, encode=encode, **options):
    def attempt(source):
        try:
            return encode(source)
        except MediaError as error:
            return error

    writer = ShardWriter(folder, spec, shard_sources=3)
    return writer.write(sources_of(names), lambda sources: map(attempt, sources), **options)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_written_is_read(tmp_path):
    summary = write(tmp_path, failed={"early.png": "not a picture"})
    assert (summary.tokenized, summary.reused, summary.files) == (9, 0, 11)
    assert summary.failed == {"early.png": "not a picture", "07.png": "broken"}
    reader = ShardReader(tmp_path, SPEC.fingerprint)
    assert len(reader) == 9 and len(reader.files) == 11
    assert reader.manifest["failed"] == summary.failed and reader.manifest["dtype"] == "uint16"
    assert reader.files["copy.png"] == reader.files["sub/copy.png"] == reader.files["03.png"]
    for source in sources_of(NAMES):
        if source.sha256 != BROKEN:
            expected = encode(source)
            ids = reader.ids(reader.files[source.name])
            assert np.array_equal(ids, expected.ids) and ids.dtype == torch.int64
            assert reader.media(source.sha256) == {"size": list(ids.shape), "rate": 0.1}
    assert reader.verify() == [] == verify_shards(tmp_path)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_the_bytes_are_a_pure_function_of_the_inputs(tmp_path_factory, data):
    """Whatever the order of the inputs and the runs before."""
    names = data.draw(st.permutations(sorted(NAMES)))
    start = data.draw(st.integers(0, len(names)))
    alone, grown = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("grown")
    write(alone)
    called = []

    def counted(source):
        called.append(source.sha256)
        return encode(source)

    if start:
        write(grown, {name: NAMES[name] for name in names[:start]}, encode=counted)
    summary = write(grown, {name: NAMES[name] for name in names}, encode=counted)
    assert contents_of(grown) == contents_of(alone)
    tokenized = [content for content in called if content != BROKEN]
    assert len(tokenized) == len(set(tokenized)) == 9  # nothing twice
    assert summary.reused + summary.tokenized == 9


def test_files_that_cannot_be_read_this_time_keep_their_ids(tmp_path):
    """A disk that is not mounted must not cost what was made of its files."""
    write(tmp_path / "run")
    before = contents_of(tmp_path / "run")
    there = {name: NAMES[name] for name in ("00.png", "05.png", "07.png", "copy.png")}
    gone = {name: "Input/output error" for name in NAMES if name not in there} | {"new.png": "no picture"}
    summary = write(tmp_path / "run", there, failed=gone)
    assert summary.failed == gone | {"07.png": "broken"} and summary.files == 11
    reader = ShardReader(tmp_path / "run")
    assert set(reader.files) == set(NAMES) - {"07.png"} and reader.verify() == []
    assert reader.manifest["failed"] == {"07.png": "broken", "new.png": "no picture"}
    write(tmp_path / "run")
    assert contents_of(tmp_path / "run") == before


def test_a_complete_folder_costs_nothing_to_run_again(tmp_path):
    write(tmp_path)
    before = contents_of(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    called = []
    summary = write(tmp_path, encode=lambda source: called.append(source) or encode(source))
    assert (contents_of(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}) == before
    assert [source.sha256 for source in called] == [BROKEN]  # only what failed is tried again
    assert (summary.tokenized, summary.reused) == (0, 9)


class Killed(BaseException):
    pass


class Fate:
    """Lets the steps of writing happen until step number `end`; from there on nothing happens, as after a kill."""

    def __init__(self, end: int, monkeypatch):
        self.end, self.count = end, 0
        monkeypatch.setattr(os, "replace", self.guarded(os.replace))
        monkeypatch.setattr(os, "fsync", self.guarded(lambda descriptor: None))  # the disk is not what dies here
        monkeypatch.setattr(Path, "unlink", self.guarded(Path.unlink))
        monkeypatch.setattr(Path, "write_bytes", lambda path, data: self.write_in_two(path, data))

    def step(self) -> None:
        if self.count >= self.end:
            raise Killed
        self.count += 1

    def guarded(self, function):
        def call(*args, **options):
            self.step()
            result = function(*args, **options)
            self.step()
            return result

        return call

    def write_in_two(self, path, data):
        self.step()
        with open(path, "wb") as file:
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                file.write(half)
                self.step()


@pytest.mark.parametrize("before", ["nothing", "fewer files", "a damaged shard"])
def test_a_kill_at_any_step_of_writing_changes_no_byte(tmp_path, monkeypatch, before):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    some = {name: NAMES[name] for name in sorted(NAMES)[2:9]}
    start, reference, folder = tmp_path / "start", tmp_path / "reference", tmp_path / "folder"
    start.mkdir()
    if before != "nothing":
        write(start, NAMES if before == "a damaged shard" else some)
    if before == "a damaged shard":
        shard = next(start.glob("shard-*"))
        shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    write(reference)
    expected, end = contents_of(reference), 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        with pytest.MonkeyPatch.context() as patch:
            Fate(end, patch)
            try:
                write(folder)
            except Killed:
                killed = True
            else:
                killed = False
        if before != "a damaged shard" and (folder / MANIFEST).exists():
            reader = ShardReader(folder)  # what stands under the name of the manifest can always be read
            sound = [source for source in sources_of(some) if source.sha256 != BROKEN]
            assert all(np.array_equal(reader.ids(source.sha256), encode(source).ids) for source in sound)
        write(folder)
        assert contents_of(folder) == expected, f"killed at step {end}"
        if not killed:
            break
        end += 1
    assert end >= (8 if before == "a damaged shard" else 40)  # steps of one shard and the rest, or of all


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("calls", [0, 4, 9])
def test_a_real_kill_changes_no_byte(tmp_path, calls):
    def kill_after(source, left=[calls]):  # noqa: B006 (a counter that lives as long as the process)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return encode(source)

    write(tmp_path / "reference")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside torch's idle threads
        context = multiprocessing.get_context("fork")
        process = context.Process(target=write, args=(tmp_path / "folder",), kwargs={"encode": kill_after})
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (tmp_path / "folder" / MANIFEST).exists()
    write(tmp_path / "folder")
    assert contents_of(tmp_path / "folder") == contents_of(tmp_path / "reference")


def test_ids_of_another_tokenizer_or_preprocessing_are_refused(tmp_path):
    write(tmp_path)
    before = contents_of(tmp_path)
    for change in ({"fingerprint": "e" * 64}, {"preprocessing": {}}, {"vocab_size": 301}, {"modality": "video"}):
        spec = ShardSpec(**{**vars(SPEC), **change})
        with pytest.raises(ValueError, match=f"{next(iter(change))}.*choose another folder"):
            write(tmp_path, spec=spec)
        with pytest.raises(ValueError, match="choose another folder"):
            (tmp_path / MANIFEST).rename(tmp_path / "aside")  # the shards alone say it as well
            try:
                write(tmp_path, spec=spec)
            finally:
                (tmp_path / "aside").rename(tmp_path / MANIFEST)
    with pytest.raises(ValueError, match="of tokenizer.*got one with fingerprint eeee.*tokenize the files again"):
        ShardReader(tmp_path, "e" * 64)
    assert contents_of(tmp_path) == before


def test_a_run_on_other_files_does_not_drop_what_is_there(tmp_path):
    write(tmp_path)
    before = contents_of(tmp_path)
    with pytest.raises(ValueError, match="11 files that are not among these inputs.*another folder"):
        write(tmp_path, {"other.png": "x"})
    assert contents_of(tmp_path) == before


def test_a_changed_file_replaces_its_old_ids(tmp_path):
    write(tmp_path)
    changed = NAMES | {"01.png": "new content"}
    write(tmp_path, changed)
    write(tmp_path / "fresh", changed)
    shutil.move(tmp_path / "fresh", tmp_path.parent / "fresh")
    assert contents_of(tmp_path) == contents_of(tmp_path.parent / "fresh")


def test_files_that_moved_keep_their_ids(tmp_path):
    write(tmp_path)
    moved = {f"below/{name}": content for name, content in NAMES.items()}
    summary = write(tmp_path, moved)
    assert (summary.tokenized, summary.reused) == (0, 9)
    assert sorted(ShardReader(tmp_path).files) == sorted(name for name in moved if name != "below/07.png")


def test_two_runs_into_one_folder_at_once_are_refused(tmp_path):
    def meddle(source):
        write(tmp_path)

    with pytest.raises(ValueError, match="another run is writing"):
        write(tmp_path, encode=meddle)


def test_an_error_that_is_no_fault_of_the_file_stops_the_run_and_keeps_what_is_done(tmp_path):
    def fail_late(source):
        if source.sha256 > "c":
            raise RuntimeError("the machine is on fire")
        return encode(source)

    with pytest.raises(RuntimeError, match="fire"):
        write(tmp_path, encode=fail_late)
    done = len(list(tmp_path.glob("shard-*")))
    assert done and write(tmp_path).reused >= 3 * (done - 1)


@pytest.mark.parametrize("size, dtype", [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16")])
def test_ids_take_the_smallest_type_that_fits(tmp_path, size, dtype):
    spec = ShardSpec(modality="image", fingerprint="f", vocab_size=size, preprocessing={})
    ids = np.array([0, size - 1])
    write(tmp_path, {"a": "a"}, spec, lambda _: Tokens(ids))
    ((stored,),) = [load_file(path).values() for path in tmp_path.glob("shard-*")]
    assert stored.dtype == dtype and np.array_equal(ShardReader(tmp_path).ids(sources_of({"a": "a"})[0].sha256), ids)
    for wrong in (-1, size):
        with pytest.raises(ValueError, match="fault of the tokenizer"):
            write(tmp_path / "wrong", {"a": "a"}, spec, lambda _, wrong=wrong: Tokens(np.array([wrong])))


def test_wide_vocabularies_fit():
    kinds = [
        ShardSpec(modality="", fingerprint="", vocab_size=n, preprocessing={}).dtype for n in (2**16 + 1, 2**32 + 1)
    ]
    assert kinds == ["uint32", "int64"]


def test_verify_finds_any_changed_byte(tmp_path):
    write(tmp_path)
    rng = np.random.default_rng(0)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for position in rng.integers(len(whole), size=40):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            problems = verify_shards(tmp_path)
            assert problems and all("\n" not in problem for problem in problems), (path.name, position)
        path.write_bytes(whole[:-2])
        assert verify_shards(tmp_path)
        path.unlink()
        assert verify_shards(tmp_path)
        path.write_bytes(whole)
    assert verify_shards(tmp_path) == []
    (tmp_path / "shard-0000000000000000.safetensors").write_bytes(b"")
    assert "not in the manifest" in verify_shards(tmp_path)[0]


def rewritten(folder: Path, change) -> None:
    """A manifest by a stranger who knows how to make its sum."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("sum")
    change(manifest)
    manifest["sum"] = sha256(canonical(manifest))
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["shards"][0].update(file="../shard-0000000000000000.safetensors"),
        lambda m: m["shards"][0].update(file=7),
        lambda m: m["shards"][0].pop("sha256"),
        lambda m: next(iter(m["contents"].values())).update(shard=99),
        lambda m: next(iter(m["contents"].values())).update(shard=-1),
        lambda m: next(iter(m["contents"].values())).update(media=None),
        lambda m: m["files"].update(a="b"),
        lambda m: m["files"].update(a=["b"]),
        lambda m: m.update(files=[]),
        lambda m: m.update(version=2),
        lambda m: m.update(vocab_size="many"),
        lambda m: m.pop("contents"),
    ],
)
def test_a_hostile_manifest_is_refused_in_one_line(tmp_path, change):
    write(tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(ValueError, match=MANIFEST) as caught:
        ShardReader(tmp_path)
    assert "\n" not in str(caught.value)


def test_ids_that_are_not_as_listed_are_not_given_out(tmp_path):
    write(tmp_path)
    reader = ShardReader(tmp_path)
    content = next(c for c in reader.contents if reader.ids(c).numel())
    path = tmp_path / reader.manifest["shards"][reader.manifest["contents"][content]["shard"]]["file"]
    tensors = load_file(path)
    ids = tensors[content]
    for wrong in (np.full_like(ids, 300), ids[:, 1:], ids.astype(np.int64), -ids.astype(np.int16)):
        save_file(tensors | {content: wrong}, path, metadata={FORMAT: "{}"})
        with pytest.raises(ValueError, match="not those of the manifest"):
            reader.ids(content)
    del tensors[content]
    save_file(tensors, path)
    with pytest.raises(ValueError, match=path.name):
        reader.ids(content)


def test_a_folder_without_shards_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no manifest.json there"):
        ShardReader(tmp_path)
    for text in ("", "[]", "{", "[" * 100_000):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            ShardReader(tmp_path)
        with pytest.raises(ValueError, match="damaged"):
            write(tmp_path)
