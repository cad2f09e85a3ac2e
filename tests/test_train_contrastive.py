"""`tokenloom train-embed`: captions learn to find their pictures, on a transformer that stays as it is."""

import re
from dataclasses import asdict

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.doubles import CAPTIONS, ToySource, toy_picture, toy_pictures, toy_pipeline
from tokenloom.models.contrastive import ContrastiveConfig
from tokenloom.pipelines import train_contrastive
from tokenloom.pipelines.clip_order import seen_frames
from tokenloom.pipelines.contrastive_pairs import CaptionedMedia, ContrastiveRecipe
from tokenloom.pipelines.embed import EmbeddingPipeline
from tokenloom.pipelines.retrieval import recall
from tokenloom.pipelines.train_contrastive import features_of, numbered
from tokenloom.scripts import cli, train_embed

SHAPE = {"trunk_width": 32, "layers": (1, 2), "width": 12, "num_heads": 2, "embedding_size": 8}


class ToyClips:
    """A ClipSource of 4 frames: the picture of the caption, brighter from frame to frame."""

    def __call__(self, number: int, count: int):
        pictures, captions = ToySource()(number, count)
        return torch.stack([(pictures * (share / 4)).to(torch.uint8) for share in (1, 2, 3, 4)], dim=2), captions

    def captions(self):
        return CAPTIONS


def test_the_captions_find_their_pictures_and_the_transformer_stays_as_it_is(tmp_path):
    pictures = toy_pipeline(num_frames=4)
    before = {name: tensor.clone() for name, tensor in pictures.transformer.state_dict().items()}
    recipe = ContrastiveRecipe(steps=120, batch_size=16, warmup=5, learning_rate=5e-3, evaluate_every=120)
    trained = train_contrastive.train_contrastive(
        ContrastiveConfig(**SHAPE),
        recipe,
        CaptionedMedia(ToySource(), None, recipe),
        pictures,
        tmp_path,
        say=lambda line: None,
    )
    scores = trained.scores(trained.embed_text(CAPTIONS), trained.embed_pictures(toy_pictures()))
    assert recall(scores, 1) == 1.0 and recall(scores.T, 1) == 1.0
    after = pictures.transformer.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_batch_is_pictures_or_clips_by_its_number_alone():
    recipe = ContrastiveRecipe(batch_size=3, clip_share=0.5)
    source = CaptionedMedia(ToySource(), ToyClips(), recipe)
    batches = [source(number) for number in range(30)]
    lengths = [batch.parts[0].shape[1] for batch in batches]
    assert set(lengths) == {1, 4} and 8 <= lengths.count(4) <= 22
    for number in (29, 3, 7):
        again = source(number)
        assert torch.equal(again.parts[0], batches[number].parts[0]) and again.captions == batches[number].captions
    assert {CaptionedMedia(ToySource(), None, recipe)(number).parts[0].shape[1] for number in range(30)} == {1}


def test_of_a_clip_those_frames_are_seen_that_captions_are_written_from():
    clips = torch.arange(9, dtype=torch.uint8).repeat(4, 3, 1)[..., None, None].expand(4, 3, 9, 2, 2)
    pairs = CaptionedMedia(ToySource(), lambda number, count: (clips, ["a"] * 4), ContrastiveRecipe()).of_clips(0, 4)
    assert pairs.numbers == seen_frames(9) and pairs.parts[0][0, :, 0, 0, 0].tolist() == seen_frames(9)


def test_training_sees_what_the_pipeline_sees(tmp_path):
    pictures = toy_pipeline(num_frames=4)
    pipeline = EmbeddingPipeline(pictures, train_contrastive.ContrastiveHead(ContrastiveConfig(**SHAPE)))
    recipe = ContrastiveRecipe(batch_size=5)
    for batch in (
        CaptionedMedia(ToySource(), ToyClips(), recipe).of_pictures(2, 5),
        CaptionedMedia(ToySource(), ToyClips(), recipe).of_clips(2, 5),
    ):
        text, media = features_of(pipeline, batch, recipe)
        clips = batch.parts[0].transpose(1, 2).float() / 127.5 - 1
        torch.testing.assert_close(pipeline.head.text(text), pipeline.embed_text(batch.captions))
        torch.testing.assert_close(pipeline.head.media(media), pipeline.embed_clips(clips))


