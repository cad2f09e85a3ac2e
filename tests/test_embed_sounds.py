"""Laws of vectors of sounds: one each, alone or in a batch, by a model of speech and no other."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.doubles import awaken, toy_pictures
from tests.test_embed import toy_embedding
from tests.test_speech import STEPS, toy_model, toy_sound
from tokenloom.data.audio import read_audio
from tokenloom.data.media import write_png
from tokenloom.data.write_audio import write_audio
from tokenloom.models.contrastive import ContrastiveConfig, ContrastiveHead
from tokenloom.pipelines import embed
from tokenloom.pipelines.embed import EmbeddingPipeline
from tokenloom.pipelines.hear_files import beginning_of
from tokenloom.pipelines.speech_model import SpeechModel
from tokenloom.scripts import cli

TEXTS = ("low", "high", "low high", "low", "high high high")


def toy_hearing(model: SpeechModel | None = None, **changes) -> EmbeddingPipeline:
    sizes = {"trunk_width": 32, "layers": (1, 2), "width": 12, "num_heads": 2, "embedding_size": 6}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = ContrastiveHead(ContrastiveConfig(**(sizes | {"storage_dtype": "float32"} | changes)))
    return EmbeddingPipeline(model or toy_model(), head)


def sounds_of(*seconds: float) -> list[Tensor]:
    return [toy_sound(length, seed) for seed, length in enumerate(seconds)]


@pytest.fixture(scope="module")
def pipeline() -> EmbeddingPipeline:
    return toy_hearing()


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(folder)
    return folder


def test_vectors_have_length_1_and_do_not_depend_on_their_batch(pipeline, monkeypatch):
    sounds = sounds_of(0.1, 0.02, 0.2, 0.15, 0.07)
    texts, heard = pipeline.embed_text(TEXTS), pipeline.embed_sounds(sounds)
    monkeypatch.setattr(embed, "BATCH", 2)
    for whole, in_parts, one in (
        (texts, pipeline.embed_text(TEXTS), lambda n: pipeline.embed_text(TEXTS[n])),
        (heard, pipeline.embed_sounds(sounds), lambda n: pipeline.embed_sounds([sounds[n]])),
    ):
        assert whole.shape == (5, 6) and not whole.requires_grad
        torch.testing.assert_close(whole.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.cat([one(n) for n in range(5)]), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(texts[0], texts[3]) and ((texts[0] - texts[[1, 2, 4]]).abs().amax(1) > 1e-4).all()
    assert pipeline.embed_sounds([]).shape == pipeline.embed_text([]).shape == (0, 6)


def test_the_order_of_what_is_heard_counts(pipeline):
    one, other = sounds_of(0.08, 0.08)
    there, back = pipeline.embed_sounds([torch.cat([one, other], dim=1), torch.cat([other, one], dim=1)])
    assert (there - back).abs().max() > 1e-4


def test_the_head_comes_back_with_its_model(pipeline, saved):
    again = EmbeddingPipeline.from_pretrained(saved)
    assert torch.equal(again.embed_text(TEXTS), pipeline.embed_text(TEXTS))
    assert torch.equal(again.embed_sounds([toy_sound()]), pipeline.embed_sounds([toy_sound()]))
    assert (again.speech.voices, again.speech.tasks) == (pipeline.speech.voices, pipeline.speech.tasks)


def test_a_head_of_another_transformer_is_refused(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    other = toy_model()
    awaken(other.transformer, 5)
    other.transformer.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match=r"trained on another transformer; train one for this: tokenloom train-embed"):
        EmbeddingPipeline.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"reads layers \(1, 2\) of width 16, and the transformer has 2 of width 32"):
        toy_hearing(trunk_width=16)


def test_each_model_says_what_it_makes_vectors_of(pipeline):
    with pytest.raises(ValueError, match="a model of speech makes vectors of texts and sounds, not of pictures"):
        pipeline.embed_pictures(toy_pictures())
    with pytest.raises(ValueError, match="a model of speech makes vectors of texts and sounds, not of pictures"):
        pipeline.embed_clips(toy_pictures().unsqueeze(2))
    with pytest.raises(
        ValueError, match="a model of pictures makes vectors of texts, pictures and clips, not of sound"
    ):
        toy_embedding().embed_sounds([toy_sound()])


def test_what_is_no_sound_or_no_text_is_refused(pipeline):
    with pytest.raises(ValueError, match="may have 12 steps, 0.22 s, got 51; cut it"):
        pipeline.embed_sounds([toy_sound(1.0)])
    with pytest.raises(ValueError, match="a prompt must say something"):
        pipeline.embed_text(["low", " "])
    with pytest.raises(ValueError, match="a text may have 64 tokens, got"):
        pipeline.embed_text("low " * 100)


def test_of_a_long_sound_the_beginning_is_heard_up_to_the_last_step(pipeline, tmp_path):
    model = pipeline.speech
    write_audio(tmp_path / "long.wav", toy_sound(2.0), 16_000)
    beginning = beginning_of(tmp_path / "long.wav", model)
    whole = read_audio(tmp_path / "long.wav", sample_rate=16_000)
    most = beginning.shape[1]
    assert most == model.most_samples and torch.equal(beginning, whole[:, :most])
    assert [model.audio_tokenizer.grid((n,))[1] for n in (most, most + 1)] == [STEPS, STEPS + 1]
    write_audio(tmp_path / "short.wav", toy_sound(0.05), 16_000)
    assert beginning_of(tmp_path / "short.wav", model).shape[1] == 800


def test_the_command_embeds_sounds_of_any_rate_and_passes_over_what_is_broken(pipeline, saved, tmp_path, capsys):
    folder = tmp_path / "files"
    write_audio(folder / "0.wav", toy_sound(0.1), 8_000)
    write_audio(folder / "1.wav", toy_sound(2.0, 1), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF of nothing")
    write_png(folder / "a.png", toy_pictures()[0])
    out = tmp_path / "vectors.safetensors"
    words = ["embed", str(folder), "--text", *TEXTS[:2], "--model", str(saved), "--out", str(out)]
    assert cli.main(words) == 1
    shown = capsys.readouterr()
    assert "broken.wav" in shown.err and "1 of 3 files could not be read" in shown.err and "a.png" not in shown.err
    vectors = load_file(out)["vectors"]
    files = [folder / "0.wav", folder / "1.wav"]
    heard = pipeline.embed_sounds([read_audio(file, sample_rate=16_000)[:, : 16 * 200] for file in files[:1]])
    torch.testing.assert_close(vectors[:2], pipeline.embed_text(TEXTS[:2]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors[2:3], heard, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors[3:], pipeline.embed_sounds([beginning_of(files[1], pipeline.speech)]))
    rows = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert rows[2:] == [{"modality": "audio", "file": str(file)} for file in files]
    assert [line.split("\t")[0] for line in shown.out.splitlines()[:2]] == list(map(str, files))


def test_a_picture_that_is_named_is_told(saved, tmp_path, capsys):
    write_png(tmp_path / "a.png", toy_pictures()[0])
    write_audio(tmp_path / "b.wav", toy_sound(), 16_000)
    words = ["embed", "--model", str(saved), "--text", "low", "--out", str(tmp_path / "v.safetensors")]
    assert cli.main([*words, str(tmp_path / "a.png"), str(tmp_path / "b.wav")]) == 1
    assert "a.png: no vectors are made of image files by this model, but of audio ones" in capsys.readouterr().err
    (tmp_path / "pictures").mkdir()
    write_png(tmp_path / "pictures" / "a.png", toy_pictures()[0])
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words, str(tmp_path / "pictures")])
    assert "no audio file in" in capsys.readouterr().err
