"""Laws of pipelines/train_image_tokenizer.py: it learns, tells the truth about it, and resumes to the bit."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import SIZE, ToySource, toy_image_tokenizer, toy_pictures
from tokenloom.models.image_metrics import psnr
from tokenloom.pipelines import train_image_tokenizer as file
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.picture_codec import open_picture_codec
from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
from tokenloom.pipelines.train_image_tokenizer import (
    OVERFIT_DB,
    ImageTokenizerRecipe,
    bits_per_pixel,
    diagnose,
    losses_of,
    overfit_one,
    plain_excess,
    train_image_tokenizer,
)
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.pipelines.train_reconstruction import check_input, to_range
from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig

CONFIG = ImageTokenizerConfig(stride=4, levels=(5, 5, 5), widths=(16,), encoder_blocks=(1,), decoder_blocks=(1,))


class Ramps:
    """A PictureSource of soft ramps of color, 16 x 16, in random directions."""

    def __call__(self, number: int, count: int) -> tuple[Tensor, list[str]]:
        generator = torch.Generator().manual_seed(number)
        corners = torch.rand(count, 3, 2, 2, generator=generator) * 255
        ramps = torch.nn.functional.interpolate(corners, size=16, mode="bilinear", align_corners=True)
        return ramps.round().to(torch.uint8), [""] * count

    def captions(self):
        return []


def recipe(**changes) -> ImageTokenizerRecipe:
    every = {"evaluate_every": 4, "checkpoint_every": 3}
    return ImageTokenizerRecipe(**({"steps": 8, "batch_size": 4, "warmup": 2} | every | changes))


def run(out: Path, **options) -> tuple[ImageTokenizer, list[str]]:
    words: list[str] = []
    made = {"config": CONFIG, "recipe": recipe(), "source": Ramps(), "out": out, "say": words.append} | options
    return train_image_tokenizer(**made), words


def bits(out: Path) -> dict[str, Tensor]:
    found = load_checkpoint(out)
    assert found is not None
    return {f"{part}.{name}": tensor for part, tensors in found[1].items() for name, tensor in tensors.items()}


def quality(tokenizer: ImageTokenizer) -> float:
    images = to_range(Ramps()(VALIDATION_NUMBER, 64)[0])
    return float(psnr(tokenizer.decode(tokenizer.encode(images)), images).mean())


def test_training_improves_on_the_linear_start_and_writes_curves_and_pictures(tmp_path):
    start = toy_image_tokenizer(alive=False, levels=CONFIG.levels, widths=CONFIG.widths)
    start.start_linear(to_range(Ramps()(VALIDATION_NUMBER - 1, 256)[0]))
    trained, words = run(tmp_path, recipe=recipe(steps=60, batch_size=16, learning_rate=5e-3, evaluate_every=30))
    assert quality(trained) > quality(start) + 1
    assert not trained.training and trained.config == CONFIG
    assert any(word.startswith("step 60: psnr ") and "codes_in_use" in word and "ssim" in word for word in words)
    for name in ("reconstructions.png", "levels.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 50 and len(picture.convert("RGB").getcolors(1 << 16)) > 2


@pytest.mark.parametrize("options", [{}, {"adversarial": 0.1}, {"freeze_encoder": True}, {"bits": 0.01}], ids=str)
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, options):
    """With the fused optimizer and channels-last weights that training here uses."""

    class Death(BaseException):
        pass

    class Deadly(Ramps):
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


def test_the_dearer_a_bit_the_fewer_are_spent_and_the_coarser_the_pictures(tmp_path):
    images = to_range(Ramps()(VALIDATION_NUMBER, 256)[0])  # what training validates on
    config = replace(CONFIG, levels=(63, 31, 31))
    spent, errors = [], []
    for weight in (1e-3, 0.1):
        out = tmp_path / str(weight)
        paid = recipe(steps=80, batch_size=16, learning_rate=5e-3, evaluate_every=80, bits=weight)
        trained, words = run(out, config=config, recipe=paid)
        codec = open_picture_codec(save(trained, out))
        counted = float(re.findall(r"bits_per_pixel (\S+)", " ".join(words))[-1])
        spent.append(bits_per_pixel(trained, codec.entropy_model, images))
        assert spent[-1] == pytest.approx(counted, rel=1e-3)
        errors.append(quality(trained))
    assert spent[1] < 0.8 * spent[0] and errors[1] < errors[0] - 4


def test_codes_without_ids_are_trained_for_files_alone(tmp_path):
    config = replace(CONFIG, levels=(5,) * 20)
    with pytest.raises(ValueError, match="codes can have ids"):
        run(tmp_path / "ids", config=config)
    trained, words = run(tmp_path / "files", config=config, recipe=recipe(bits=0.01))
    assert trained.config == config and "2^46 codes" in words[0]


def test_training_for_files_goes_on_from_both_models(tmp_path):
    first, _ = run(tmp_path / "first", recipe=recipe(bits=0.01))
    codec = open_picture_codec(save(first, tmp_path / "first"))
    still = recipe(bits=0.02, steps=1, learning_rate=0.0)
    options = {"recipe": still, "init": codec.tokenizer, "init_entropy_model": codec.entropy_model}
    trained, _ = run(tmp_path / "second", **options)
    again = open_picture_codec(save(trained, tmp_path / "second"))
    assert again.tokenizer.fingerprint == codec.tokenizer.fingerprint
    ours, theirs = again.entropy_model.state_dict(), codec.entropy_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.entropy_model.config == codec.entropy_model.config


def save(tokenizer: ImageTokenizer, out: Path) -> Path:
    tokenizer.save_pretrained(out)
    return out


def test_the_same_seed_gives_the_same_tokenizer_and_another_seed_another(tmp_path):
    one, two, other = (
        run(tmp_path / name, recipe=recipe(steps=2, seed=seed))[0] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_training_goes_on_from_another_tokenizer(tmp_path):
    init = toy_image_tokenizer(levels=CONFIG.levels, widths=CONFIG.widths)
    before = init.fingerprint
    trained, _ = run(tmp_path, recipe=recipe(steps=1, learning_rate=0.0), init=init)
    assert trained.fingerprint == before


def test_a_frozen_encoder_keeps_the_ids(tmp_path):
    init = toy_image_tokenizer(levels=CONFIG.levels, widths=CONFIG.widths)
    images = to_range(Ramps()(0, 4)[0])
    ids, pictures = init.encode(images), init.decode(init.encode(images))
    trained, _ = run(tmp_path, recipe=recipe(freeze_encoder=True, learning_rate=0.02), init=init)
    assert torch.equal(trained.encode(images), ids) and not torch.equal(trained.decode(ids), pictures)


def test_a_frozen_decoder_keeps_what_ids_mean(tmp_path):
    init = toy_image_tokenizer(levels=CONFIG.levels, widths=CONFIG.widths)
    images = to_range(Ramps()(0, 4)[0])
    ids, pictures = init.encode(images), init.decode(init.encode(images))
    trained, _ = run(tmp_path, recipe=recipe(freeze_decoder=True, learning_rate=0.02), init=init)
    assert torch.equal(trained.decode(ids), pictures) and not torch.equal(trained.encode(images), ids)


def test_something_must_be_left_to_train():
    with pytest.raises(ValueError, match="freeze one of them"):
        recipe(freeze_encoder=True, freeze_decoder=True)


def test_validation_is_on_pictures_that_training_does_not_see(tmp_path):
    numbers: list[int] = []

    class Watched(Ramps):
        def __call__(self, number, count):
            numbers.append(number)
            return super().__call__(number, count)

    run(tmp_path, source=Watched())
    assert numbers.count(VALIDATION_NUMBER) == 1
    assert [number for number in numbers if number < VALIDATION_NUMBER - 1] == list(range(8))


# ------------------------------------------------------------------------------------------------------------ checks


def test_one_picture_is_learned_to_35_db():
    assert OVERFIT_DB == 35
    reached = overfit_one(CONFIG, Ramps(), steps=200)
    assert 35 <= reached < 100


def test_a_tokenizer_that_cannot_learn_one_picture_is_told(monkeypatch):
    class Noise(Ramps):
        def __call__(self, number, count):
            generator = torch.Generator().manual_seed(number)
            return torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator), [""] * count

    with pytest.raises(TrainingError, match="one picture must reach 35.0 dB, got"):
        overfit_one(CONFIG, Noise(), steps=3)


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "must have contrast"),
        (torch.full((2, 3, 8, 8), 200, dtype=torch.uint8), r"every pixel is \(200, 200, 200\)"),
        (torch.rand(2, 3, 8, 8), "must be uint8"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), r"must be uint8 \(B, 3, ..., H, W\)"),
    ],
)
def test_pictures_that_teach_nothing_are_refused_before_training(pictures, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        check_input(pictures)

    class Bad(Ramps):
        def __call__(self, number, count):
            return pictures, [""] * len(pictures)

    with pytest.raises(ValueError, match=told):
        run(tmp_path / "out", source=Bad())
    assert not (tmp_path / "out").exists()


def test_pictures_of_different_flat_colors_have_contrast():
    check_input(ToySource()(0, 8)[0])


def test_uint8_becomes_the_range_of_the_tokenizer():
    assert to_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_range(torch.arange(256).to(torch.uint8)).abs().max() <= 1


# --------------------------------------------------------------------------------------------------------- diagnosis


def test_the_diagnosis_counts_codes_levels_and_bits_as_by_hand(monkeypatch):
    tokenizer = toy_image_tokenizer()
    ids = torch.tensor([[[0, 0], [5, 5]], [[5, 11], [0, 0]]])
    cells = tokenizer.quantizer.ids_to_cells(ids)
    monkeypatch.setattr(tokenizer, "encode_cells", lambda images: cells)
    monkeypatch.setattr(file, "ssim", lambda a, b: torch.ones(len(a)))  # 8 pixels are fewer than its window
    scores, reconstructions, levels = diagnose(tokenizer, toy_pictures()[:2])
    assert scores["codes_in_use"] == 3
    assert scores["bits_per_code"] == pytest.approx(0.5 * 1 + 0.375 * math.log2(8 / 3) + 0.125 * 3)
    assert torch.equal(reconstructions, tokenizer.decode(ids, (SIZE, SIZE)))
    # levels are 4 and 3: id 0 is cells (0, 0), id 5 is (1, 1), id 11 is (3, 2)
    torch.testing.assert_close(levels, torch.tensor([[0.5, 0.375, 0, 0.125], [0.5, 0.375, 0.125, 0]]))


def test_what_plain_squares_say_and_what_bits_cost_are_not_weighed_together():
    with pytest.raises(ValueError, match="leave one of them out"):
        recipe(plain=1.0, bits=0.01)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch_size": 0}])
def test_recipes_without_work_are_refused(changes):
    with pytest.raises(ValueError, match="steps and batch_size must be at least 1"):
        recipe(**changes)


def test_only_plain_squares_are_held_to_the_linear_code():
    noise = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    half = noise.clone()
    half[:, :, :, : SIZE // 2] = 0.3  # the left column of squares has one color

    def excess(images: Tensor, alive: bool) -> float:
        tokenizer = toy_image_tokenizer(alive=alive)
        return float(plain_excess(tokenizer, images, tokenizer(images)[1]).detach())

    assert excess(half, alive=True) > 0 == excess(noise, alive=True)
    assert excess(half, alive=False) == 0  # a fresh network adds nothing to the linear code


def test_a_weight_on_plain_squares_takes_what_they_say_beyond_their_color():
    source = ToySource()
    images = to_range(source(0, 16)[0])
    found = []
    for weight in (0.0, 1.0):
        tokenizer = toy_image_tokenizer(seed=2)
        made = recipe(steps=40, batch_size=16, plain=weight, evaluate_every=100, learning_rate=1e-2)
        losses = losses_of(tokenizer, made)
        optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=1e-2)
        for _ in range(made.steps):
            optimizer.zero_grad()
            losses(images)[0].backward()
            optimizer.step()
        found.append(float(plain_excess(tokenizer, images, tokenizer(images)[1]).detach()))
    assert found[1] < 0.5 * found[0]
