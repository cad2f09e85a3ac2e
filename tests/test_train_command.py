"""`tokenloom train`: captioned pictures in, a model folder out, and a killed run that ends in the same weights."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.doubles import CAPTIONS, SIZE, awaken, toy_image_tokenizer, toy_picture, toy_pictures
from tests.two_processes import both_batches, run_on_two
from tokenloom.models.transformer import TransformerConfig
from tokenloom.pipelines import train_model, training_batches
from tokenloom.pipelines.picture_sources import open_source, whole
from tokenloom.pipelines.prepare_training import scene_score, watched_prompts
from tokenloom.pipelines.text_to_image import TextToImagePipeline, seeded
from tokenloom.pipelines.train_recipe import TransformerRecipe
from tokenloom.scripts import cli, train
from tokenloom.tokenizers.image import ImageTokenizer
from tokenloom.tokenizers.text import TextTokenizer

SHAPE = f"--size {SIZE} --width 16 --layers 1 --heads 1 --text-vocab-size 270".split()
TOY = [*SHAPE, *"--batch-size 3 --prompt-length 8 --warmup 1".split()]


def tokenloom_train(*words: object) -> int:
    return cli.main(["train", *map(str, words)])


@pytest.fixture
def world(tmp_path) -> Path:
    """A folder with `pictures`, captioned, and `codes`, a tokenizer for them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for caption in CAPTIONS:
        pixels = toy_picture(caption).permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(folder / f"{caption}.png")
        (folder / f"{caption}.txt").write_text(caption)
    tokenizer = toy_image_tokenizer(alive=False)
    tokenizer.start_linear(toy_pictures())
    tokenizer.save_pretrained(tmp_path / "codes")
    return tmp_path


def words_for(world: Path, out: str = "run") -> list[object]:
    return ["--data", world / "pictures", "--tokenizer", world / "codes", "--out", world / out, *TOY]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "transformer" / "model.safetensors")


def test_a_run_plans_trains_draws_samples_and_leaves_a_model(world, capsys):
    assert tokenloom_train(*words_for(world), "--steps", 2, "--decoder", "masked,ar") == 0
    shown = capsys.readouterr().out
    assert shown.index("M parameters") < shown.index("step 0/2") < shown.index("validation_masked")
    pipeline = TextToImagePipeline.from_pretrained(world / "run" / "final")
    assert pipeline.image_size == (SIZE, SIZE) and pipeline.lexicon == {*"red green blue white over".split()}
    assert pipeline.text_tokenizer.vocab_size == 270
    with Image.open(world / "run" / "samples" / "step-00000002.png") as sheet:
        assert sheet.size == (8 * (SIZE + 2) + 2, 2 * (SIZE + 2) + 2)  # eight prompts by two decoders


def test_a_killed_run_ends_in_the_same_weights(world, monkeypatch, capsys):
    words = ["--steps", 4, "--checkpoint-every", 1, "--evaluate-every", 2]
    assert tokenloom_train(*words_for(world, "whole"), *words, "--workers", 1) == 0

    draw, drawn = training_batches.Batches.__call__, []

    def killed(self, number):
        drawn.append(number)
        if number == 3:
            raise KeyboardInterrupt
        return draw(self, number)

    monkeypatch.setattr(training_batches.Batches, "__call__", killed)
    assert tokenloom_train(*words_for(world), *words) == 130
    monkeypatch.setattr(training_batches.Batches, "__call__", draw)
    words_of_run = (world / "run" / "text_tokenizer" / "tokenizer.json").read_bytes()
    (world / "pictures" / f"{CAPTIONS[0]}.txt").write_text("snow")
    assert tokenloom_train(*words_for(world), *words) == 1 and "add --resume" in capsys.readouterr().err
    assert (world / "run" / "text_tokenizer" / "tokenizer.json").read_bytes() == words_of_run
    (world / "pictures" / f"{CAPTIONS[0]}.txt").write_text(CAPTIONS[0])
    other_share = ["--data", f"{world / 'pictures'}:2", *words_for(world)[2:]]
    assert tokenloom_train(*other_share, *words, "--resume") == 1
    assert "keep its settings, but recipe.data was" in capsys.readouterr().err
    assert tokenloom_train(*words_for(world), *words, "--resume") == 0
    one, other = weights(world / "whole" / "final"), weights(world / "run" / "final")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_init_brings_weights_tokenizers_and_words(world, capsys):
    assert tokenloom_train(*words_for(world, "first"), "--steps", 1) == 0
    first = world / "first" / "final"
    (world / "more").mkdir()
    Image.new("RGB", (SIZE, SIZE), "gray").save(world / "more" / "a.png")
    (world / "more" / "a.txt").write_text("gray")
    words = ["--data", world / "more", "--out", world / "second", "--init", first, *TOY, "--steps", 1]
    assert tokenloom_train(*words, "--muon-lr", "1e-9", "--adamw-lr", "1e-9") == 0
    second = TextToImagePipeline.from_pretrained(world / "second" / "final")
    assert second.lexicon == {*"red green blue white over gray".split()}
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(world / "second" / "final")[name], tensor, atol=1e-6, rtol=1e-6)
    deeper = [*words[:2], "--out", world / "third", *words[4:], "--layers", 3]
    assert tokenloom_train(*deeper) == 0
    assert TextToImagePipeline.from_pretrained(world / "third" / "final").transformer.config.num_layers == 3
    for more, told in (
        (("--width", "32"), "--init brings width 16"),
        (("--text-tokenizer", "x"), "leave out --text-tokenizer"),
        (("--text-vocab-size", "300"), "--init brings a text tokenizer of 270, not 300"),
        (("--rate", "3"), "--rate would be of --clips, and there are none"),
        (("--clip-share", "0.9"), "--clip-share would be of --clips, and there are none"),
    ):
        with pytest.raises(SystemExit):
            tokenloom_train(*words, *more)
        assert told in capsys.readouterr().err


