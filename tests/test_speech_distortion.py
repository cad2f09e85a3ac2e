"""Laws of pipelines/speech_distortion.py: all are judged in step and by what they spend, with visible skips."""

import json
import math
import shutil

import pytest
import torch

from tests.doubles import toy_audio_tokenizer, toy_units_tokenizer
from tokenloom.data.write_audio import write_audio
from tokenloom.pipelines.speech_distortion import SpeechRate, codec2, compare_codecs, delay, judged, mean, opus
from tokenloom.scripts import speech_distortion
from tokenloom.tokenizers.vocoder import SAMPLE_RATE


def bursts(seconds: float = 1.5) -> torch.Tensor:
    """Noise that comes and goes at random, (1, 1, S)."""
    samples, generator = int(seconds * SAMPLE_RATE), torch.Generator().manual_seed(0)
    loudness = torch.rand(1, 1, int(20 * seconds), generator=generator)
    loudness = torch.nn.functional.interpolate(loudness, samples, mode="linear")
    return (0.3 * loudness * torch.randn(1, 1, samples, generator=generator)).clamp(-1, 1)


@pytest.mark.parametrize("late", [-480, 0, 16, 720])
def test_the_delay_of_a_codec_is_found_whatever_becomes_of_phases(late):
    sound = bursts()
    other = torch.roll(-sound.sign() * sound.abs() ** 1.1, late, dims=2)
    assert delay(other, sound) == late
    assert judged(torch.roll(sound, late, dims=2), sound, 0).si_sdr > 10


def test_what_comes_back_as_it_was_is_perfect_and_bits_are_per_second():
    rate = judged(bursts(), bursts(), 3000)
    assert rate.si_sdr == 100 and rate.bits_per_second == pytest.approx(2000)
    assert rate.stoi == pytest.approx(1) or math.isnan(rate.stoi)


def test_a_sound_that_is_too_short_for_figures_is_refused():
    with pytest.raises(ValueError, match="a sound must last at least 0.4 s, got 0.010 s"):
        compare_codecs(toy_audio_tokenizer(), torch.zeros(1, 1, SAMPLE_RATE // 100))


def test_opus_gives_the_sound_back_for_about_6_kilobits():
    heard, bits = opus(bursts(3.0))
    assert abs(heard.shape[2] - 3 * SAMPLE_RATE) < SAMPLE_RATE / 10 and 9_000 < bits < 24_000
    assert abs(delay(heard, bursts(3.0))) <= 160


@pytest.mark.skipif(shutil.which("c2enc") is None, reason="needs the Debian package codec2")
def test_codec2_spends_what_its_mode_says():
    run = codec2(3200)
    assert run is not None
    heard, bits = run(bursts(3.0))
    assert bits == pytest.approx(9600, rel=0.02) and abs(heard.shape[2] - 3 * SAMPLE_RATE) <= 2 * 320


def test_codec2_is_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert codec2(3200) is None
    ways = compare_codecs(toy_audio_tokenizer(), bursts())
    assert list(ways) == ["opus", "1 codebooks", "2 codebooks", "3 codebooks"]
    assert [ways[f"{count} codebooks"][0].bits_per_second for count in (1, 2, 3)] == pytest.approx([150, 300, 450])


def test_speech_units_are_compared_at_their_one_rate(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    ways = compare_codecs(toy_units_tokenizer(), bursts())
    assert list(ways) == ["opus", "1 codebooks"]
    assert ways["1 codebooks"][0].bits_per_second == pytest.approx(3 * 25)


def test_a_mean_is_that_of_each_figure():
    assert mean([SpeechRate(1, 2, 3, 4), SpeechRate(3, 4, 5, 6)]) == SpeechRate(2, 3, 4, 5)


def test_the_script_judges_each_file_skips_what_it_cannot_read_and_writes_sounds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    toy_audio_tokenizer().save_pretrained(tmp_path / "voice")
    folder = tmp_path / "speech"
    write_audio(folder / "noise.wav", bursts()[0], SAMPLE_RATE)
    (folder / "broken.wav").write_bytes(b"no sound")
    options = ["--data", str(folder), "--out", str(tmp_path / "out"), "--seconds", "1"]
    arguments = ["--tokenizer", str(tmp_path / "voice"), *options]
    assert speech_distortion.run(speech_distortion.build_parser().parse_args(arguments)) == 1
    said = capsys.readouterr()
    assert "mean of 1" in said.out and "broken.wav" in said.err and "no c2enc" in said.err
    report = json.loads((tmp_path / "out" / "speech_distortion.json").read_text())
    assert len(report["files"]) == 1 and report["mean"]["3 codebooks"]["bits_per_second"] == pytest.approx(450)
    assert len(list((tmp_path / "out").glob("*.wav"))) == 4


def test_a_tokenizer_without_training_is_refused(tmp_path):
    arguments = ["--tokenizer", "mulaw", "--data", str(tmp_path)]
    with pytest.raises(ValueError, match="must be a learned sound tokenizer"):
        speech_distortion.run(speech_distortion.build_parser().parse_args(arguments))
