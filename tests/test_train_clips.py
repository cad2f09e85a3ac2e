"""Laws of training on clips: one frame is learned after others that are given, and whole clips can be drawn."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.doubles import (
    CAPTIONS,
    ToySource,
    toy_config,
    toy_image_tokenizer,
    toy_picture,
    toy_pictures,
    toy_text_tokenizer,
    toy_transformer,
)
from tokenloom.data.loader import generator_of
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_video import TextToVideoPipeline
from tokenloom.pipelines.train_model import train_transformer
from tokenloom.pipelines.train_recipe import TransformerRecipe, plan
from tokenloom.pipelines.training_batches import Batches
from tokenloom.scripts import cli

FRAMES = 5
TURN = 3  # the frame at which the two halves of a toy clip change places


def names(caption: str) -> list[str]:
    """Captions of the frames of a toy clip, each as a picture."""
    above, over, below = caption.split()
    return [caption if frame < TURN else f"{below} {over} {above}" for frame in range(FRAMES)]


def toy_clip(caption: str) -> Tensor:
    """Uint8 (3, FRAMES, SIZE, SIZE)."""
    return torch.stack([toy_picture(name) for name in names(caption)], dim=1)


class ToyClips(ToySource):
    """A ClipSource of twelve clips."""

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        _, names = super().__call__(number, count)
        return torch.stack([toy_clip(name) for name in names]), names

    def captions(self) -> Iterable[str]:
        return ["blue over red"]


@pytest.fixture(scope="module")
def image_tokenizer():
    tokenizer = toy_image_tokenizer(alive=False)
    tokenizer.start_linear(toy_pictures())
    return tokenizer


def recipe(**changes) -> TransformerRecipe:
    small = {"steps": 6, "batch_size": 4, "warmup": 1, "prompt_length": 8, "evaluate_every": 3, "checkpoint_every": 2}
    return TransformerRecipe(**(small | changes))


def run(out: Path, image_tokenizer, clips=None, made=None, **options):
    words: list[str] = []
    pipeline = train_transformer(
        toy_config(num_frames=FRAMES),
        made or recipe(),
        ToySource(),
        image_tokenizer,
        toy_text_tokenizer(),
        out,
        clips=clips or ToyClips(seed=1),
        say=words.append,
        **options,
    )
    return pipeline, words


def bits(out: Path) -> dict[str, Tensor]:
    found = load_checkpoint(out)
    assert found is not None
    return {f"{part}.{name}": tensor for part, tensors in found[1].items() for name, tensor in tensors.items()}


def test_a_batch_holds_the_codes_of_the_frames_that_it_names(image_tokenizer):
    made = recipe(drop_caption=0.0)
    model = toy_transformer(num_frames=FRAMES)
    batches = Batches(ToySource(), ToyClips(), image_tokenizer, toy_text_tokenizer(), model, made)
    table = dict(zip(CAPTIONS, image_tokenizer.encode(toy_pictures()).flatten(1), strict=True))
    given = set()
    for number in range(12):
        batch = batches.encode(batches.clips_drawn(number, generator_of(0, number)))
        _, captions = ToyClips()(number, made.batch_size)
        given.add(batch.frames.shape[1] - 1)
        for codes, frames, caption in zip(batch.codes, batch.frames.tolist(), captions, strict=True):
            assert torch.equal(codes, torch.stack([table[names(caption)[frame]] for frame in frames]))
            assert len(set(frames)) == len(frames)
    assert len(given) > 2


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_clips_come_in_the_stated_share_of_the_steps(image_tokenizer, share, monkeypatch):
    kinds = []
    monkeypatch.setattr(Batches, "clips_drawn", lambda self, number, generator, describe: kinds.append("clips"))
    monkeypatch.setattr(Batches, "pictures_drawn", lambda self, number, generator, describe: kinds.append("pictures"))
    model, made = toy_transformer(num_frames=FRAMES), recipe(clip_share=share)
    batches = Batches(ToySource(), ToyClips(), image_tokenizer, toy_text_tokenizer(), model, made)
    for number in range(400):
        batches.draw(number)
    assert abs(kinds.count("clips") / 400 - share) < 0.06


def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, image_tokenizer):
    class Death(BaseException):
        pass

    class Deadly(ToyClips):
        def __call__(self, number, count):
            if number >= 3:
                raise Death
            return super().__call__(number, count)

    made = recipe(clip_share=0.9, evaluate_every=100)
    run(tmp_path / "whole", image_tokenizer, made=made)
    with pytest.raises(Death):
        run(tmp_path / "killed", image_tokenizer, Deadly(seed=1), made)
    run(tmp_path / "killed", image_tokenizer, made=made, resume=True)
    a, b = bits(tmp_path / "whole"), bits(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_losses_of_clips_are_told_apart_and_their_words_are_known(tmp_path, image_tokenizer):
    pipeline, words = run(tmp_path, image_tokenizer, made=recipe(steps=3))
    (line,) = [word for word in words if word.startswith("step 3: ")]
    assert all(f"validation_{kind}{name}" in line for name in DECODERS for kind in ("", "clip_"))
    assert {"blue", "red"} <= pipeline.lexicon


def test_the_plan_counts_the_frames_that_are_given():
    model = toy_transformer(num_frames=FRAMES)
    plans = [plan(model, recipe(clip_data=data), gigaflops=1e-6) for data in ((), ("clips",))]
    pictures, with_clips = (float(text.split("; ")[-1].split(" hours")[0]) for text in plans)
    assert with_clips > 1.1 * pictures


@pytest.mark.slow
def test_it_learns_to_draw_the_clip_that_was_asked_for_with_every_decoder(tmp_path, image_tokenizer):
    every = {"evaluate_every": 1000, "checkpoint_every": 1000}
    made = recipe(steps=400, batch_size=16, muon_lr=0.05, adamw_lr=0.02, ema_decay=0.9, clip_share=0.8, **every)
    trained, _ = run(tmp_path, image_tokenizer, made=made)
    pipeline = TextToVideoPipeline(trained)
    table = dict(zip(CAPTIONS, image_tokenizer.encode(toy_pictures()), strict=True))
    for decoder in DECODERS:
        ids = pipeline(CAPTIONS, decoder=decoder, generator=seeded(0, 12), output_type="pt").ids
        wanted = [[table[name] for name in names(caption)] for caption in CAPTIONS]
        right = (ids == torch.stack([torch.stack(frames) for frames in wanted])).flatten(2).all(2).float().mean()
        assert right >= 0.8, decoder


def test_the_command_plans_for_clips_and_refuses_what_is_none(tmp_path, capsys):
    toy_image_tokenizer().save_pretrained(tmp_path / "codes")
    command = ["train", "--data", "scenes", "--tokenizer", str(tmp_path / "codes"), "--plan-only", "--size", "32"]
    assert cli.main([*command, "--clips", "scenes"]) == 0
    with_clips = capsys.readouterr().out
    assert cli.main(command) == 0
    assert with_clips != capsys.readouterr().out
    assert cli.main([*command, "--clips", "scenes", "--frames", "9"]) == 1
    assert "clips of scenes have 17 frames, got 9" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_captions_are_learned_in_the_stated_share_of_the_steps(image_tokenizer, share):
    model, made = toy_transformer(num_frames=FRAMES), recipe(text_share=share, drop_caption=1.0)
    batches = Batches(ToySource(), ToyClips(), image_tokenizer, toy_text_tokenizer(), model, made)
    drawn = [batches.draw(number) for number in range(300)]
    described = [batch for batch in drawn if batch.describe]
    assert abs(len(described) / 300 - share) < 0.09
    assert all((batch.real.sum(1) > 1).all() for batch in described)  # none is left out, as it is for guidance
    assert all((batch.real.sum(1) == 1).all() for batch in drawn if not batch.describe)
    assert {tuple(batch.frames[0].tolist()) for batch in described} == {(0,), tuple(range(FRAMES))}


def test_a_model_that_learned_to_write_tells_so_and_is_watched(tmp_path, image_tokenizer):
    pipeline, words = run(tmp_path / "both", image_tokenizer, made=recipe(text_share=0.5))
    assert pipeline.writes and not run(tmp_path / "draws", image_tokenizer)[0].writes
    (line,) = [word for word in words if word.startswith("step 6: ")]
    assert "validation_text" in line and "validation_clip_text" in line


def test_workers_change_no_bit(tmp_path, image_tokenizer):
    run(tmp_path / "here", image_tokenizer, made=recipe(text_share=0.3))
    run(tmp_path / "ahead", image_tokenizer, made=recipe(text_share=0.3), workers=2)
    here, ahead = bits(tmp_path / "here"), bits(tmp_path / "ahead")
    assert here.keys() == ahead.keys() and all(torch.equal(here[name], ahead[name]) for name in here)
