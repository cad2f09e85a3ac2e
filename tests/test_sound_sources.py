"""Laws of pipelines/sound_sources.py: batches come from (seed, number) alone, files are held apart, pieces vary."""

import math

import pytest
import torch
from torch import Tensor

from tokenloom.data.write_audio import write_audio
from tokenloom.pipelines.picture_sources import HELD_OUT, VALIDATION_NUMBER
from tokenloom.pipelines.sound_sources import LOUDNESS, SPEEDS, cut, open_sound_source, varied

RATE, SAMPLES = 8000, 800


def tone(hz: float, samples: int) -> Tensor:
    return 0.1 * torch.sin(2 * math.pi * hz / RATE * torch.arange(samples))[None]


def loudest(sound: Tensor) -> float:
    """Hz of the strongest bin of a sound (1, S)."""
    return float(torch.fft.rfft(sound[0]).abs().argmax()) * RATE / sound.shape[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty tones, the last of which is held out."""
    path = tmp_path_factory.mktemp("tones")
    for number in range(HELD_OUT):
        write_audio(path / f"{number:02}.wav", tone(1000 + 100 * number, 4000), RATE)
    return path


def test_a_batch_is_a_pure_function_of_seed_and_number(folder):
    one, other = (open_sound_source([str(folder)], SAMPLES, RATE, seed=3) for _ in range(2))
    other(7, 4)
    batches = [source(5, 4)[0] for source in (one, other)]
    assert batches[0].shape == (4, 1, SAMPLES) and batches[0].dtype == torch.float32
    assert torch.equal(*batches) and not torch.equal(batches[0], one(6, 4)[0])
    assert not torch.equal(batches[0], open_sound_source([str(folder)], SAMPLES, RATE, seed=4)(5, 4)[0])


def test_validation_hears_its_own_files_as_they_are_and_training_never_does(folder):
    source = open_sound_source([str(folder)], SAMPLES, RATE, seed=0)
    held_out = 1000 + 100 * (HELD_OUT - 1)
    for piece in source(VALIDATION_NUMBER, 8)[0]:
        assert loudest(piece) == pytest.approx(held_out, abs=RATE / SAMPLES)
        assert float(piece.abs().max()) == pytest.approx(0.1, abs=1e-3)
    source.sources[0].draw.read = lambda index, generator: (torch.tensor([[float(index)]]), "")
    drawn = source.sources[0].draw(0, 500)[0].flatten().int().tolist()
    assert set(drawn) == set(range(HELD_OUT - 1))


def test_sources_are_mixed_in_their_shares(folder, tmp_path):
    write_audio(tmp_path / "low.wav", tone(200, 4000), RATE)
    pieces, captions = open_sound_source([f"{folder}:3", f"{tmp_path}:1"], SAMPLES, RATE, seed=0)(0, 8)
    low = [loudest(piece) < 300 for piece in pieces]
    assert low == [False] * 6 + [True] * 2 and captions == [""] * 8


def test_a_broken_file_is_passed_over(folder, tmp_path):
    write_audio(tmp_path / "good.wav", tone(500, 4000), RATE)
    (tmp_path / "bad.wav").write_bytes(b"RIFF no sound")
    source = open_sound_source([str(tmp_path)], SAMPLES, RATE, seed=0)
    assert source(0, 8)[0].any(-1).all() and len(source.sources[0].draw.bad) == 1


def test_long_files_are_read_where_a_piece_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenloom.pipelines.sound_sources.WHOLE_SECONDS", 0.2)
    sound = torch.linspace(0, 1, 40_000)[None]
    write_audio(tmp_path / "ramp.wav", sound, RATE)
    source = open_sound_source([str(tmp_path)], SAMPLES, RATE, seed=0)
    pieces = source(VALIDATION_NUMBER, 4)[0]
    torch.testing.assert_close(pieces.diff().mean((1, 2)), torch.full((4,), 1 / 40_000), rtol=0.05, atol=0)
    assert len(pieces[:, 0, 0].unique()) == 4 and not source.sources[0]._cache


def test_a_short_sound_lies_in_silence_where_chance_says():
    for start, before in ((0.0, 0), (0.999, 3)):
        assert cut(torch.ones(1, 2), 5, start)[0].tolist() == [0] * before + [1, 1] + [0] * (3 - before)
    assert cut(torch.arange(5.0)[None], 2, 0.999)[0].tolist() == [3, 4]


def test_a_tone_changes_its_pitch_with_the_speed_and_its_loudness_within_the_bounds():
    generator = torch.Generator().manual_seed(0)
    piece = tone(1000, SAMPLES * SPEEDS[1] // 100)
    made = [varied(piece, SAMPLES, generator) for _ in range(50)]
    ratios = [100 * loudest(sound) / 1000 for sound in made]
    assert min(ratios) < 85 and max(ratios) > 120
    assert min(ratios) > SPEEDS[0] - 2 and max(ratios) < SPEEDS[1] + 2
    levels = [float(sound.square().mean().sqrt()) for sound in made]
    assert LOUDNESS[0] * 0.99 < min(levels) < 0.015 and 0.15 < max(levels) < LOUDNESS[1] * 1.01
    assert all(float(sound.abs().max()) <= 1 for sound in made)
