"""Laws of speech through pipelines and commands: saved and loaded the same, alone and in a batch the same, and honest
about what a model does not know. What training does is in test_train_speech.py."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.doubles import awaken, toy_audio_tokenizer, toy_units_tokenizer
from tokenloom.data.audio import read_audio
from tokenloom.data.media import MediaError
from tokenloom.data.write_audio import write_audio
from tokenloom.models.likeliest import log_probabilities
from tokenloom.models.sound_objectives import Sounds
from tokenloom.models.transformer import SharedTransformer, TransformerConfig
from tokenloom.pipelines.best_of import candidates
from tokenloom.pipelines.hear_files import hear_file
from tokenloom.pipelines.speech_model import INDEX, SpeechModel
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_speech import (
    SpeechToSpeechPipeline,
    SpeechToTextPipeline,
    TextToSpeechPipeline,
    speech_settings,
)
from tokenloom.scripts import cli
from tokenloom.tokenizers.text import TextTokenizer

DECODERS = ("ar", "masked", "diffusion")
STEPS = 12
WORDS = ("high", "low", "high low", "low high")


def toy_model(codebooks: int = 2, **changes) -> SpeechModel:
    texts = TextTokenizer.train([*WORDS, "ann: high", "bo: low", "answer"], vocab_size=270)
    sounds = toy_audio_tokenizer()
    config = TransformerConfig(
        text_vocab_size=texts.vocab_size,
        image_levels=(),
        sound_levels=sounds.config.levels[:codebooks],
        **({"sound_steps": STEPS, "width": 32, "num_layers": 2, "num_heads": 2} | changes),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SharedTransformer(config)
    awaken(transformer, 1)
    known = {"voices": ["ann", "bo"], "lexicon": ["high", "low"], "tasks": ["answer", "speak", "write"]}
    return SpeechModel(transformer, sounds, texts, **known)


def toy_sound(seconds: float = 0.1, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(1, round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_sound_depends_on_its_seed_and_not_on_its_batch(decoder):
    pipeline = TextToSpeechPipeline(toy_model())
    how = {"decoder": decoder, "num_inference_steps": 3}
    together = pipeline(["high", "low high", "low"], generator=seeded(5, 3), **how).sounds
    for number, text in enumerate(["high", "low high", "low"]):
        alone = pipeline(text, generator=seeded(5 + number, 1), **how).sounds[0]
        assert alone.shape == together[number].shape
        torch.testing.assert_close(alone, together[number], atol=1e-4, rtol=1e-4)
    assert not torch.equal(together[0], pipeline("high", generator=seeded(6, 1), **how).sounds[0])


@pytest.mark.parametrize("decoder", DECODERS)
def test_seconds_say_how_long_a_sound_is(decoder):
    pipeline = TextToSpeechPipeline(toy_model())
    said = pipeline("high", decoder=decoder, seconds=0.1, generator=seeded(0, 1), num_inference_steps=2)
    length, asked = said.sounds[0].shape[1], round(0.1 * said.sample_rate)
    assert length <= asked + 320 if decoder == "ar" else abs(length - asked) <= 320
    assert 0 < length and said.sounds[0].abs().max() <= 1


def test_seconds_that_a_sound_cannot_last_are_refused():
    pipeline = TextToSpeechPipeline(toy_model())
    for seconds in (0, -1.0, 0.2201, 99.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds must be above 0 and at most 0.22, got"):
            pipeline("high", seconds=seconds)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_longest_sound_fills_the_steps_that_the_model_knows(decoder):
    model = toy_model()
    samples = round(model.max_seconds * model.audio_tokenizer.sample_rate)
    assert [model.audio_tokenizer.grid((samples + more,))[1] for more in (0, 1)] == [STEPS, STEPS + 1]
    how = {"decoder": decoder, "generator": seeded(0, 1), "num_inference_steps": 1}
    said = TextToSpeechPipeline(model)("high", seconds=model.max_seconds, **how).sounds[0]
    assert said.shape[1] <= samples and model.encode([said]).real.sum() <= STEPS
    assert decoder == "ar" or said.shape[1] > samples - 320


def test_who_speaks_is_drawn_first_where_nobody_is_named():
    """The same seeds have the same voices by every decoder, and a sound is as if its voice had been named."""
    model = toy_model()
    pipeline = TextToSpeechPipeline(model)
    texts = ["high", "low"] * 6
    said = {d: pipeline(texts, decoder=d, generator=seeded(4, 12), num_inference_steps=2) for d in DECODERS}
    assert set(said["ar"].speakers) == {"ann", "bo"}
    assert said["ar"].speakers == said["masked"].speakers == said["diffusion"].speakers
    assert pipeline(texts, speaker="bo", generator=seeded(4, 12)).speakers == ["bo"] * 12
    for number, (text, speaker) in enumerate(zip(texts[:4], said["ar"].speakers, strict=False)):
        [generator] = seeded(4 + number, 1)
        torch.randint(2, (), generator=generator)  # who speaks
        named = pipeline(text, speaker=speaker, generator=[generator]).sounds[0]
        assert torch.equal(named, said["ar"].sounds[number])
    model.voices = []
    assert pipeline("high", generator=seeded(0, 1)).speakers == [None]


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_best_of_several_is_one_of_them_and_the_model_writes_no_other_sooner(decoder):
    model, count = toy_model(), 4
    pipeline, texts, how = TextToSpeechPipeline(model), ["high", "low high", "low"], {"num_inference_steps": 2}
    kept = pipeline(texts, speaker="bo", decoder=decoder, best_of=count, generator=seeded(3, 3), **how).sounds
    prompts = [pipeline.tokens(text, "bo") for text in texts for _ in range(count)]
    settings = speech_settings(decoder, **how)
    every = pipeline._speak(prompts, None, decoder, candidates(seeded(3, 3), count), None, settings)
    for row, text in enumerate(texts):
        drawn, fits = every[row * count : (row + 1) * count], []
        for codes in drawn:
            past = model.prefilled([[]], Sounds(codes[None], torch.ones(1, len(codes), dtype=torch.bool)))
            told, tokens = {"num_tokens": model.text_tokenizer.vocab_size}, model.text_tokenizer.encode(text)
            fits.append(float(log_probabilities(model.transformer, past, past.start, [tokens], **told)))
        assert len(set(fits)) > 1
        best = drawn[fits.index(max(fits))]
        assert torch.equal(kept[row], model.decode(Sounds(best[None], torch.ones(1, len(best), dtype=torch.bool)))[0])


def test_only_what_was_asked_for_in_words_can_be_the_best_of_several():
    model = toy_model()
    with pytest.raises(ValueError, match="best_of must be 1 for answers, which no text is asked for, got 2"):
        SpeechToSpeechPipeline(model)([toy_sound()], best_of=2)
    model.tasks = ["speak"]
    with pytest.raises(ValueError, match="this model learned to speak, not to write"):
        TextToSpeechPipeline(model)("high", best_of=2)


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    model = toy_model()
    model.save_pretrained(tmp_path / "model")
    loaded = SpeechModel.from_pretrained(tmp_path / "model")
    assert (loaded.voices, loaded.tasks, loaded.lexicon) == (model.voices, model.tasks, model.lexicon)
    before = TextToSpeechPipeline(model)("high", generator=seeded(0, 1)).sounds[0]
    assert torch.equal(before, TextToSpeechPipeline(loaded)("high", generator=seeded(0, 1)).sounds[0])


def test_another_sound_tokenizer_is_refused(tmp_path):
    toy_model().save_pretrained(tmp_path / "model")
    toy_audio_tokenizer(seed=3).save_pretrained(tmp_path / "model" / "audio_tokenizer")
    with pytest.raises(ValueError, match="the audio_tokenizer of .* is not the one this model was trained with"):
        SpeechModel.from_pretrained(tmp_path / "model")


def test_a_stranger_s_index_leads_nowhere(tmp_path):
    toy_model().save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / INDEX
    for name in ("../../etc", "/etc", "gpt2", "../mulaw"):
        index.write_text(json.dumps(json.loads(index.read_text()) | {"audio_tokenizer": name}))
        with pytest.raises(ValueError, match="no audio tokenizer called"):
            SpeechModel.from_pretrained(tmp_path / "model")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"audio_tokenizer": "mulaw"}))
    with pytest.raises(ValueError, match="take the tokenizer it was trained with"):
        SpeechModel.from_pretrained(tmp_path / "model")
    index.write_text("{}")
    with pytest.raises(ValueError, match="is broken"):
        SpeechModel.from_pretrained(tmp_path / "model")


def test_what_was_not_learned_is_refused_by_name():
    model = toy_model()
    model.tasks = ["speak"]
    with pytest.raises(ValueError, match="learned to speak, not to write"):
        SpeechToTextPipeline(model)
    with pytest.raises(ValueError, match="not to answer"):
        SpeechToSpeechPipeline(model)
    with pytest.raises(ValueError, match="the voices of this model are ann, bo, got 'eve'"):
        TextToSpeechPipeline(model)("high", speaker="eve")
    with pytest.raises(ValueError, match="one of ar, masked, diffusion"):
        TextToSpeechPipeline(model)("high", decoder="wavenet")


def test_a_sound_that_is_too_long_or_no_sound_is_refused():
    pipeline = SpeechToTextPipeline(toy_model())
    with pytest.raises(ValueError, match="may have 12 steps, 0.22 s, got 51"):
        pipeline([toy_sound(1.0)])
    with pytest.raises(ValueError, match=r"sounds must be \(1, S\)"):
        pipeline([torch.zeros(2, 100)])


def test_what_is_heard_does_not_depend_on_the_batch():
    pipeline = SpeechToTextPipeline(toy_model())
    sounds = [toy_sound(0.05 * (1 + n), n) for n in range(4)]
    assert pipeline(sounds) == [pipeline([sound])[0] for sound in sounds]


@pytest.fixture
def saved(tmp_path) -> Path:
    toy_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_text_to_speech_writes_a_file_or_a_folder(saved, tmp_path, capsys):
    one = ["text-to-speech", "high", "--model", str(saved), "--seed", "3", "--speaker", "ann"]
    assert cli.main([*one, "--out", str(tmp_path / "a.wav")]) == 0
    assert cli.main([*one, "--out", str(tmp_path / "b.wav")]) == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    several = ["text-to-speech", "low", "high", "--model", str(saved), "--seed", "2", "--speaker", "ann"]
    assert cli.main([*several, "--out", str(tmp_path / "all")]) == 0
    index = [json.loads(line) for line in (tmp_path / "all" / "index.jsonl").read_text().splitlines()]
    assert [(line["file"], line["prompt"], line["seed"]) for line in index] == [
        ("00000.wav", "low", 2),
        ("00001.wav", "high", 3),
    ]
    assert (tmp_path / "all" / "00001.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    assert cli.main([*one, "--speaker", "eve", "--out", str(tmp_path / "c.wav")]) != 0
    assert "the voices of this model are ann, bo" in capsys.readouterr().err


def test_speech_to_text_passes_over_what_it_cannot_hear(saved, tmp_path, capsys):
    folder = tmp_path / "sounds"
    folder.mkdir()
    write_audio(folder / "a.wav", toy_sound(0.1), 16_000)
    write_audio(folder / "long.wav", toy_sound(2.0), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF of nothing")
    assert cli.main(["speech-to-text", str(folder), "--model", str(saved), "--out", str(tmp_path / "t.jsonl")]) == 1
    told = capsys.readouterr()
    assert told.out.startswith(str(folder / "a.wav")) and told.out.count("\n") == 1
    assert "hears 0.22 seconds at most" in told.err and "broken.wav" in told.err and "2 of 3 files" in told.err
    expected = SpeechToTextPipeline.from_pretrained(saved)([read_audio(folder / "a.wav", sample_rate=16_000)])[0]
    assert json.loads((tmp_path / "t.jsonl").read_text())["text"] == expected


def test_speech_to_speech_answers_each_file(saved, tmp_path):
    folder, out = tmp_path / "sounds", tmp_path / "answers"
    folder.mkdir()
    for name in "ab":
        write_audio(folder / f"{name}.wav", toy_sound(0.1, ord(name)), 16_000)
    assert cli.main(["speech-to-speech", str(folder), "--model", str(saved), "--out", str(out), "--seed", "1"]) == 0
    pipeline = SpeechToSpeechPipeline.from_pretrained(saved)
    heard = read_audio(folder / "b.wav", sample_rate=16_000)
    expected = pipeline([heard], generator=seeded(2, 1)).sounds[0]
    torch.testing.assert_close(read_audio(out / "00001.wav", sample_rate=16_000), expected, atol=1e-4, rtol=0)
    lines = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert [(line["file"], Path(line["heard"]).name, line["seed"]) for line in lines] == [
        ("00000.wav", "a.wav", 1),
        ("00001.wav", "b.wav", 2),
    ]
    assert all(line["seconds"] > 0 for line in lines)
    before = (out / "00001.wav").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["speech-to-speech", str(folder), "--model", str(saved), "--out", str(out), "--seed", "5"])
    assert (out / "00001.wav").read_bytes() == before


def test_a_model_of_other_steps_hears_as_long_as_it_knows(tmp_path):
    """Units come 25 a second, codes of sounds 50."""
    model = toy_model(1)
    units = toy_units_tokenizer()
    config = replace(model.transformer.config, sound_levels=((units.vocab_size,),), sound_steps=STEPS)
    slow = SpeechModel(SharedTransformer(config), units, model.text_tokenizer, tasks=["write"])
    seconds = slow.max_seconds
    assert seconds > 1.5 * model.max_seconds
    write_audio(tmp_path / "fits.wav", toy_sound(seconds), 16_000)
    write_audio(tmp_path / "long.wav", toy_sound(seconds + 2), 16_000)
    assert hear_file(tmp_path / "fits.wav", slow).shape[1] == round(16_000 * seconds)
    with pytest.raises(MediaError, match=f"hears {seconds:g} seconds at most"):
        hear_file(tmp_path / "long.wav", slow)


def test_answers_are_not_written_over_what_is_heard(saved, tmp_path, capsys):
    write_audio(tmp_path / "sounds" / "00000.wav", toy_sound(0.1), 16_000)
    before = (tmp_path / "sounds" / "00000.wav").read_bytes()
    words = ["speech-to-speech", str(tmp_path / "sounds"), "--model", str(saved), "--out", str(tmp_path / "sounds")]
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert "holds what is to be heard" in capsys.readouterr().err
    assert (tmp_path / "sounds" / "00000.wav").read_bytes() == before
