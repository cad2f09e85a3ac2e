"""Tokens of sound compared: the same arithmetic for each, counted as torch counts it, and figures of what they are."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.doubles import toy_audio_tokenizer, toy_units_tokenizer
from tokenloom.data.write_audio import write_audio
from tokenloom.pipelines.compare import count_flops
from tokenloom.pipelines.compare_sound_tokens import (
    SoundTokens,
    SoundTokensRow,
    bits_per_second,
    compare_sound_tokens,
    parse_sound_tokens,
    table,
    training_flops,
)
from tokenloom.pipelines.prepare_speech import digit_speech, new_speech_model
from tokenloom.pipelines.speech_model import SpeechModel
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_speech import TextToSpeechPipeline
from tokenloom.pipelines.train_speech import SpeechRecipe
from tokenloom.scripts import cli

SHAPE = {"width": 32, "num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Recordings of two voices, a tone for each digit, 8 kHz."""
    folder = tmp_path_factory.mktemp("digits")
    for digit in range(10):
        for speaker, octave in (("ann", 1), ("bo", 2)):
            for take in range(5):
                wave = torch.sin(2 * math.pi * octave * (150 + 20 * digit) / 8000 * torch.arange(400 + 40 * take))
                write_audio(folder / f"{digit}_{speaker}_{take}.wav", 0.3 * wave[None], 8000)
    return folder


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tokenizers")
    toy_audio_tokenizer().save_pretrained(folder / "codec")
    toy_units_tokenizer().save_pretrained(folder / "units")
    return {"codec": str(folder / "codec"), "units": str(folder / "units"), "mulaw": "mulaw-8000"}


def new_model(name: str, codebooks: int, folder: Path) -> SpeechModel:
    how = {"tokenizer": name, "codebooks": codebooks, "seconds": 0.2, "seed": 0}
    return new_speech_model(["ann: one"], folder, **how, **SHAPE)


def test_names_with_and_without_a_number_of_codebooks():
    assert parse_sound_tokens("tokenloom-voice:3") == SoundTokens("tokenloom-voice", 3)
    assert parse_sound_tokens("mulaw-8000") == SoundTokens("mulaw-8000", 1)
    for spec in ("", ":2", "voice:", "voice:0", "voice:two", "voice:-1", "voice:99"):
        with pytest.raises(ValueError, match="tokens are NAME or NAME:CODEBOOKS"):
            parse_sound_tokens(spec)


@pytest.mark.parametrize(("kind", "codebooks", "rate"), [("codec", 2, 50), ("units", 1, 25), ("mulaw", 1, 8000)])
def test_a_model_of_any_tokens_is_saved_and_says_the_same(kind, codebooks, rate, tokenizers, tmp_path):
    model = new_model(tokenizers[kind], codebooks, tmp_path)
    model.tasks = ["speak"]
    codes = model.transformer.sound.num_codes
    assert model.steps_per_second == rate
    assert bits_per_second(model) == pytest.approx(rate * codebooks * math.log2(codes))
    model.save_pretrained(tmp_path / "model")
    again = SpeechModel.from_pretrained(tmp_path / "model")
    for decoder in ("ar", "masked"):
        one, other = (
            TextToSpeechPipeline(m)("one", decoder=decoder, seconds=0.1, generator=seeded(0, 1)).sounds[0]
            for m in (model, again)
        )
        assert one.numel() and torch.equal(one, other)
    sound = 0.2 * torch.rand(1, 700)
    codes_of = model.encode([sound, sound[:, :500]])
    back = model.decode(codes_of)
    whole = model.audio_tokenizer.decode(model.audio_tokenizer.encode(sound[None])[:, :codebooks])
    assert torch.equal(back[0], whole[0])


def test_a_step_is_counted_forward_and_backward(digits, tokenizers, tmp_path):
    """Per row of a product with a weight, 2 operations a weight forward and twice that backward, and attention."""
    model = new_model(tokenizers["codec"], 2, tmp_path)
    data = digit_speech(digits, 0, sample_rate=16_000, max_digits=1)
    counted = [
        training_flops(
            model, SpeechRecipe(decoders=("ar",), shares={"speak": 1.0}, steps=1, batch_size=count, seed=0), data
        )
        for count in (2, 8)
    ]
    assert counted[1] > 3 * counted[0]
    assert all(parameter.grad is None for parameter in model.transformer.parameters())
    weights = sum(block.numel() for name, block in model.transformer.blocks.named_parameters() if "weight" in name)
    sounds = model.encode([one.sound for one in data.said(0, 8)])
    tokens = int(sounds.real.sum())
    assert counted[1] > 6 * tokens * weights * 0.9
    assert counted[1] > count_flops(lambda: model.transformer.blocks[0].mlp_in(torch.zeros(tokens, 32)))


def test_each_gets_the_same_arithmetic_and_a_row(digits, tokenizers, tmp_path):
    def judges(voices):
        return {voice: lambda sounds, rate: ["one"] * len(sounds) for voice in voices}

    asked = [SoundTokens(tokenizers["codec"], 2), SoundTokens(tokenizers["units"], 1), SoundTokens("mulaw-8000", 1)]
    seen: list[SoundTokensRow] = []
    how = {"teraflops": 2e-3, "strings": 10, "seed": 0, "shape": SHAPE, "say": lambda line: None}
    rows = compare_sound_tokens(asked, digits, judges, tmp_path, done=seen.append, **how)
    assert rows == seen and [row.tokens for row in rows] == list(map(str, asked))
    for row in rows:
        assert row.teraflops == pytest.approx(2e-3, rel=0.5) or row.steps == 1
        assert row.said == 20 and row.recognized == pytest.approx(0.1) and row.train_seconds > 0
    assert rows[0].steps > rows[2].steps * rows[2].batch_size / rows[0].batch_size
    lines = table(rows).splitlines()
    assert len(lines) == 5 and lines[4].startswith("| mulaw-8000:1 | 64,000 | 8,000 |")


def test_the_command_writes_a_table(digits, tokenizers, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "tokenloom.pipelines.evaluate_speech.open_judges", lambda folder, voices: dict.fromkeys(voices, None)
    )
    monkeypatch.setattr(
        "tokenloom.pipelines.evaluate_speech.judge_of", lambda found: lambda sounds, rate: ["two"] * len(sounds)
    )
    words = ["compare-sound-tokens", f"{tokenizers['codec']}:1", "--digits", digits, "--judges", tmp_path]
    words += ["--out", tmp_path / "out", "--teraflops", "0.0005", "--strings", "2", "--width", "32", "--layers", "1"]
    assert cli.main([*map(str, words)]) == 0
    assert "| bits a second |" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "table.json").read_text())
    assert report["rows"][0]["said"] == 4 and report["seed"] == 0
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(word).replace("codec:1", "codec:x") for word in words])
    assert "tokens are NAME or NAME:CODEBOOKS" in capsys.readouterr().err
