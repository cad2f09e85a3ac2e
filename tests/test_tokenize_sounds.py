"""Laws of tokenizing sounds: exact, the same bytes whoever works and wherever it was killed, and back in full."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import needs_packs
from tests.test_audio import noise
from tests.test_shards import Fate, Killed
from tests.test_tokenize_files import contents_of, stranger
from tokenloom.data.audio import read_audio
from tokenloom.data.find_files import find_files
from tokenloom.data.shard_reader import ShardReader, verify
from tokenloom.data.write_audio import to_int16, write_audio
from tokenloom.pipelines.detokenize_files import detokenize
from tokenloom.pipelines.media_encoders import decode_sound, encode_sound
from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
from tokenloom.pipelines.tokenize_files import tokenize_sounds
from tokenloom.pipelines.workers import here, processes
from tokenloom.scripts import cli

MULAW = open_audio_tokenizer("mulaw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five sounds of four contents and three formats; one of them cut off."""
    root = tmp_path_factory.mktemp("sounds")
    write_audio(root / "a.wav", noise(20_011), 16_000)
    write_audio(root / "b.flac", noise(30_000, channels=2), 44_100)
    write_audio(root / "c.mp3", noise(9_000), 24_000)
    (root / "deep").mkdir()
    shutil.copy(root / "a.wav", root / "deep" / "again.wav")
    (root / "broken.wav").write_bytes((root / "a.wav").read_bytes()[:3_000])
    return root


def sounds(paths, out, tokenizer=MULAW, **options):
    return tokenize_sounds(find_files(paths, "audio"), out, tokenizer, show_progress=False, **options)


def test_sounds_become_ids_with_time_first_and_come_back_within_a_step(folder, tmp_path, capsys):
    summary = sounds([folder], tmp_path)
    assert (summary.tokenized, summary.files, list(summary.failed)) == (3, 4, ["broken.wav"])
    assert len([line for line in capsys.readouterr().err.splitlines() if "broken.wav" in line]) == 1
    reader = ShardReader(tmp_path / "audio")
    assert reader.manifest["dtype"] == "uint8" and reader.files["deep/again.wav"] == reader.files["a.wav"]
    back = detokenize(tmp_path / "audio", tmp_path / "back", MULAW, show_progress=False)
    assert (back.files, back.failed) == (4, {})
    for name in ("a.wav", "b.flac", "c.mp3"):
        sound = read_audio(folder / name)
        content = reader.files[name]
        assert reader.shape(content) == (sound.shape[1], 1)
        assert reader.media(content)["samples"] == sound.shape[1]
        assert torch.equal(reader.ids(content).T[None], MULAW.encode(sound[None]))
        heard = read_audio((tmp_path / "back" / name).with_suffix(".wav"))
        assert ((heard - sound).abs() <= MULAW.max_error(sound) + 2**-15).all()  # wav rounds to 16 bits
    assert reader.media(reader.files["a.wav"])["levels"] == {"peak_db": -6.02, "rms_db": -10.83, "clipped": 0}
    assert verify(tmp_path) == []


def test_the_bytes_are_the_same_for_any_number_of_workers(folder, tmp_path):
    for name, crew in {"here": here, "2": processes(2)}.items():
        sounds([folder], tmp_path / name, crew=crew)
    assert contents_of(tmp_path / "here") == contents_of(tmp_path / "2")


def test_the_rate_is_part_of_what_the_ids_are(folder, tmp_path):
    sounds([folder / "a.wav"], tmp_path)
    with pytest.raises(ValueError, match="fingerprint"):
        sounds([folder / "a.wav"], tmp_path, open_audio_tokenizer("mulaw-8000"))
    with pytest.raises(ValueError, match="got one with fingerprint"):
        detokenize(tmp_path / "audio", tmp_path / "back", open_audio_tokenizer("mulaw-8000"))