def test_init_goes_on_with_the_codes_of_another_tokenizer_and_keeps_all_else(world, capsys):
    assert tokenloom_train(*words_for(world, "first"), "--steps", 1) == 0
    first = world / "first" / "final"
    codes = ImageTokenizer.from_pretrained(world / "codes")
    awaken(codes, 1)
    codes.save_pretrained(world / "others")
    toy_image_tokenizer(levels=(5, 5)).save_pretrained(world / "wider")
    words = ["--data", world / "pictures", "--out", world / "second", "--init", first, *TOY, "--steps", 1]
    rates = ["--muon-lr", "1e-9", "--adamw-lr", "1e-9"]
    assert tokenloom_train(*words, *rates, "--tokenizer", world / "others") == 0
    second = TextToImagePipeline.from_pretrained(world / "second" / "final")
    assert second.image_tokenizer.fingerprint == ImageTokenizer.from_pretrained(world / "others").fingerprint
    old, new = weights(first), weights(world / "second" / "final")
    assert not torch.equal(old["latent_mean"], new["latent_mean"])  # those of the new codes
    for name in old.keys() - {"latent_mean", "latent_std"}:
        torch.testing.assert_close(new[name], old[name], atol=1e-6, rtol=1e-6)
    with pytest.raises(SystemExit):
        tokenloom_train(*words, "--tokenizer", world / "wider")
    assert "--init brings image_levels" in capsys.readouterr().err


def test_the_plan_alone_writes_nothing(world, capsys):
    before = sorted(world.rglob("*"))
    words = ["--data", world / "pictures", "--tokenizer", world / "codes", *SHAPE]
    assert tokenloom_train(*words, "--steps", 1000, "--plan-only") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("M parameters", "GFLOP each", "GB", "hours")) and "step 0" not in shown
    assert sorted(world.rglob("*")) == before


def test_the_prompts_that_are_watched_are_of_every_source_and_fit(world):
    source = open_source(["scenes", str(world / "pictures")], SIZE, 0, whole)
    tokenizer = TextTokenizer.train(list(source.captions())[:500], vocab_size=400)
    prompts = watched_prompts(source, tokenizer, 64)
    assert prompts == watched_prompts(source, tokenizer, 64) and len(prompts) == 8
    assert len({*prompts} & {*CAPTIONS}) == 4
    assert not watched_prompts(source, tokenizer, 1)


def test_scenes_are_scored_and_other_pictures_are_not(world, monkeypatch):
    from tokenloom.pipelines import prepare_training

    asked = []
    monkeypatch.setattr(
        prepare_training, "score_pipeline", lambda *a, **k: asked.append((a, k)) or {"single": 1.0, "overall": 0.5}
    )
    scenes, files = (open_source([spec], SIZE, 0, whole) for spec in ("scenes", str(world / "pictures")))
    assert scene_score(files, ["ar"], 4) is None and scene_score(scenes, ["ar"], 0) is None
    assert scene_score(scenes, ["ar", "masked"], 4)("pipeline") == {
        **{"ar_single": 1.0, "ar_overall": 0.5, "masked_single": 1.0, "masked_overall": 0.5}
    }
    assert {options["per_kind"] for _, options in asked} == {4}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--size", "10"], "must be a multiple of the tokenizer's stride 4, got 10"),
        (["--tokenizer", "nothing-of-this-name"], "no image tokenizer called"),
    ],
)
def test_what_cannot_be_trained_is_one_line(world, change, told, capsys):
    assert tokenloom_train(*words_for(world), *change) == 1
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1


