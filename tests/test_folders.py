"""Laws of data/folders.py: every way of keeping captions is one; hostile names and files are refused."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import needs_packs
from tokenloom.data.files import path_below
from tokenloom.data.folders import MAX_TEXT_BYTES, open_examples
from tokenloom.data.media import MediaError

CAPTIONS = {"a": "a red square", "b": "zwei blaue Kreise", "sub/c": "緑の三角形"}
COLORS = {"a": (255, 0, 0), "b": (0, 0, 255), "sub/c": (0, 255, 0)}


def png(color=(9, 9, 9), size=(6, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def write_files(folder, files: dict[str, bytes]):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_tar(path, files: dict[str, bytes]):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def captioned(extra: bool = True) -> dict[str, bytes]:
    files = {}
    for key, caption in CAPTIONS.items():
        files[f"{key}.png"] = png(COLORS[key])
        files[f"{key}.txt"] = f"{caption}\n".encode()
        if extra:
            files[f"{key}.json"] = json.dumps({"n": len(caption)}).encode()
    return files


def metadata_jsonl(field: str) -> dict[str, bytes]:
    rows = [{"file_name": f"{key}.png", field: text, "n": len(text)} for key, text in CAPTIONS.items()]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return {f"{key}.png": png(COLORS[key]) for key in CAPTIONS} | {"metadata.jsonl": b"\xef\xbb\xbf" + lines.encode()}


def test_every_form_gives_the_same_examples(tmp_path):
    forms = [
        write_files(tmp_path / "beside", captioned()),
        write_files(tmp_path / "text", metadata_jsonl("text")),
        write_files(tmp_path / "caption", metadata_jsonl("caption")),
        write_tar(tmp_path / "shard.tar", captioned()),
        write_tar(tmp_path / "dotted.tar", {f"./{name}": data for name, data in captioned().items()}),
    ]
    for form in forms:
        examples = open_examples(form)
        assert len(examples) == 3
        for example, (key, caption) in zip(examples, CAPTIONS.items(), strict=True):
            assert example.key in (key, f"{key}.png"), form
            assert example.caption == caption and example.extra == {"n": len(caption)}, form
            assert example.image.size == (6, 4) and example.image.getpixel((0, 0)) == COLORS[key], form
        assert [examples.caption(i) for i in range(3)] == list(CAPTIONS.values())
        assert [example.key for example in examples[1:]] == [examples[1].key, examples[2].key]
        assert pickle.loads(pickle.dumps(examples))[1].caption == examples[1].caption


def test_captions_are_optional_and_a_json_sidecar_may_hold_them(tmp_path):
    files = {"a.png": png(), "b.png": png(), "b.json": b'{"caption": "from json"}', "c.JPG": png(), ".hidden.png": b"x"}
    for path in (write_files(tmp_path / "folder", files), write_tar(tmp_path / "shard.tar", files)):
        assert [example.caption for example in open_examples(path)] == [None, "from json", None]


def test_several_shards_and_folders_of_shards_come_in_order(tmp_path):
    for name, color in (("2", (2, 2, 2)), ("1", (1, 1, 1)), ("sub/3", (3, 3, 3))):
        path = tmp_path / "shards" / f"{name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tar(path, {"x.png": png(color), "x.txt": name.encode()})
    assert [example.image.getpixel((0, 0))[0] for example in open_examples(tmp_path / "shards")] == [1, 2, 3]
    two = [tmp_path / "shards" / "2.tar", tmp_path / "shards" / "1.tar"]
    assert [example.caption for example in open_examples(two)] == ["2", "1"]


def test_a_webdataset_member_with_two_dots_is_no_second_picture(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"k.mask.png": png((1, 1, 1)), "k.png": png((7, 7, 7)), "k.cls": b"3"})
    (example,) = open_examples(path)
    assert example.key == "k" and example.image.getpixel((0, 0)) == (7, 7, 7)


def test_a_broken_example_raises_on_access_and_spares_the_others(tmp_path):
    files = captioned(extra=False) | {
        "bad1.png": png()[:40],
        "bad2.png": png(),
        "bad2.txt": b"\xff\xfe\xfa",
        "bad3.png": png(),
        "bad3.json": b"[1]",
        "bad4.png": png(),
        "bad4.json": b"[" * 50_000,
        "bad5.png": png(),
        "bad5.txt": b"x" * (MAX_TEXT_BYTES + 1),
    }
    for path in (write_files(tmp_path / "folder", files), write_tar(tmp_path / "shard.tar", files)):
        examples, good = open_examples(path), 0
        for i, entry in enumerate(examples.entries):
            if "bad" in entry.key:
                with pytest.raises(MediaError, match=entry.key.removesuffix(".png")) as caught:
                    examples[i]
                assert "\n" not in str(caught.value)
            else:
                good += examples[i].caption is not None
        assert good == 3


def test_pixels_beyond_the_limit_and_a_picture_listed_but_missing_are_media_errors(tmp_path):
    write_files(tmp_path, {"a.png": png(), "metadata.jsonl": b'{"file_name": "gone.png", "text": "x"}'})
    examples = open_examples(tmp_path, max_pixels=23)
    with pytest.raises(MediaError, match="24|6 x 4"):
        examples[0]
    with pytest.raises(MediaError, match=r"gone\.png"):
        examples[1]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/secret.png", "a/../../b.png", "..\\b.png", "C:b.png", "", "a\0.png"]
)
def test_metadata_cannot_point_outside_its_folder(tmp_path, name):
    write_files(tmp_path, {"in/a.png": png(), "secret.png": png()})
    (tmp_path / "in" / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "x"}))
    with pytest.raises(ValueError, match="line 1"):
        open_examples(tmp_path / "in")


@settings(max_examples=200, deadline=None)
@given(name=st.text(st.sampled_from("ab./\\:\0C "), max_size=8))
def test_a_name_either_stays_below_its_folder_or_is_refused(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "root"
    try:
        path = path_below(root, name)
    except ValueError:
        return
    assert path != root and path.resolve().is_relative_to(root.resolve())


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"text": "x"}', '{"file_name": 3}', '{"file_name": "a.png", "text": 3}', "\\"]
)
def test_a_malformed_line_of_metadata_is_named(tmp_path, line):
    write_files(tmp_path, {"a.png": png(), "metadata.jsonl": f'{{"file_name": "a.png"}}\n{line}'.encode()})
    with pytest.raises(ValueError, match=r"metadata\.jsonl, line 2"):
        open_examples(tmp_path)


def test_nothing_to_open_is_a_clear_error(tmp_path):
    write_files(tmp_path, {"notes.txt": b"hello"})
    write_tar(tmp_path / "empty.tar", {"a.txt": b"hello"})
    with pytest.raises(ValueError, match="no pictures"):
        open_examples(tmp_path)
    for wrong in ("missing", "notes.txt"):
        with pytest.raises(ValueError, match=f"{wrong}.*check the path"):
            open_examples(tmp_path / wrong)


def test_a_damaged_tar_is_refused_not_shortened(tmp_path):
    path = write_tar(tmp_path / "shard.tar", captioned())
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        third = tar.getmembers()[3]
    damaged = bytearray(whole)
    damaged[third.offset : third.offset + 20] = b"\x07" * 20
    for data in (bytes(damaged), whole[: third.offset + 100], b"\x1f\x8b" + whole[2:]):
        path.write_bytes(data)
        with pytest.raises(MediaError, match=r"shard\.tar"):
            open_examples(path)
    path.write_bytes(whole)
    examples = open_examples(path)
    path.write_bytes(whole[: third.offset_data + third.size - 3])  # the tar shrinks while it is in use
    assert examples[0].caption == CAPTIONS["a"]
    with pytest.raises(MediaError, match="cut off"):
        examples[1]


def test_links_and_devices_in_a_tar_are_passed_over(tmp_path):
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(ValueError, match="no pictures"):
        open_examples(path)


@needs_packs
def test_the_emoji_packs_open_as_webdataset(packs):
    examples = open_examples([packs / "images/emoji_fluent3d_train.tar", packs / "images/emoji_noto_train.tar"])
    assert len(examples) == 1379 + 1415
    first = examples[0]
    assert first.image.size == (128, 128) and first.caption and first.extra["style"] == "3D"
    assert all(examples.caption(i) for i in range(0, len(examples), 50))
    assert np.asarray(first.image)[0, 0].tolist() == [255, 255, 255]  # transparent there, so white
    blue = open_examples(packs / "images/emoji_noto_train.tar", background=(0, 0, 255))
    assert np.asarray(blue[0].image)[0, 0].tolist() == [0, 0, 255]


def test_a_caption_that_is_no_unicode_costs_its_own_example_alone(tmp_path):
    lines = [{"file_name": "a.png", "text": "a cup \ud83d"}, {"file_name": "b.png", "text": "a cup \U0001f375"}]
    write_files(tmp_path, {"a.png": png(), "b.png": png(), "metadata.jsonl": b"\n".join(map(json_bytes, lines))})
    examples = open_examples(tmp_path)
    with pytest.raises(MediaError, match=r"a\.png: its caption is no Unicode: half a character at 6"):
        examples.caption(0)
    assert examples.caption(1) == "a cup \U0001f375"


def json_bytes(value) -> bytes:
    return json.dumps(value).encode()
