"""Laws of training on speech: batches by number alone, tasks in their shares, resumed to the bit, and it learns."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.doubles import TONES, awaken, tone, tones, toy_audio_tokenizer, toy_units_tokenizer
from tests.two_processes import both_batches, run_on_two
from tokenloom.data.write_audio import write_audio
from tokenloom.models.transformer import SharedTransformer, TransformerConfig
from tokenloom.pipelines import speech_sources
from tokenloom.pipelines import train_speech as trainer
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.speech_batches import SpeechBatches, SpeechData, SpeechRecipe
from tokenloom.pipelines.speech_model import SpeechModel, sound_levels
from tokenloom.pipelines.speech_sources import Recording, open_recorded_speech
from tokenloom.pipelines.text_to_speech import SpeechToTextPipeline, TextToSpeechPipeline
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.pipelines.train_speech import train_speech
from tokenloom.scripts import cli
from tokenloom.tokenizers.text import TextTokenizer


def answers(number: int, count: int) -> list[tuple[Recording, Recording]]:
    """The next tone answers."""
    return list(zip(tones(number, count), tones(number + 1, count), strict=True))


DATA = SpeechData(tones, tones, answers, lambda: TONES, lambda: ["ann"])
RECIPE = SpeechRecipe(
    shares={"speak": 2, "write": 1, "answer": 1},
    steps=4,
    batch_size=3,
    warmup=1,
    evaluate_every=2,
    checkpoint_every=2,
)


def toy_model() -> SpeechModel:
    texts = TextTokenizer.train([*TONES, "answer", "ann: "], vocab_size=262)
    sounds = toy_audio_tokenizer()
    config = TransformerConfig(
        text_vocab_size=texts.vocab_size,
        image_levels=(),
        sound_levels=sounds.config.levels[:2],
        sound_steps=8,
        width=32,
        num_layers=2,
        num_heads=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SharedTransformer(config)
    awaken(transformer, 1)
    return SpeechModel(transformer, sounds, texts)


def weights(model: SpeechModel) -> dict[str, torch.Tensor]:
    return model.transformer.state_dict()


def test_tasks_come_in_their_shares_and_by_the_number_alone():
    one, other = SpeechBatches(toy_model(), RECIPE, DATA), SpeechBatches(toy_model(), RECIPE, DATA)
    kinds = []
    for number in range(200):
        batch = one(number)
        kinds.append("write" if batch.written else "answer" if batch.heard else "speak")
    assert 80 < kinds.count("speak") < 120 and 30 < kinds.count("write") < 70 and 30 < kinds.count("answer") < 70
    again = other(kinds.index("answer"))
    before = one(kinds.index("answer"))
    assert torch.equal(before.heard.codes, again.heard.codes) and torch.equal(before.prompts, again.prompts)
    ahead = SpeechBatches(toy_model(), RECIPE, DATA, workers=1)
    assert all(torch.equal(ahead(number).prompts, one(number).prompts) for number in range(3))


def test_a_run_that_was_cut_ends_in_the_same_weights(tmp_path):
    whole = train_speech(toy_model(), RECIPE, DATA, tmp_path / "whole", say=lambda line: None)

    def cut(number: int, count: int):
        if number == 3:
            raise KeyboardInterrupt
        return tones(number, count)

    broken = replace(DATA, said=cut, heard=cut, answers=lambda n, c: list(zip(cut(n, c), tones(n + 1, c), strict=True)))
    with pytest.raises(KeyboardInterrupt):
        train_speech(toy_model(), RECIPE, broken, tmp_path / "cut", say=lambda line: None)
    step, _, _ = load_checkpoint(tmp_path / "cut")
    assert step == 2
    resumed = train_speech(toy_model(), RECIPE, DATA, tmp_path / "cut", resume=True, say=lambda line: None)
    assert all(torch.equal(weights(whole)[name], weights(resumed)[name]) for name in weights(whole))
    with pytest.raises(TrainingError, match=r"recipe\.batch_size was 3 and is 4"):
        train_speech(toy_model(), replace(RECIPE, batch_size=4), DATA, tmp_path / "cut", resume=True)


def test_what_the_tokens_do_not_allow_is_refused_before_anything_is_written(tmp_path):
    sounds, texts = toy_units_tokenizer(), toy_model().text_tokenizer
    config = replace(
        toy_model().transformer.config, text_vocab_size=texts.vocab_size, sound_levels=sound_levels(sounds)
    )
    units = SpeechModel(SharedTransformer(config), sounds, texts)
    with pytest.raises(ValueError, match="speech units have none; take the decoders ar and masked"):
        train_speech(units, RECIPE, DATA, tmp_path / "units")
    with pytest.raises(ValueError, match=r"100000000 sounds of up to 8 steps take 51\.2 GB of attention a layer"):
        train_speech(toy_model(), replace(RECIPE, batch_size=10**8), DATA, tmp_path / "large")
    assert not list(tmp_path.iterdir())


def test_a_tiny_model_learns_to_say_and_to_write_three_tones(tmp_path):
    recipe = replace(
        RECIPE,
        decoders=("ar",),
        shares={"speak": 1, "write": 1},
        steps=260,
        muon_lr=1e-2,
        adamw_lr=1e-2,
        ema_decay=0.95,
        drop_prompt=0.0,
        evaluate_every=260,
        checkpoint_every=260,
    )
    model = train_speech(toy_model(), recipe, DATA, tmp_path, say=lambda line: None)
    assert model.voices == ["ann"] and model.lexicon == set(TONES) and model.tasks == ["speak", "write"]
    sounds = [tone(name).sound for name in TONES]
    assert SpeechToTextPipeline(model)(sounds) == list(TONES)
    said = TextToSpeechPipeline(model)(list(TONES), speaker="ann", temperature=0.0)
    expected = model.decode(model.encode(sounds))
    for sound, other in zip(said.sounds, expected, strict=True):
        torch.testing.assert_close(sound, other)
    assert len(list((tmp_path / "samples").glob("step-*/ar-*.wav"))) == 4


def test_recordings_without_a_text_or_too_long_are_left_out(tmp_path, caplog):
    for number, (name, seconds) in enumerate({"low": 0.1, "high": 0.2, "long": 3.0, "": 0.1}.items()):
        write_audio(tmp_path / f"{number}.wav", 0.1 * torch.ones(1, round(16_000 * seconds)), 16_000)
        if name:
            (tmp_path / f"{number}.txt").write_text(name)
    source = open_recorded_speech([str(tmp_path)], seconds=1.0, sample_rate=16_000, seed=0)
    assert "2 of 4 recordings" in caplog.text and sorted(source.texts()) == ["high", "low"]
    said = source(0, 20)
    assert {(one.text, one.sound.shape[1]) for one in said} == {("low", 1600), ("high", 3200)}
    assert [one.text for one in said] == [one.text for one in source(0, 20)]


def test_of_more_recordings_than_memory_holds_some_are_read_again(tmp_path, monkeypatch):
    for number in range(6):
        write_audio(tmp_path / f"{number}.wav", 0.1 * torch.ones(1, 1600), 16_000)
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
        (tmp_path / f"{number}.json").write_text(json.dumps({"speaker": f"voice {number % 4}" if number else ""}))
    reads = []
    read = speech_sources.read_audio
    monkeypatch.setattr(speech_sources, "read_audio", lambda *a, **k: reads.append(k["name"]) or read(*a, **k))
    roomy = open_recorded_speech([str(tmp_path)], seconds=1.0, sample_rate=16_000, seed=0)
    batches = [[one.text for one in roomy(number, 8)] for number in range(4)]
    assert len(reads) == len(set(reads))
    monkeypatch.setattr(speech_sources, "CACHE_BYTES", 3 * 4 * 1600)
    tight = open_recorded_speech([str(tmp_path)], seconds=1.0, sample_rate=16_000, seed=0)
    assert [[one.text for one in tight(number, 8)] for number in range(4)] == batches
    [source] = tight.sources
    assert len(source._cache) == 3 and len(reads) > 12
    assert tight.speakers() == {f"voice {number}" for number in range(4)}


def words_for(folder: Path, *more: str) -> list[str]:
    """What trains a small model on recordings of the tones, which are left in `folder`."""
    for number, name in enumerate(TONES):
        write_audio(folder / "talks" / f"{number}.wav", tone(name).sound, 16_000)
        (folder / "talks" / f"{number}.txt").write_text(name)
    small = ["--width", "32", "--layers", "2", "--heads", "2", "--codebooks", "1", "--seconds", "0.2"]
    return ["train-speech", "--data", str(folder / "talks"), "--batch-size", "2", *small, *more]


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_the_batches_of_both(tmp_path, monkeypatch):
    """Saying and writing use other weights."""
    pytest.importorskip("accelerate")
    words = words_for(
        tmp_path, *"--steps 4 --speak 0.5 --write 0.5 --ema-decay 0 --warmup 1 --muon-lr 0.05 --adamw-lr 0.05".split()
    )
    (one, of_one), (other, of_other) = run_on_two(
        "train_speech", [*words, "--out", tmp_path / "two"], tmp_path / "weights"
    )
    assert of_one == [0, 2, 4, 6] and of_other == [1, 3, 5, 7]
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    monkeypatch.setattr(trainer.SpeechBatchLoss, "__call__", both_batches(trainer.SpeechBatchLoss.__call__))
    assert cli.main([*words, "--out", str(tmp_path / "one")]) == 0
    found, expected = (load_file(tmp_path / n / "final/transformer/model.safetensors") for n in ("two", "one"))
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor, expected[name], atol=1e-3, rtol=1e-3, msg=lambda told, n=name: f"{n}: {told}"
        )


def test_the_command_trains_on_recordings_and_its_model_speaks(tmp_path):
    run = words_for(tmp_path, "--steps", "2")
    assert cli.main([*run, "--out", str(tmp_path / "run")]) == 0
    final = tmp_path / "run" / "final"
    assert not (final / "audio_tokenizer").exists()  # it ships with the package
    assert cli.main(["text-to-speech", "low", "--model", str(final), "--out", str(tmp_path / "low.wav")]) == 0
    assert (tmp_path / "low.wav").stat().st_size > 44


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--data SPEC or --digits PATH is needed"),
        (["--data", "talks", "--answer", "0.5"], "--answer takes pairs of sounds"),
        (["--data", "talks", "--digits", "d"], "one after the other"),
        (["--data", "talks", "--leave-out", "ann"], "--leave-out names a speaker of --digits"),
        (["--data", "talks", "--init", "tokenloom-speech", "--layers", "50"], "--init brings num_layers 5, not 50"),
        (["--data", "talks", "--init", "tokenloom-speech", "--codebooks", "8"], "--init brings codebooks 3, not 8"),
        (
            ["--data", "talks", "--init", "tokenloom-speech", "--tokenizer", "mulaw-8000"],
            "--init brings another tokenizer than mulaw-8000",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train-speech", *options, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err
