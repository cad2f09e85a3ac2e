"""Laws of data/files.py: a name has all its bytes or none, whoever else writes; lines of JSON hold any name."""

import json
import os
from threading import Thread

import pytest

from tokenloom.data.files import json_line, refuse_to_replace, write_atomically


def test_two_writers_and_a_reader_never_meet_half_a_file(tmp_path):
    path, size, errors = tmp_path / "file", 300_000, []
    write_atomically(path, bytes(size))

    def write(value: int) -> None:
        try:
            for _ in range(40):
                write_atomically(path, bytes([value]) * size)
        except OSError as error:
            errors.append(error)

    writers = [Thread(target=write, args=(value,)) for value in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        data = path.read_bytes()
        assert len(data) == size and len(set(data)) == 1
    assert not errors and os.listdir(tmp_path) == ["file"]


def test_a_name_may_be_as_long_as_the_system_takes(tmp_path):
    path = tmp_path / ("ä" * 127)
    write_atomically(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        write_atomically(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["plain.png", "日本 語.png", os.fsdecode(b"caf\xe9.png")])
def test_a_line_of_json_holds_any_name(name):
    line = json_line({"file": name})
    assert line.endswith(b"}\n") and json.loads(line.decode("utf-8")) == {"file": name}


def test_an_original_is_not_replaced(tmp_path):
    refuse_to_replace(tmp_path / "a")
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ValueError, match="a is there already; take another folder, or overwrite it"):
        refuse_to_replace(tmp_path / "a")