def test_a_model_may_draw_pixels_of_a_palette_instead_of_codes(world, capsys):
    """What is drawn has no color but those of the palette, one id for each pixel."""
    words = [
        "--data",
        "scenes",
        "--tokenizer",
        "palette",
        *"--size 16 --width 32 --layers 1 --heads 2 --steps 2".split(),
    ]
    more = ["--batch-size", "2", "--score-prompts", "0", "--out", world / "pixels"]
    assert tokenloom_train(*words, "--decoder", "ar,masked", *more) == 0
    pipeline = TextToImagePipeline.from_pretrained(world / "pixels" / "final")
    assert pipeline.image_size == pipeline.transformer.config.image_grid == (16, 16)
    for decoder in ("ar", "masked"):
        drawn = pipeline("a star", decoder=decoder, generator=seeded(0, 1), output_type="pt")
        assert drawn.ids.shape == (1, 16, 16) and torch.equal(pipeline.image_tokenizer.decode(drawn.ids), drawn.images)
    with pytest.raises(SystemExit, match="2"):
        tokenloom_train(*words, *more)
    assert "colors of a palette have none; take the decoders ar, masked" in capsys.readouterr().err


@pytest.mark.parametrize("change", [["--heads", "64"], ["--width", "15"]], ids=" ".join)
def test_a_transformer_that_cannot_be_is_wrong_usage(world, change, capsys):
    with pytest.raises(SystemExit, match="2"):
        tokenloom_train(*words_for(world), *change)
    assert "width must be heads x an even number" in capsys.readouterr().err


def test_pictures_without_captions_are_refused(world, capsys):
    for path in (world / "pictures").glob("*.txt"):
        path.unlink()
    assert tokenloom_train(*words_for(world)) == 1
    assert "needs texts, got none" in capsys.readouterr().err


def test_help_tells_the_defaults():
    shown = " ".join(train.build_parser().format_help().split())
    defaults = asdict(TransformerRecipe()) | asdict(TransformerConfig(text_vocab_size=1))
    options = {action.dest: action.option_strings[-1] for action in train.build_parser()._actions}
    for name in train.RECIPE + train.SHAPE:
        if isinstance(defaults[name], int | float) and not isinstance(defaults[name], bool):
            assert re.search(rf" {options[name]} [A-Z]+ [^-]*default: {defaults[name]}( |$)", shown), name
    choices = {"data", "clip_data", *train.RECIPE}
    assert choices == set(asdict(TransformerRecipe())), "every choice of the recipe is an option"


@pytest.mark.slow
def test_accelerate_trains_the_same_model(world):
    pytest.importorskip("accelerate")
    for out, more in ("plain", []), ("accelerated", ["--accelerate"]):
        words = ["train", *words_for(world, out), "--steps", 2, "--decoder", "ar", *more]
        code = f"import sys; from tokenloom.scripts.cli import main; sys.exit(main({json.dumps([*map(str, words)])}))"
        environment = {"ACCELERATE_USE_CPU": "true", "PATH": "", "OMP_NUM_THREADS": "1"}
        result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    one, other = weights(world / "plain" / "final"), weights(world / "accelerated" / "final")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--decoder", "ar"], ["--text-share", 0.5]], ids=["one decoder", "with texts"])
def test_two_processes_learn_what_one_does_from_the_batches_of_both(world, monkeypatch, options):
    """Each has weights that get no gradient in some step, and none of the first block's share of values ever does."""
    pytest.importorskip("accelerate")
    words = [*options, "--steps", 4, "--seed", 3, "--adamw-lr", 0.05, "--muon-lr", 0.05, "--ema-decay", 0]
    (one, of_one), (other, of_other) = run_on_two(
        "train_model", ["train", *words_for(world, "two"), *words], world / "w"
    )
    assert of_one == [0, 2, 4, 6] and of_other == [1, 3, 5, 7]
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert len(list((world / "two" / "tensorboard").iterdir())) == 1, "curves are of the main process alone"

    monkeypatch.setattr(train_model.BatchLoss, "__call__", both_batches(train_model.BatchLoss.__call__))
    assert tokenloom_train(*words_for(world, "one"), *words) == 0
    expected = weights(world / "one" / "final")
    for name, tensor in weights(world / "two" / "final").items():
        torch.testing.assert_close(
            tensor, expected[name], atol=1e-3, rtol=1e-3, msg=lambda told, n=name: f"{n}: {told}"
        )