def test_the_same_caption_has_the_same_number():
    assert numbered(["b", "a", "b", "c", "a"]).tolist() == [0, 1, 0, 2, 1]


@pytest.fixture
def world(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for caption in CAPTIONS:
        Image.fromarray(toy_picture(caption).permute(1, 2, 0).contiguous().numpy()).save(folder / f"{caption}.png")
        (folder / f"{caption}.txt").write_text(caption)
    toy_pipeline(num_frames=4).save_pretrained(tmp_path / "model")
    return tmp_path


def tokenloom_train_embed(world, out: str, *words: object) -> int:
    toy = "--width 12 --heads 2 --embedding-size 8 --batch-size 4 --warmup 1 --steps 4 --checkpoint-every 1".split()
    data = ["--data", world / "pictures", "--init", world / "model", "--out", world / out]
    return cli.main(["train-embed", *map(str, [*data, *toy, *words])])


def test_a_killed_run_ends_in_the_same_head(world, monkeypatch, capsys):
    assert tokenloom_train_embed(world, "whole", "--workers", 1) == 0
    draw = CaptionedMedia.__call__

    def killed(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return draw(self, number)

    monkeypatch.setattr(CaptionedMedia, "__call__", killed)
    assert tokenloom_train_embed(world, "run") == 130
    monkeypatch.setattr(CaptionedMedia, "__call__", draw)
    assert tokenloom_train_embed(world, "run") == 1 and "add --resume" in capsys.readouterr().err
    assert tokenloom_train_embed(world, "run", "--resume", "--seed", 1) == 1
    assert "keep its settings, but recipe.seed was 0" in capsys.readouterr().err
    assert tokenloom_train_embed(world, "run", "--resume") == 0
    one, other = (
        load_file(world / out / "final" / "contrastive_head" / "model.safetensors") for out in ("whole", "run")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    pipeline = EmbeddingPipeline.from_pretrained(world / "run" / "final")
    assert pipeline.head.config.layers == (1,) and pipeline.embed_text(["red"]).shape == (1, 8)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--layers", "1,5"], "reads layers (1, 5) of width 32, and the transformer has 2"),
        (["--init", "nothing-of-this-name"], "is neither; train one, or name its folder"),
    ],
)
def test_what_cannot_be_trained_is_one_line(world, words, told, capsys):
    assert tokenloom_train_embed(world, "run", *words) == 1
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--batch-size", "1"], "and batch_size 2, got 4 and 1"),
        (["--prompt-length", "1"], "prompt_length must be at least 2"),
        (["--clip-share", "1"], "clip_share must be between 0 and 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_wrong_usage(world, words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        tokenloom_train_embed(world, "run", *words)
    assert told in capsys.readouterr().err


def test_help_tells_the_defaults():
    shown = " ".join(train_embed.build_parser().format_help().split())
    defaults = asdict(ContrastiveRecipe()) | asdict(ContrastiveConfig())
    options = {action.dest: action.option_strings[-1] for action in train_embed.build_parser()._actions}
    for name in train_embed.RECIPE + train_embed.SHAPE:
        if isinstance(defaults[name], int | float) and not isinstance(defaults[name], bool):
            assert re.search(rf" {options[name]} [A-Z]+ [^-]*default: {defaults[name]}( |$)", shown), name
    assert {"data", "clip_data", *train_embed.RECIPE} == set(asdict(ContrastiveRecipe()))
    assert {"trunk_width", *train_embed.SHAPE} == set(asdict(ContrastiveConfig()))
