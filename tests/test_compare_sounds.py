"""Sounds compared: figures mean what they say, the page plays every sound, runs differ in seconds alone."""

import base64
import copy
import json

import pytest
import torch

from tests.test_report import Page
from tests.test_speech import toy_model
from tokenloom.data.audio import read_audio
from tokenloom.models.token_decoder import TokenDecoder
from tokenloom.pipelines.compare_sounds import (
    compare_sounds,
    evaluations,
    own_hearing,
    write_sound_comparison,
)
from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_speech import SpeechToTextPipeline, TextToSpeechPipeline, speech_settings
from tokenloom.scripts import cli

TEXTS = ("high low", "low")


def compared(hear=None):
    pipeline = TextToSpeechPipeline(toy_model())
    return compare_sounds(
        pipeline, TEXTS, DECODERS, count=2, seed=3, guidance_scale=1.5, speaker="ann", hear=hear, model="toy"
    )


def without_seconds(report: dict) -> dict:
    report = copy.deepcopy(report)
    for item in (*report["decoders"], *(cell for row in report["prompts"] for cell in row["decoders"])):
        assert item.pop("seconds") > 0
    return report


def test_two_runs_differ_in_nothing_but_the_seconds_and_play_what_the_pipeline_says(tmp_path):
    runs = [compared(), compared()]
    assert without_seconds(runs[0].report) == without_seconds(runs[1].report)
    write_sound_comparison(tmp_path, runs[0])
    assert json.loads((tmp_path / "report.json").read_text()) == runs[0].report
    pipeline = TextToSpeechPipeline(toy_model())
    for column, decoder in enumerate(DECODERS):
        entries = [entry for row in runs[0].report["prompts"] for entry in row["decoders"][column]["drawings"]]
        assert [entry["seed"] for entry in entries] == [3, 4, 5, 6]
        for number, text in enumerate(TEXTS):
            how = {"speaker": "ann", "decoder": decoder, "guidance_scale": 1.5}
            said = pipeline([text] * 2, generator=seeded(3 + 2 * number, 2), **how).sounds
            for entry, sound in zip(entries[2 * number : 2 * number + 2], said, strict=True):
                assert torch.equal(runs[0].drawings[entry["file"]], sound)
                written = read_audio(tmp_path / entry["file"], sample_rate=16_000)
                torch.testing.assert_close(written, sound.clamp(-1, 1), atol=1e-4, rtol=0)


def test_the_page_says_whose_voice_each_seed_drew(tmp_path):
    pipeline = TextToSpeechPipeline(toy_model())
    found = compare_sounds(pipeline, ["high"], DECODERS, count=8, seed=3, guidance_scale=1.5, model="toy")
    write_sound_comparison(tmp_path, found)
    page = (tmp_path / "report.html").read_text()
    for cell in found.report["prompts"][0]["decoders"]:
        speakers = [entry["speaker"] for entry in cell["drawings"]]
        assert speakers == pipeline(["high"] * 8, generator=seeded(3, 8)).speakers and set(speakers) == {"ann", "bo"}
        for entry in cell["drawings"]:
            assert f"seed {entry['seed']}, {entry['speaker']}<" in page


def test_verdicts_are_those_of_whoever_hears():
    heard = iter([["High, LOW!", "low"], ["high low", "high low"], ["", "x"], *[["low", "high"]] * 3])
    cells = [cell for row in compared(lambda sounds, rate: next(heard)).report["prompts"] for cell in row["decoders"]]
    assert [cell["passed"] for cell in cells] == [1, 2, 0, 1, 1, 1]
    silent = compared().report
    assert not any(row["judged"] for row in silent["prompts"]) and silent["decoders"][0]["judged"] == 0


def test_the_model_hears_what_it_writes():
    pipeline = TextToSpeechPipeline(toy_model())
    sounds = pipeline(["high", "low"], generator=seeded(0, 2)).sounds
    hear = own_hearing(pipeline)
    assert hear is not None and hear(sounds, 16_000) == SpeechToTextPipeline(pipeline.model)(sounds)
    pipeline.model.tasks = ["speak"]
    assert own_hearing(pipeline) is None


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_evaluations_are_runs_of_the_trunk(guidance_scale, monkeypatch):
    pipeline = TextToSpeechPipeline(toy_model())
    transformer, rows = pipeline.model.transformer, []
    trunk, decode = transformer.trunk, TokenDecoder.__call__

    def counted(x, *others):
        rows.append(len(x))
        return trunk(x, *others)

    def counted_token(decoder, x):
        rows.append(len(x))
        return decode(decoder, x)

    monkeypatch.setattr(transformer, "trunk", counted)
    monkeypatch.setattr(TokenDecoder, "__call__", counted_token)
    for decoder in DECODERS:
        rows.clear()
        how = {"decoder": decoder, "guidance_scale": guidance_scale, "seconds": 0.1, "num_inference_steps": 3}
        sound = pipeline("high", generator=seeded(1, 1), **how).sounds[0]
        steps = pipeline.model.audio_tokenizer.grid((sound.shape[1],))[1]
        settings = speech_settings(decoder, guidance_scale=guidance_scale, num_inference_steps=3)
        assert sum(rows[1:]) == evaluations(decoder, settings, steps, 2)  # the first reads the prompt


def test_the_page_plays_every_sound_and_shows_its_spectrogram(tmp_path):
    write_sound_comparison(tmp_path, compared(lambda sounds, rate: ["low <u>"] * len(sounds)))
    html = (tmp_path / "report.html").read_text()
    page = Page(html)
    assert page.tags.count("audio") == 12 and page.tags.count("img") == 12 and "u" not in page.tags
    sources = [value for name, value in page.attributes if name == "src"]
    assert all(source.startswith("data:") for source in sources)
    wav = base64.b64encode((tmp_path / "00-ar-00.wav").read_bytes()).decode()
    assert f"data:audio/wav;base64,{wav}" in sources
    assert "Says what was asked" in page.text and "voice ann" in page.text and "pixels" not in page.text


def test_the_command_compares_sounds(tmp_path, capsys):
    toy_model().save_pretrained(tmp_path / "model")
    run = ["compare", "low", "--modality", "audio", "--num-sounds", "1", "--model", str(tmp_path / "model")]
    assert cli.main([*run, "--speaker", "bo", "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["speaker"] == "bo" and report["guidance_scale"] == 1.5 and report["prompts"][0]["judged"]
    assert cli.main([*run, "--judge", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "must hold a judge" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", "a star", "--speaker", "bo", "--out", str(tmp_path)])
