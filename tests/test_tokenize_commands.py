"""`tokenloom tokenize` and `detokenize`: files in, the same files out, and what is said when that cannot be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenloom.data.video import read_video
from tokenloom.pipelines.open_tokenizer import KINDS, open_tokenizer
from tokenloom.scripts import cli
from tokenloom.tokenizers.patches import PaletteTokenizer
from tokenloom.tokenizers.text import TextTokenizer

COLORS = torch.tensor([[255, 255, 255], [215, 38, 38], [20, 26, 60]], dtype=torch.uint8)
TEXTS = {
    "a.txt": b"a red star\n",
    "deep/b.md": b"any bytes: \xff\xfe \x00",
    "deep/c.txt": "Öl 漢字 🦊".encode(),
}


@pytest.fixture
def tokenizers(tmp_path) -> str:
    """A folder laid out like a shipped model: both tokenizers, each in its part."""
    folder = tmp_path / "model"
    PaletteTokenizer.from_colors(COLORS).save_pretrained(folder / "image_tokenizer")
    TextTokenizer.train(["a red star and a ring"] * 3, vocab_size=270).save_pretrained(folder / "text_tokenizer")
    return str(folder)


@pytest.fixture
def media(tmp_path) -> Path:
    """Pictures in the colors of the palette, and texts, in nested folders."""
    root = tmp_path / "media"
    for name, data in TEXTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for name, size in {"x.png": (5, 3), "deep/y.bmp": (4, 7)}.items():
        image = Image.new("RGB", size, (215, 38, 38))
        image.putpixel((1, 2), (20, 26, 60))
        image.save(root / name)
    return root


def tokenize(*words: object) -> int:
    return cli.main(["tokenize", *map(str, words)])


def detokenize(*words: object) -> int:
    return cli.main(["detokenize", *map(str, words)])


def pixels(path: Path) -> list:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).tolist()


def test_detokenize_undoes_tokenize(media, tokenizers, tmp_path, capsys):
    shards, back = tmp_path / "shards", tmp_path / "back"
    assert tokenize(media, "--out", shards, "--tokenizer", tokenizers) == 0
    assert sorted(path.name for path in shards.iterdir()) == ["image", "text"]
    assert tokenize("--verify", shards) == 0
    assert detokenize(shards, "--out", back) == 0  # the shards tell the tokenizer
    for name, data in TEXTS.items():
        assert (back / "text" / name).read_bytes() == data
    assert pixels(back / "image" / "x.png") == pixels(media / "x.png")
    assert pixels(back / "image" / "deep" / "y.png") == pixels(media / "deep" / "y.bmp")
    shown = capsys.readouterr().out
    assert "text: 3 files tokenized (3 contents new, 0 there before), 0 failed" in shown
    assert "image: 2 files written, 0 failed" in shown


def test_a_mixed_folder_is_sorted_in_one_run(media, tokenizers, tmp_path, capsys):
    frames = [Image.new("RGB", (8, 6), tuple(color)) for color in COLORS.tolist()]
    frames[0].save(media / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    shards, back = tmp_path / "shards", tmp_path / "back"
    assert tokenize(media, "--out", shards, "--tokenizer", tokenizers, "--workers", 2) == 0
    assert sorted(path.name for path in shards.iterdir()) == ["image", "text", "video"]
    assert cli.main(["tokenize-video", str(media), "--out", str(tmp_path / "alone"), "--tokenizer", tokenizers]) == 0
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["video"]
    for path in (tmp_path / "alone" / "video").iterdir():
        assert path.read_bytes() == (shards / "video" / path.name).read_bytes()
    assert detokenize(shards, "--out", back) == 0
    clip = torch.cat(list(read_video(back / "video" / "moving.mp4")), dim=1)
    assert clip.shape == (3, 3, 6, 8)
    shown = clip[:, :, 3, 4].T.float()  # one pixel of each frame
    assert (shown - COLORS.float()).abs().max() < 12


def test_a_second_run_changes_no_byte(media, tokenizers, tmp_path, capsys):
    shards = tmp_path / "shards"
    words = [media, "--out", shards, "--tokenizer", tokenizers]
    assert tokenize(*words) == 0
    before = {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert tokenize(*words) == 0
    assert {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()} == before
    assert "image: 2 files tokenized (0 contents new, 2 there before)" in capsys.readouterr().out


@pytest.mark.parametrize(("choice", "made"), [("image", ["image"]), ("text", ["text"])])
def test_the_modality_can_be_chosen(choice, made, media, tokenizers, tmp_path):
    assert tokenize(media, "--out", tmp_path / "s", "--tokenizer", tokenizers, "--modality", choice) == 0
    assert [path.name for path in (tmp_path / "s").iterdir()] == made


def test_auto_takes_what_is_there(media, tokenizers, tmp_path):
    words = ["--out", tmp_path / "s", "--tokenizer", tokenizers]
    assert tokenize(media / "x.png", media / "deep" / "y.bmp", *words) == 0
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["image"]
    assert detokenize(tmp_path / "s", "--out", tmp_path / "b") == 0
    assert sorted(path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*.png")) == [
        "deep/y.png",
        "x.png",
    ]


def test_a_file_of_any_suffix_is_text_when_told_so(tokenizers, tmp_path, capsys):
    odd = tmp_path / "notes.org"
    odd.write_bytes(b"* heading")
    words = [odd, "--out", tmp_path / "s", "--tokenizer", tokenizers]
    assert tokenize(*words) == 1
    assert "notes.org: its suffix does not tell what it holds" in capsys.readouterr().err
    assert tokenize(*words, "--modality", "text") == 0
    assert detokenize(tmp_path / "s", "--out", tmp_path / "b") == 0
    assert (tmp_path / "b" / "notes.org").read_bytes() == b"* heading"


def test_one_bad_file_does_not_stop_the_others(media, tokenizers, tmp_path, capsys):
    (media / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    assert tokenize(media, "--out", tmp_path / "s", "--tokenizer", tokenizers) == 1
    shown = capsys.readouterr()
    assert "image: 2 files tokenized" in shown.out and "1 failed" in shown.out
    assert [line for line in shown.err.splitlines() if "broken.png" in line]
    assert detokenize(tmp_path / "s", "--out", tmp_path / "b") == 0


def test_a_changed_byte_is_found(media, tokenizers, tmp_path, capsys):
    assert tokenize(media, "--out", tmp_path / "s", "--tokenizer", tokenizers) == 0
    shard = next((tmp_path / "s" / "text").glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert tokenize("--verify", tmp_path / "s") == 1
    assert capsys.readouterr().err.count(shard.name) == 1


def test_ids_of_another_tokenizer_are_refused(media, tokenizers, tmp_path, capsys):
    assert tokenize(media, "--out", tmp_path / "s", "--tokenizer", tokenizers, "--modality", "image") == 0
    other = tmp_path / "other"
    PaletteTokenizer.from_colors(COLORS.flip(0)).save_pretrained(other)
    capsys.readouterr()
    assert detokenize(tmp_path / "s", "--out", tmp_path / "b", "--tokenizer", other) == 1
    assert "fingerprint" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "files or folders and --out DIR are needed"),
        (["x.png"], "files or folders and --out DIR are needed"),
        (["--verify", "shards", "x.png"], "--verify takes its folder and nothing else"),
        (["x.png", "--out", "s", "--size", "0"], "--size must be at least 1"),
        (["x.png", "--out", "s", "--fps", "0"], "--fps must be more than 0"),
        (["x.png", "--out", "s", "--workers", "0"], "--workers must be at least 1"),
        (["x.png", "--out", "s", "--device", "meta", "--workers", "2"], "used by one process"),
        (["x.png", "--out", "s", "--modality", "smell"], "invalid choice"),
        (["x.png", "--out", "s", "--device", "abacus"], "--device abacus cannot be used here"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words, told, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        tokenize(*words)
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["missing.png"], ["."]], ids=["missing", "empty"])
def test_nothing_to_do_is_one_line_and_exit_code_1(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert tokenize(*words, "--out", "s") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("modality", KINDS)
def test_what_is_taken_when_no_tokenizer_is_named_ships(modality):
    assert open_tokenizer(modality, KINDS[modality].default, "cpu").vocab_size >= 256


@pytest.mark.parametrize(
    "content", [b"{", b"\xff{}", b"[" * 100_000, b"7", b"{}"], ids=lambda content: str(content[:8])
)
@pytest.mark.parametrize("suffix", [".png", ".gif", ".wav"])
def test_a_tokenizer_with_a_broken_config_is_one_line_that_names_it(suffix, content, tmp_path, capsys):
    file, broken = tmp_path / f"a{suffix}", tmp_path / "broken"
    file.write_bytes(b"GIF89a")
    broken.mkdir()
    (broken / "config.json").write_bytes(content)
    words = ("--tokenizer", str(broken), "--workers", "1", "--out", str(tmp_path / "out"))
    modality = {".png": "image", ".gif": "video", ".wav": "audio"}[suffix]
    assert cli.main(["tokenize", str(file), "--modality", modality, *words]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and str(broken) in shown


def test_an_unknown_tokenizer_is_one_line(media, tmp_path, capsys):
    assert tokenize(media / "a.txt", "--out", tmp_path / "s", "--tokenizer", "nobody/knows") == 1
    shown = capsys.readouterr().err
    assert "no text tokenizer called 'nobody/knows'" in shown and shown.count("\n") == 1
    assert detokenize(tmp_path / "s", "--out", tmp_path / "b") == 1
    assert "no token shards there" in capsys.readouterr().err


def test_originals_are_kept_unless_they_may_be_replaced(media, tokenizers, tmp_path, capsys):
    originals = {path: path.read_bytes() for path in media.rglob("*") if path.is_file()}
    assert tokenize(media / "x.png", "--out", tmp_path / "shards", "--tokenizer", tokenizers) == 0
    assert detokenize(tmp_path / "shards", "--out", media) == 1
    assert "x.png is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in media.rglob("*") if path.is_file()} == originals
    assert detokenize(tmp_path / "shards", "--out", media, "--overwrite") == 0


@pytest.mark.parametrize(
    ("modality", "name", "is_of", "needed"),
    [
        ("image", "tokenloom-voice", "sounds", "pictures"),
        ("image", "tokenloom-footage", "clips", "pictures"),
        ("video", "tokenloom-voice", "sounds", "pictures"),
        ("audio", "tokenloom-photo", "pictures", "sounds"),
    ],
)
def test_a_tokenizer_of_other_media_is_named(tmp_path, capsys, modality, name, is_of, needed):
    (tmp_path / "file").write_bytes(b"anything")
    words = ["tokenize", tmp_path / "file", "--modality", modality, "--tokenizer", name, "--out", tmp_path / "shards"]
    assert cli.main([str(word) for word in words]) == 1
    assert f"{name} is a tokenizer of {is_of}, and one of {needed} is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["TEXT", "--size", "32"], "--size is of pictures and clips, and there are only text files"),
        (["TEXT", "--fps", "3"], "--fps is of clips, and there are only text files"),
        (["--verify", "FOLDER", "--fps", "3"], "--verify takes its folder and nothing else"),
        (["--verify", "FOLDER", "--tokenizer", "nothing"], "--verify takes its folder and nothing else"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, capsys, words, told):
    (tmp_path / "a.txt").write_text("text")
    found = [word.replace("TEXT", str(tmp_path / "a.txt")).replace("FOLDER", str(tmp_path)) for word in words]
    out = [] if "--verify" in words else ["--out", str(tmp_path / "shards")]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["tokenize", *found, *out])
    assert told in capsys.readouterr().err and not (tmp_path / "shards" / "text").exists()
