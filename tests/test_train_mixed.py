"""Laws of training on everything: pairs by the number alone, in their shares; resumed to the bit; then any to any."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.doubles import (
    CAPTIONS,
    GRID,
    TONES,
    ToySource,
    awaken,
    tone,
    tones,
    toy_audio_tokenizer,
    toy_image_tokenizer,
    toy_pictures,
    toy_text_tokenizer,
)
from tokenloom.data.loader import generator_of
from tokenloom.data.write_audio import write_audio
from tokenloom.models.mixed_objectives import MixedLosses
from tokenloom.models.objectives import Batch, DecoderLosses
from tokenloom.models.sound_objectives import SpeechBatch, SpeechLosses
from tokenloom.pipelines.any_to_any import AnyToAnyPipeline, Sound
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.mixed_batches import USUAL, MixedBatches, MixedRecipe, mixing_table
from tokenloom.pipelines.mixed_model import MixedModel, new_mixed_model
from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.pipelines.speech_batches import SpeechBatches, SpeechData
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.pipelines.train_mixed import train_mixed
from tokenloom.pipelines.training_batches import Batches
from tokenloom.scripts import cli

FRAMES = 3


class ToyClips(ToySource):
    """A ClipSource: pictures that stand still."""

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        pictures, names = super().__call__(number, count)
        return pictures.unsqueeze(2).repeat(1, 1, FRAMES, 1, 1), names


def answers(number: int, count: int):
    return list(zip(tones(number, count), tones(number + 1, count), strict=True))


DATA = SpeechData(tones, tones, answers, lambda: ["low middle high"], lambda: ["ann"])


def recipe(**changes) -> MixedRecipe:
    usual = mixing_table([], clips=True, answers=True)
    small = {"steps": 6, "batch_size": 3, "warmup": 1, "prompt_length": 8, "evaluate_every": 3, "checkpoint_every": 2}
    return MixedRecipe(**({"mix": usual} | small | changes))


def toy_model() -> MixedModel:
    images = toy_image_tokenizer(alive=False)
    images.start_linear(toy_pictures())
    shape = {"image_grid": GRID, "num_frames": FRAMES, "width": 32, "num_layers": 2, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        model = new_mixed_model(
            images, toy_audio_tokenizer(), toy_text_tokenizer(), codebooks=2, seconds=0.16, seed=0, **shape
        )
    awaken(model.transformer, 1)
    return model


def batches_of(model: MixedModel, made: MixedRecipe, **options) -> MixedBatches:
    parts = model.pictures
    pictures = Batches(
        ToySource(), ToyClips(seed=1), parts.image_tokenizer, parts.text_tokenizer, parts.transformer, made
    )
    return MixedBatches(pictures, SpeechBatches(model.speech, made.of_sounds, DATA), made, **options)


def run(out: Path, source=None, made=None, **options) -> tuple[MixedModel, list[str]]:
    words: list[str] = []
    sources = source or ToySource(), replace(DATA)
    model = train_mixed(
        toy_model(), made or recipe(), *sources, out, clips=ToyClips(seed=1), say=words.append, **options
    )
    return model, words


# ------------------------------------------------------------------------------------------------------------ the table


def test_without_a_word_every_pair_that_there_is_data_for_is_learned():
    every = mixing_table([], clips=True, answers=True)
    assert every.keys() == USUAL.keys() and sum(every.values()) == pytest.approx(1)
    assert every["text-image"] == pytest.approx(3 * every["image-text"])
    fewer = mixing_table([], clips=False, answers=False)
    assert fewer.keys() == {"text-image", "image-text", "text-audio", "audio-text"}
    assert sum(fewer.values()) == pytest.approx(1)
    assert mixing_table(["text-image:3", "audio-text"], clips=False, answers=True) == {
        "text-image": 0.75,
        "audio-text": 0.25,
    }


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["text-smell", "text-image"], "a mix has each of text-image, "),
        (["text-image", "text-image:2", "text-audio"], "at most once"),
        (["text-image:0", "text-audio"], "with a share above 0"),
        (["text-image:nan", "text-audio"], "with a share above 0"),
        (["text-image", "text-video", "text-audio"], "text-video takes clips, and there are none"),
        (["text-image", "audio-audio"], "audio-audio takes pairs of sounds, and there are none"),
        (["text-image", "image-text"], "a pair of pictures and one of sounds, got text-image, image-text"),
        (["audio-text"], "a pair of pictures and one of sounds, got audio-text"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(specs, message):
    with pytest.raises(ValueError, match=message):
        mixing_table(specs, clips=False, answers=False)


def test_clips_that_no_pair_learns_are_refused():
    with pytest.raises(ValueError, match="there are clips, and no pair learns them, got text-image, audio-text"):
        mixing_table(["text-image", "audio-text"], clips=True, answers=False)


def test_pairs_come_in_their_shares_and_by_the_number_alone():
    model, made = toy_model(), recipe()
    one, other = batches_of(model, made), batches_of(model, made, workers=1)
    drawn = [one.pair(number) for number in range(1000)]
    for pair, share in made.mix.items():
        assert drawn.count(pair) / 1000 == pytest.approx(share, abs=0.05), pair
    for number in (*range(4), 2):
        here, there = one(number), other(number)
        assert here.pair == there.pair == drawn[number]
        assert torch.equal(here.batch.prompts, there.batch.prompts)


def test_a_batch_is_what_its_pair_says():
    batches, seen = batches_of(toy_model(), recipe()), set()
    for number in range(60):
        mixed = batches(number)
        batch, (given, learned) = mixed.batch, mixed.pair.split("-")
        seen.add(mixed.pair)
        if isinstance(batch, SpeechBatch):
            assert "audio" in (given, learned)
            assert (batch.heard is not None) == (given == "audio")
            assert (batch.spoken is not None) == (learned == "audio")
            assert (batch.written is not None) == (learned == "text")
        else:
            assert isinstance(batch, Batch) and batch.describe == (learned == "text")
            still = batch.frames.shape[1] == 1 and not batch.frames.any()
            assert still or "video" in (given, learned)
    assert seen == USUAL.keys()


# ------------------------------------------------------------------------------------------------------------- training


def test_the_losses_are_those_of_a_run_that_learns_nothing_else():
    model = toy_model()
    losses = MixedLosses(model.transformer, DECODERS)
    assert losses.state_dict().keys() == {f"model.{name}" for name in model.transformer.state_dict()}
    batches = batches_of(model, recipe())
    kinds = set()
    for number in range(12):
        batch = batches(number).batch
        alone = (SpeechLosses if isinstance(batch, SpeechBatch) else DecoderLosses)(model.transformer, DECODERS)
        kinds.add(type(batch))
        mine, theirs = (module(batch, generator_of(0, number)) for module in (losses, alone))
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert kinds == {Batch, SpeechBatch}


def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path):
    class Death(BaseException):
        pass

    class Deadly(ToySource):
        def __call__(self, number, count):
            if 3 <= number < 100:
                raise Death
            return super().__call__(number, count)

    made = recipe(mix={"text-image": 0.5, "text-audio": 0.5})
    run(tmp_path / "whole", made=made)
    with pytest.raises(Death):
        run(tmp_path / "killed", Deadly(), made)
    resumed, _ = run(tmp_path / "killed", made=made, resume=True)
    whole, again = (load_checkpoint(tmp_path / name)[1] for name in ("whole", "killed"))
    for part, tensors in whole.items():
        assert all(torch.equal(tensor, again[part][name]) for name, tensor in tensors.items()), part
    with pytest.raises(TrainingError, match="must keep its settings"):
        run(tmp_path / "killed", made=recipe(), resume=True)


@pytest.mark.slow
def test_a_tiny_model_learns_every_pair(tmp_path):
    far = {"evaluate_every": 400, "checkpoint_every": 400}
    made = recipe(steps=400, batch_size=12, muon_lr=0.01, adamw_lr=0.01, ema_decay=0.9, drop_caption=0.0, **far)
    model, words = run(tmp_path, made=made)
    assert [line.split()[0] for line in words[0].splitlines()[1:-1]] == [pair.split("-")[0] for pair in USUAL]
    anything, tokenizer = AnyToAnyPipeline(model.pictures, model.speech), model.pictures.image_tokenizer

    def drawn(caption: str, kind: str) -> Tensor:
        return anything(caption, kind, generator=torch.Generator().manual_seed(0), temperature=0.0)

    right = []
    for caption, picture in zip(CAPTIONS, toy_pictures(), strict=True):
        back = tokenizer.decode(tokenizer.encode(picture[None]))[0]
        right += [torch.allclose(drawn(caption, "image"), back, atol=1e-3)]
        right += [torch.allclose(frame, back, atol=1e-3) for frame in drawn(caption, "video").unbind(1)]
        right += [anything(seen, "text") == caption for seen in (picture, torch.stack([picture] * FRAMES, dim=1))]
    right += [anything(Sound(tone(name).sound, 16_000), "text") == name for name in TONES]
    assert len(right) == 75 and sum(right) >= 70


# --------------------------------------------------------------------------------------------------------- the command

SMALL = ["--width", "32", "--layers", "1", "--heads", "2", "--size", "16", "--steps", "2", "--batch-size", "2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    for number, name in enumerate(TONES):
        write_audio(folder / "talks" / f"{number}.wav", tone(name).sound, 16_000)
        (folder / "talks" / f"{number}.txt").write_text(name)
    return ["--data", "scenes", "--speech", str(folder / "talks"), "--seconds", "0.2"]


def test_the_command_makes_one_model_that_goes_on_and_that_any_to_any_takes(tmp_path, files, capsys):
    run = ["train-mixed", *files, *SMALL, "--mix", "text-image", "text-audio:2", "audio-text"]
    assert cli.main([*run, "--out", str(tmp_path / "one")]) == 0
    assert "text -> audio    50.0% of the steps" in capsys.readouterr().out
    final = str(tmp_path / "one" / "final")
    assert cli.main(["any-to-any", "--list", "--model", final]) == 0
    assert capsys.readouterr().out.splitlines() == ["text -> image", "text -> audio", "audio -> text"]
    low = ["any-to-any", "low", "--model", final, "--decoder", "masked", "--steps", "1"]
    assert cli.main([*low, "--to", "image", "--out", str(tmp_path / "low.png")]) == 0
    assert cli.main([*low, "--to", "audio", "--out", str(tmp_path / "low.wav")]) == 0
    more = ["train-mixed", *files[:4], "--init", final, "--steps", "1", "--batch-size", "2"]
    assert cli.main([*more, "--out", str(tmp_path / "two")]) == 0
    known = {str(pair) for pair in AnyToAnyPipeline.from_pretrained(tmp_path / "two" / "final").knows()}
    assert known == {"text -> image", "image -> text", "text -> audio", "audio -> text"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of them"),
        (["--speech", "talks", "--digits", "d"], "give one of them"),
        (["--speech", "talks", "--init", "m", "--width", "8", "--size", "8"], "--init brings its own width, size"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train-mixed", "--data", "scenes", *options, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err


def test_a_mix_for_which_there_is_no_data_is_refused_in_a_line_and_nothing_is_written(tmp_path, files, capsys):
    run = ["train-mixed", *files, *SMALL, "--mix", "text-image", "audio-audio", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="2"):
        cli.main(run)
    assert "train-mixed: audio-audio takes pairs of sounds, and there are none; see" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
