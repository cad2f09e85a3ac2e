"""`tokenloom train-embed` on speech: texts learn to find their recordings, on a transformer that stays as it is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.doubles import toy_pipeline
from tests.test_speech import toy_model
from tests.test_spoken_digits import tone
from tokenloom.data.write_audio import write_audio
from tokenloom.models.contrastive import ContrastiveConfig, ContrastiveHead
from tokenloom.pipelines.contrastive_pairs import ContrastiveRecipe, SpokenTexts
from tokenloom.pipelines.embed import EmbeddingPipeline
from tokenloom.pipelines.retrieval import recall
from tokenloom.pipelines.speech_sources import Recording
from tokenloom.pipelines.train_contrastive import features_of, train_contrastive
from tokenloom.scripts import cli

SHAPE = {"trunk_width": 32, "layers": (1, 2), "width": 12, "num_heads": 2, "embedding_size": 8}
TONES = {"low": 300.0, "high": 1500.0, "low low": 600.0, "high low": 1000.0, "low high": 2500.0}


def recording(text: str) -> Recording:
    """As many samples as the text has letters, so that a batch is padded."""
    return Recording(torch.cat([tone(TONES[text])] * len(text), dim=1)[:, : 300 * len(text)], text, "ann")


def recordings(number: int, count: int) -> list[Recording]:
    """The tones in turn, some of them twice in a batch."""
    return [recording(list(TONES)[(number + index) % len(TONES)]) for index in range(count)]


def train(tmp_path: Path, **changes) -> EmbeddingPipeline:
    recipe = ContrastiveRecipe(
        **({"batch_size": 7, "warmup": 5, "learning_rate": 5e-3, "evaluate_every": 60} | changes)
    )
    source = SpokenTexts(recordings, recipe)
    return train_contrastive(ContrastiveConfig(**SHAPE), recipe, source, toy_model(), tmp_path, say=lambda line: None)


def test_texts_find_their_recordings_and_the_transformer_stays_as_it_is(tmp_path):
    trained = train(tmp_path, steps=60)
    heard = trained.embed_sounds([recording(text).sound for text in TONES])
    scores = trained.scores(trained.embed_text(list(TONES)), heard)
    assert recall(scores, 1) == 1.0 and recall(scores.T, 1) == 1.0
    before, after = toy_model().transformer.state_dict(), trained.speech.transformer.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_training_hears_what_the_pipeline_hears():
    pipeline = EmbeddingPipeline(toy_model(), ContrastiveHead(ContrastiveConfig(**SHAPE)))
    recipe = ContrastiveRecipe(batch_size=7)
    text, media = features_of(pipeline, SpokenTexts(recordings, recipe)(3), recipe)
    said = recordings(3, 7)
    with torch.no_grad():
        torch.testing.assert_close(pipeline.head.text(text), pipeline.embed_text([one.text for one in said]))
        torch.testing.assert_close(pipeline.head.media(media), pipeline.embed_sounds([one.sound for one in said]))


def short_tone(hz: float) -> Tensor:
    return tone(hz)[:, :400]  # three of them, and silences between, fit into the steps of the toy


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A toy model of speech, one of pictures, and recordings for both ways of training."""
    folder = tmp_path_factory.mktemp("world")
    toy_model(sound_steps=40).save_pretrained(folder / "speech")
    toy_pipeline().save_pretrained(folder / "pictures")
    for digit in range(10):
        for take in range(5):
            write_audio(folder / "digits" / f"{digit}_ann_{take:02}.wav", short_tone(500 + 100 * digit + take), 8000)
    for number, text in enumerate(TONES):
        write_audio(folder / "talks" / f"{number}.wav", recording(text).sound, 16_000)
        (folder / "talks" / f"{number}.txt").write_text(text)
    return folder


def tokenloom_train_embed(world: Path, out: Path, *words: object) -> int:
    toy = "--width 12 --heads 2 --embedding-size 8 --batch-size 4 --warmup 1 --steps 4 --checkpoint-every 1".split()
    return cli.main(["train-embed", "--init", str(world / "speech"), "--out", str(out), *toy, *map(str, words)])


def head_of(run: Path) -> dict[str, Tensor]:
    return load_file(run / "final" / "contrastive_head" / "model.safetensors")


def test_a_killed_run_on_digits_ends_in_the_same_head_and_is_evaluated(world, tmp_path, monkeypatch, capsys):
    digits = ["--digits", world / "digits"]
    assert tokenloom_train_embed(world, tmp_path / "whole", *digits, "--workers", 1) == 0
    draw = SpokenTexts.__call__

    def killed(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return draw(self, number)

    monkeypatch.setattr(SpokenTexts, "__call__", killed)
    assert tokenloom_train_embed(world, tmp_path / "run", *digits) == 130
    monkeypatch.setattr(SpokenTexts, "__call__", draw)
    assert tokenloom_train_embed(world, tmp_path / "run", "--data", world / "talks", "--resume") == 1
    assert "keep its settings, but recipe.data was" in capsys.readouterr().err
    assert tokenloom_train_embed(world, tmp_path / "run", *digits, "--resume") == 0
    one, other = head_of(tmp_path / "whole"), head_of(tmp_path / "run")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    evaluate = ["evaluate-embed", str(tmp_path / "run" / "final"), "--among", "20"]
    capsys.readouterr()
    assert cli.main([*evaluate, "--digits", str(world / "digits")]) == 0
    assert f"{world / 'digits'}, among 20: text_1 0." in capsys.readouterr().out
    assert cli.main([*evaluate, "--on", "scenes"]) == 1
    assert "a model of speech makes vectors of texts and sounds, not of pictures" in capsys.readouterr().err


def test_recordings_with_their_texts_are_learned_from(world, tmp_path):
    assert tokenloom_train_embed(world, tmp_path, "--data", world / "talks") == 0
    pipeline = EmbeddingPipeline.from_pretrained(tmp_path / "final")
    assert pipeline.head.config.layers == (1,) and pipeline.embed_sounds([recording("low").sound]).shape == (1, 8)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--data SPEC or --digits PATH is needed"),
        (["--data", "talks", "--digits", "digits"], "speech must come from one place"),
        (["--digits", "digits", "--clips", "scenes"], "--clips is of models of pictures, and"),
        (["--digits", "digits", "--rate", "4"], "--rate is of models of pictures, and"),
        (["--digits", "digits", "--clip-share", "0.5"], "--clip-share is of models of pictures, and"),
        (["--init", "pictures", "--digits", "digits"], "--digits is of models of speech, and"),
        (["--init", "pictures"], "pictures must come from somewhere: --data SPEC is needed"),
    ],
)
def test_options_that_are_not_for_the_model_are_refused(world, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(world)
    with pytest.raises(SystemExit, match="2"):
        tokenloom_train_embed(world, tmp_path, *words)
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1