@pytest.mark.parametrize("length", [1, 777, 4_096])
def test_a_sound_in_any_blocks_goes_there_and_back(length):
    sound = noise(4_099)
    ids, samples = encode_sound(sound.split(length, dim=1), MULAW)
    assert samples == 4_099 and ids.shape == (4_099, 1)
    blocks = list(decode_sound(torch.from_numpy(ids).long().split(500), samples, MULAW))
    assert torch.equal(torch.cat(blocks, dim=1), MULAW.decode(MULAW.encode(sound[None]))[0])


@pytest.mark.parametrize("samples", [None, 0, 20_010, "20011", [20_011, 1], 10**12])
def test_a_length_that_the_ids_do_not_have_is_refused(folder, tmp_path, samples):
    sounds([folder / "a.wav"], tmp_path)
    stranger(tmp_path / "audio", lambda m: next(iter(m["contents"].values()))["media"].update(samples=samples))
    summary = detokenize(tmp_path / "audio", tmp_path / "back", MULAW, show_progress=False)
    assert list(summary.failed) == ["a.wav"] and not list((tmp_path / "back").glob("*"))


def test_a_fault_before_or_after_any_write_or_rename_changes_no_byte(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    few = [folder / name for name in ("a.wav", "broken.wav")]
    sounds(few, tmp_path / "reference")
    expected = contents_of(tmp_path / "reference")
    end, killed = 0, True
    while killed:
        out = tmp_path / f"out{end}"
        with pytest.MonkeyPatch.context() as patch:
            Fate(end, patch)
            try:
                sounds(few, out)
            except Killed:
                end += 1
            else:
                killed = False
        sounds(few, out)
        assert contents_of(out) == expected, f"killed at step {end}"
    assert end >= 10


def test_the_command_takes_sounds_by_their_suffix(folder, tmp_path, capsys):
    shards, back = tmp_path / "shards", tmp_path / "back"
    words = [str(folder / "a.wav"), str(folder / "c.mp3"), "--out", str(shards), "--workers", "1"]
    assert cli.main(["tokenize", *words]) == 0
    assert [path.name for path in shards.iterdir()] == ["audio"]
    assert cli.main(["detokenize", str(shards), "--out", str(back)]) == 0
    assert sorted(path.name for path in back.iterdir()) == ["a.wav", "c.wav"]
    assert cli.main(["tokenize", str(folder / "a.wav"), "--out", str(tmp_path / "s"), "--tokenizer", "nobody"]) == 1
    assert "no audio tokenizer called 'nobody'" in capsys.readouterr().err


def test_what_is_written_is_the_same_bytes_in_any_blocks_or_nothing(tmp_path):
    sound = noise(10_000, channels=2)
    for suffix in (".wav", ".flac", ".ogg", ".mp3"):
        write_audio(tmp_path / f"one{suffix}", sound, 22_050)
        write_audio(tmp_path / f"two{suffix}", sound.split(777, dim=1), 22_050)
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    with pytest.raises(ValueError, match=r"written as \.wav"):
        write_audio(tmp_path / "a.mid", sound, 16_000)
    with pytest.raises(ValueError, match="at least one sample"):
        write_audio(tmp_path / "a.wav", sound[:, :0], 16_000)
    with pytest.raises(ValueError, match="1 to 2 channels"):
        write_audio(tmp_path / "a.mp3", noise(9, channels=3), 16_000)
    with pytest.raises(ValueError, match="must be finite"):
        write_audio(tmp_path / "a.wav", sound / 0, 16_000)
    assert not [path for path in tmp_path.iterdir() if path.stem not in ("one", "two")]
    assert to_int16(torch.tensor([-2.0, -1, 0, 1, 2])).tolist() == [-32768, -32768, 0, 32767, 32767]


@needs_packs
def test_a_corrupt_mp3_among_real_sounds_is_reported_and_skipped(packs, tmp_path):
    found = [path for path in sorted((packs / "reallife" / "audio").iterdir()) if path.stat().st_size < 120_000]
    (tmp_path / "text.mp3").write_bytes(b"no sound at all " * 400)
    summary = sounds([*found, tmp_path / "text.mp3"], tmp_path / "out", open_audio_tokenizer("mulaw-8000"))
    assert summary.files == len(found) > 5
    assert [Path(name).name for name in summary.failed] == ["text.mp3"]
