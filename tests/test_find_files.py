"""Laws of data/find_files.py: which files are meant, under which names, and what they hold."""

import io
import os

import pytest
import torch
from PIL import Image

from tokenloom.data.find_files import find_files, modality_of, sort_files
from tokenloom.data.folders import find_entries
from tokenloom.data.write_audio import write_audio
from tokenloom.data.write_video import write_video


@pytest.fixture
def tree(tmp_path):
    for name in ("x/a.png", "y/a.png", "y/.hidden.png", "y/.git/b.png", "y/c.gif", "y/d.MP4", "y/e.txt", "y/f.org"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def frames(count: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    first, *others = [Image.new("RGB", (4, 4), (60 * n, 0, 200)) for n in range(count)]
    first.save(buffer, kind, save_all=True, append_images=others)
    return buffer.getvalue()


def test_names_tell_files_apart_and_nothing_of_the_machine(tree):
    assert list(find_files([tree / "x" / "a.png"], "image")) == ["a.png"]
    assert list(find_files([tree / "x", tree / "y"], "image")) == ["x/a.png", "y/a.png", "y/c.gif"]
    assert list(find_files([tree / "y", tree / "x" / "a.png"], "image")) == ["x/a.png", "y/a.png", "y/c.gif"]
    assert list(find_files([tree / "y", tree / "y" / "a.png"], "image")) == ["a.png", "c.gif"]
    with pytest.raises(ValueError, match=r"nope.*check the path"):
        find_files([tree / "nope"], "image")
    with pytest.raises(ValueError, match=r"nothing to read.*\.webm"):
        find_files([tree / "x"], "video")
    with pytest.raises(ValueError, match="no path was given"):
        find_files([], "video")


def test_a_file_given_by_name_is_taken_for_what_one_says(tree):
    assert list(find_files([tree / "y" / "f.org"], "text")) == ["f.org"]
    with pytest.raises(ValueError, match=r"f\.org: its suffix does not tell"):
        sort_files([tree / "y" / "f.org"])
    (tree / "y" / "g.tar").touch()
    with pytest.raises(ValueError, match=r"g\.tar: tars are for training; unpack it"):
        sort_files([tree / "y" / "g.tar"])


def test_every_modality_of_one_search_has_the_same_root(tree):
    found = sort_files([tree / "x", tree / "y" / "e.txt", tree / "y" / "d.MP4"])
    assert {modality: list(files) for modality, files in found.items()} == {
        "text": ["y/e.txt"],
        "image": ["x/a.png"],
        "video": ["y/d.MP4"],
    }
    assert list(sort_files([tree / "y"])) == ["text", "image", "video"]


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_is_a_clip_and_one_frame_is_a_picture(tmp_path, kind):
    for name, data in {"still": frames(1, kind), "moving": frames(3, kind), "cut": frames(3, kind)[:20]}.items():
        (tmp_path / f"{name}.{kind}").write_bytes(data)
    assert list(find_files([tmp_path], "video")) == [f"moving.{kind}"]
    assert list(find_files([tmp_path], "image")) == [f"cut.{kind}", f"still.{kind}"]


def test_a_container_of_video_without_a_picture_is_a_sound(tmp_path):
    write_audio(tmp_path / "a.ogg", torch.zeros(1, 4_000), 16_000)
    write_video(tmp_path / "moving.mp4", torch.zeros(3, 2, 16, 16), fps=10)
    (tmp_path / "talk.webm").write_bytes((tmp_path / "a.ogg").read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"")
    assert list(find_files([tmp_path], "audio")) == ["a.ogg", "talk.webm"]
    assert list(find_files([tmp_path], "video")) == ["broken.mp4", "moving.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.gif")
    assert modality_of(tmp_path / "a.gif") == "image"


def test_a_folder_that_cannot_be_read_is_told_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.txt").write_text("a")
    look = os.scandir

    def refused(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="closed"):
        sort_files([tmp_path])
    with pytest.raises(PermissionError, match="closed"):
        find_entries(tmp_path, "pictures", (".png",))
