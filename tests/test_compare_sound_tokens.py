"""Tokens of sound compared: the same arithmetic for each, counted as torch counts it, and figures of what they are."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.doubles import toy_audio_tokenizer, toy_units_tokenizer
from tokenloom.data.write_audio import write_audio
from tokenloom.pipelines import evaluate_speech
from tokenloom.pipelines.compare_sound_tokens import (
    SoundTokens,
    TokensTrial,
    compare_sound_tokens,
    parse_sound_tokens,
    table,
    training_flops,
)
from tokenloom.pipelines.prepare_speech import digit_speech, new_speech_model
from tokenloom.pipelines.speech_batches import SpeechBatches, SpeechRecipe
from tokenloom.pipelines.speech_model import SpeechModel
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_speech import TextToSpeechPipeline
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
    bits = model.audio_tokenizer.bits_per_second(codebooks)
    assert bits == pytest.approx(rate * codebooks * math.log2(codes))
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


def test_a_step_of_the_transformer_is_counted_forward_and_backward(digits, tokenizers, tmp_path, monkeypatch):
    """Each weight of a product takes 2 operations a token forward and 4 backward; attention comes on top."""
    model = new_model(tokenizers["codec"], 2, tmp_path)
    data = digit_speech(digits, 0, sample_rate=16_000, max_digits=1)
    recipe = SpeechRecipe(decoders=("ar",), shares={"speak": 1.0}, steps=1, batch_size=8, seed=0)
    counted = training_flops(model, recipe, data)
    assert all(parameter.grad is None for parameter in model.transformer.parameters())
    weights = sum(p.numel() for p in model.transformer.blocks.parameters() if p.ndim == 2 and min(p.shape) > 6)
    batches = [SpeechBatches(model, recipe, data)(number) for number in range(4)]
    slots = [b.prompts.numel() + 8 * (b.spoken.codes.shape[1] + 1) + 8 * (b.spoken.codes.shape[1] + 2) for b in batches]
    least = 6 * weights * sum(slots) / 4 * 0.8  # the slot that says the length is one alone, and BEGIN of no gradient
    assert 0.5 * least < counted < 4 * least

    encode = type(model.audio_tokenizer).encode
    monkeypatch.setattr(
        type(model.audio_tokenizer),
        "encode",
        lambda *given: (torch.ones(999, 999) @ torch.ones(999, 999), encode(*given))[1],
    )
    assert training_flops(model, recipe, data) == counted  # what the frozen tokenizer computes is not the question


def everybody(understood: str) -> dict:
    return dict.fromkeys(("ann", "bo"), lambda sounds, rate: [understood] * len(sounds))


def trial(digits: Path, **changes) -> TokensTrial:
    usual = {"judges": everybody("one"), "teraflops": 2e-3, "strings": 10, "seed": 0, "shape": SHAPE}
    return TokensTrial(digits=digits, **(usual | changes))


def test_each_gets_the_same_arithmetic_and_a_row(digits, tokenizers, tmp_path):
    asked = [SoundTokens(tokenizers["codec"], 2), SoundTokens(tokenizers["units"], 1), SoundTokens("mulaw-8000", 1)]
    rows = list(compare_sound_tokens(asked, trial(digits), tmp_path, say=lambda line: None))
    assert [row.tokens for row in rows] == list(map(str, asked))
    for row in rows:
        assert row.teraflops == pytest.approx(2e-3, rel=0.5) or row.steps == 1
        assert row.said == 20 and row.recognized == pytest.approx(0.1) and row.train_seconds > 0
    assert rows[0].steps > rows[2].steps * rows[2].batch_size / rows[0].batch_size
    lines = table(rows).splitlines()
    assert len(lines) == 5 and lines[4].startswith("| mulaw-8000:1 | 64,000 | 8,000 |")


def test_what_is_missing_is_told_before_anything_is_learned(digits, tokenizers, tmp_path):
    with pytest.raises(ValueError, match="every speaker of .* needs a judge, bo has none"):
        trial(digits, judges={"ann": everybody("one")["ann"]})
    good = SoundTokens("mulaw-8000", 1)
    for bad, told in ((SoundTokens("nowhere", 1), "no audio tokenizer"), (SoundTokens("mulaw", 2), "1 to 1 codebooks")):
        with pytest.raises(ValueError, match=told):
            next(compare_sound_tokens([good, bad], trial(digits), tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def command(digits, tokenizers, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_speech, "open_judges", lambda folder, voices: dict.fromkeys(voices))
    monkeypatch.setattr(evaluate_speech, "judge_of", lambda found: everybody("two")["ann"])

    def run(*words: str) -> int:
        usual = ["--digits", digits, "--judges", tmp_path, "--out", tmp_path / "out", "--teraflops", "0.0005"]
        small = ["--strings", "2", "--width", "32", "--layers", "1"]
        return cli.main(["compare-sound-tokens", *map(str, [*words, *usual, *small])])

    return run


def test_the_command_writes_a_table_and_goes_on_where_it_was_stopped(command, tokenizers, tmp_path, capsys):
    codec = f"{tokenizers['codec']}:1"
    assert command(codec) == 0
    assert "| bits a second |" in capsys.readouterr().out
    path = tmp_path / "out" / "table.json"
    first = json.loads(path.read_text())
    assert first["rows"][0]["said"] == 4 and first["settings"]["seed"] == 0
    assert command(codec, tokenizers["units"], "--resume") == 0
    rows = json.loads(path.read_text())["rows"]
    assert rows[0] == first["rows"][0] and [row["tokens"] for row in rows] == [codec, tokenizers["units"] + ":1"]
    path.unlink()  # as if it had been killed after the training
    assert command(codec, "--resume") == 0
    again = json.loads(path.read_text())["rows"][0]
    assert again["train_seconds"] is None and again["recognized"] == first["rows"][0]["recognized"]


def test_wrong_usage_of_the_command(command, tokenizers, tmp_path, capsys):
    units = tokenizers["units"]
    for words, told in (
        ([f"{units}:x"], "tokens are NAME or NAME:CODEBOOKS"),
        ([units, f"{units}:1"], "names of their own"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command(*words)
        assert told in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "table.json"
    path.write_text("{}")
    for words, told in ((["mulaw"], "is there already; add --resume"), (["mulaw", "--resume"], "was made with None")):
        with pytest.raises(SystemExit, match="2"):
            command(*words)
        assert told in capsys.readouterr().err
    path.write_text("{")
    assert command("mulaw", "--resume") == 1 and "is broken" in capsys.readouterr().err
