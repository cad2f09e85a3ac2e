"""Laws of pipelines/train_video_tokenizer.py: it learns, tells the truth about it, and resumes to the bit."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import toy_video_tokenizer
from tokenloom.models.image_metrics import psnr, ssim
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.pipelines.train_reconstruction import frames_of, to_range
from tokenloom.pipelines.train_video_tokenizer import (
    OVERFIT_DB,
    VideoTokenizerRecipe,
    diagnose,
    losses_of,
    overfit_one,
    train_video_tokenizer,
)
from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

CONFIG = VideoTokenizerConfig(stride=4, levels=(5, 5, 5), widths=(16,), encoder_blocks=(1,), decoder_blocks=(1,))


class Drifts:
    """A ClipSource of soft colors that change in space and time: 9 frames of 16 x 16."""

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        generator = torch.Generator().manual_seed(number)
        corners = torch.rand(count, 3, 3, 2, 2, generator=generator) * 255
        clips = torch.nn.functional.interpolate(corners, size=(9, 16, 16), mode="trilinear", align_corners=True)
        return clips.round().to(torch.uint8), [""] * count

    def captions(self):
        return []


def recipe(**changes) -> VideoTokenizerRecipe:
    every = {"evaluate_every": 4, "checkpoint_every": 3}
    return VideoTokenizerRecipe(**({"steps": 8, "batch_size": 2, "warmup": 2} | every | changes))


def run(out: Path, **options) -> tuple[VideoTokenizer, list[str]]:
    words: list[str] = []
    made = {"config": CONFIG, "recipe": recipe(), "source": Drifts(), "out": out, "say": words.append} | options
    return train_video_tokenizer(**made), words


def bits(out: Path) -> dict[str, Tensor]:
    found = load_checkpoint(out)
    assert found is not None
    return {f"{part}.{name}": tensor for part, tensors in found[1].items() for name, tensor in tensors.items()}


def quality(tokenizer: VideoTokenizer) -> float:
    return diagnose(tokenizer, to_range(Drifts()(VALIDATION_NUMBER, 16)[0]))[0]["psnr"]


def test_training_improves_on_the_linear_start_and_writes_curves_and_pictures(tmp_path):
    start = toy_video_tokenizer(alive=False, levels=CONFIG.levels, widths=CONFIG.widths)
    start.start_linear(to_range(Drifts()(VALIDATION_NUMBER - 1, 64)[0]))
    trained, words = run(tmp_path, recipe=recipe(steps=60, batch_size=8, learning_rate=5e-3, evaluate_every=30))
    assert quality(trained) > quality(start) + 1
    assert not trained.training and trained.config == CONFIG
    assert "video tokenizer: 4 x 4 x 4" in words[0] and "9 x 16 x 16" in words[0] and "0.145 bits" in words[0]
    told = next(word for word in words if word.startswith("step 60: psnr "))
    assert all(f" {name} " in told for name in ("ssim", "flicker", "codes_in_use", "bits_per_code"))
    with Image.open(tmp_path / "levels.png") as levels, Image.open(tmp_path / "reconstructions.png") as strips:
        assert levels.width > 50
        assert strips.size == (9 * 18 + 2, 16 * 18 + 2)  # 9 frames, 8 clips of two rows, gaps of 2


@pytest.mark.parametrize("options", [{}, {"adversarial": 0.1, "motion": 0.0}, {"freeze_encoder": True}], ids=str)
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, options):
    class Death(BaseException):
        pass

    class Deadly(Drifts):
        def __call__(self, number, count):
            if number == 5:
                raise Death
            return super().__call__(number, count)

    whole, _ = run(tmp_path / "whole", recipe=recipe(**options))
    with pytest.raises(Death):
        run(tmp_path / "killed", recipe=recipe(**options), source=Deadly())
    resumed, _ = run(tmp_path / "killed", recipe=recipe(**options), resume=True)
    a, b = bits(tmp_path / "whole"), bits(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.fingerprint == whole.fingerprint


def test_what_was_trained_streams_as_exactly_as_what_was_not(tmp_path):
    trained, _ = run(tmp_path)
    clip = to_range(Drifts()(7, 1)[0])
    stream = trained.stream()
    pieces = [*(stream.push(piece) for piece in clip.split(2, dim=2)), stream.finish()]
    assert torch.equal(torch.cat(pieces, dim=1), trained.encode(clip))


def test_bfloat16_trains_what_float32_encodes(tmp_path):
    trained, _ = run(tmp_path, recipe=recipe(bfloat16=True))
    assert {parameter.dtype for parameter in trained.parameters()} == {torch.float32}
    assert quality(trained) > 15


def test_a_frozen_encoder_keeps_the_ids(tmp_path):
    init = toy_video_tokenizer(levels=CONFIG.levels, widths=CONFIG.widths)
    clips = to_range(Drifts()(0, 2)[0])
    ids, frames = init.encode(clips), init.decode(init.encode(clips))
    trained, _ = run(tmp_path, recipe=recipe(freeze_encoder=True, learning_rate=0.02), init=init)
    assert torch.equal(trained.encode(clips), ids) and not torch.equal(trained.decode(ids), frames)


def test_what_moves_counts_more_when_it_is_asked_to():
    """A flickering error and a steady one are as far from the picture; only the first is wrong in its differences."""
    clips = torch.zeros(1, 3, 5, 8, 8)
    steady = torch.full_like(clips, 0.1)
    flickering = steady * torch.tensor([1, -1, 1, -1, 1]).view(1, 1, 5, 1, 1)
    tokenizer, z_q = toy_video_tokenizer(), torch.zeros(1)
    assert losses_of(tokenizer, recipe(motion=0.0)).penalty is None
    penalty = losses_of(tokenizer, recipe(motion=0.5)).penalty
    assert penalty is not None and penalty(clips, steady, z_q) == 0
    torch.testing.assert_close(penalty(clips, flickering, z_q), torch.tensor(0.1))


# --------------------------------------------------------------------------------------------------------- diagnosis


def test_scores_are_means_over_frames(monkeypatch):
    tokenizer, clips = toy_video_tokenizer(), to_range(Drifts()(0, 2)[0])
    scores, reconstructions, levels = diagnose(tokenizer, clips)
    assert torch.equal(reconstructions, tokenizer.decode(tokenizer.encode(clips), (9, 16, 16)))
    by_frame = [(reconstructions[:, :, n], clips[:, :, n]) for n in range(9)]
    assert scores["psnr"] == pytest.approx(
        float(torch.stack([psnr(a, b).mean() for a, b in by_frame]).mean()), rel=1e-5
    )
    assert scores["ssim"] == pytest.approx(
        float(torch.stack([ssim(a, b).mean() for a, b in by_frame]).mean()), rel=1e-5
    )
    moved = (reconstructions.diff(dim=2) - clips.diff(dim=2)).abs().mean()
    assert scores["flicker"] == pytest.approx(127.5 * float(moved), rel=1e-5)
    assert levels.shape == (2, 4)
    torch.testing.assert_close(levels.sum(1), torch.ones(2))


def test_clips_are_read_as_pictures_frame_by_frame():
    clips = to_range(Drifts()(0, 2)[0])
    assert torch.equal(frames_of(clips)[9 + 4], clips[1, :, 4]) and frames_of(clips).shape == (18, 3, 16, 16)


def test_one_clip_is_learned_to_33_db():
    assert OVERFIT_DB == 33
    assert 33 <= overfit_one(CONFIG, Drifts(), steps=300) < 100


def test_a_tokenizer_that_cannot_learn_one_clip_is_told():
    class Noise(Drifts):
        def __call__(self, number, count):
            generator = torch.Generator().manual_seed(number)
            return torch.randint(256, (count, 3, 9, 16, 16), dtype=torch.uint8, generator=generator), [""] * count

    with pytest.raises(TrainingError, match="one clip must reach 33.0 dB, got"):
        overfit_one(CONFIG, Noise(), steps=3)


def test_clips_that_teach_nothing_are_refused_before_training(tmp_path):
    class Gray(Drifts):
        def __call__(self, number, count):
            return torch.full((count, 3, 9, 16, 16), 128, dtype=torch.uint8), [""] * count

    with pytest.raises(ValueError, match=r"clips must have contrast, but every pixel is \(128, 128, 128\)"):
        run(tmp_path / "out", source=Gray())
    assert not (tmp_path / "out").exists()
