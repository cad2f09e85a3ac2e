"""Laws of pipelines/train_model.py: batches by step alone, resume to the bit, a pipeline that draws what it learned."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.doubles import (
    CAPTIONS,
    COLORS,
    ToySource,
    toy_config,
    toy_image_tokenizer,
    toy_pictures,
    toy_text_tokenizer,
    toy_transformer,
)
from tokenloom.models.objectives import DecoderLosses
from tokenloom.pipelines.checkpoint import load_checkpoint
from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.pipelines.train_model import standardize, train_transformer
from tokenloom.pipelines.train_recipe import TransformerRecipe, plan
from tokenloom.pipelines.training_batches import Batches

DECODERS = ("ar", "masked", "diffusion")


@pytest.fixture(scope="module")
def image_tokenizer():
    tokenizer = toy_image_tokenizer(alive=False)
    tokenizer.start_linear(toy_pictures())
    return tokenizer


def recipe(**changes) -> TransformerRecipe:
    small = {"steps": 6, "batch_size": 4, "warmup": 1, "prompt_length": 8, "evaluate_every": 3, "checkpoint_every": 2}
    return TransformerRecipe(**(small | changes))


def run(out: Path, image_tokenizer, source=None, made=None, **options):
    words: list[str] = []
    pipeline = train_transformer(
        toy_config(),
        made or recipe(),
        source or ToySource(),
        image_tokenizer,
        toy_text_tokenizer(),
        out,
        say=words.append,
        **options,
    )
    return pipeline, words


def bits(out: Path) -> dict[str, Tensor]:
    found = load_checkpoint(out)
    assert found is not None
    return {f"{part}.{name}": tensor for part, tensors in found[1].items() for name, tensor in tensors.items()}


# -------------------------------------------------------------------------------------------------------------- batches


def batches_of(image_tokenizer, source=None, **changes) -> Batches:
    made = recipe(**changes)
    return Batches(source or ToySource(), None, image_tokenizer, toy_text_tokenizer(), toy_transformer(), made)


def test_a_batch_holds_the_codes_of_the_pictures_and_the_tokens_of_their_captions(image_tokenizer):
    batches, source = batches_of(image_tokenizer, drop_caption=0.0), ToySource()
    batch = batches(5)
    pictures, captions = source(5, 4)
    table = dict(zip(CAPTIONS, image_tokenizer.encode(toy_pictures()).flatten(1), strict=True))
    assert torch.equal(batch.codes, torch.stack([table[caption] for caption in captions]).unsqueeze(1))
    assert torch.equal(batch.frames, torch.zeros(4, 1, dtype=torch.long))  # a picture is the first frame of a clip
    begin = batches.vocabulary.special("begin")
    for row, real, caption in zip(batch.prompts, batch.real, captions, strict=True):
        assert row[real].tolist() == [begin, *toy_text_tokenizer().encode(caption)]
    assert batch.prompts.shape == batch.real.shape == (4, 8)


def test_a_long_caption_is_cut_and_every_batch_has_one_shape(image_tokenizer):
    batches = batches_of(image_tokenizer, ToySource(["red over blue"] * 3), prompt_length=3, drop_caption=0.0)
    batch = batches(0)
    assert batch.prompts.shape == (4, 3) and batch.real.all()
    assert batch.prompts[0, 1:].tolist() == toy_text_tokenizer().encode("red over blue")[:2]


@pytest.mark.parametrize(("drop", "low", "high"), [(0.0, 0, 0), (0.3, 40, 90), (1.0, 200, 200)])
def test_a_share_of_the_captions_is_left_out(image_tokenizer, drop, low, high):
    batch = batches_of(image_tokenizer, batch_size=200, drop_caption=drop)(0)
    empty = int((batch.real.sum(1) == 1).sum())
    assert low <= empty <= high


def test_a_batch_is_a_function_of_its_number(image_tokenizer):
    batches = batches_of(image_tokenizer)
    first = batches(3)
    batches(4)
    again = batches(3)
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("prompts", "real", "codes"))


def test_standardized_latents_of_the_training_pictures_have_mean_zero_and_deviation_one(image_tokenizer):
    model, source = toy_transformer(), ToySource()
    standardize(model, image_tokenizer, source)
    pictures, _ = source(VALIDATION_NUMBER - 1, 256)
    ids = image_tokenizer.encode(pictures.float() / 127.5 - 1).flatten()
    latents = model.standardized_codebook()[ids]
    torch.testing.assert_close(latents.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(2), atol=1e-4, rtol=0)


def test_latents_that_never_change_are_not_divided_by_zero(image_tokenizer):
    model = toy_transformer()
    standardize(model, image_tokenizer, ToySource(["red over red"]))
    assert model.standardized_codebook().isfinite().all()


# ------------------------------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_it_learns_to_draw_the_prompt_with_every_decoder_and_with_guidance(tmp_path, image_tokenizer):
    every = {"evaluate_every": 1000, "checkpoint_every": 1000}
    made = recipe(steps=200, batch_size=16, muon_lr=0.05, adamw_lr=0.02, ema_decay=0.9, **every)
    pipeline, _ = run(tmp_path, image_tokenizer, made=made)
    table = image_tokenizer.encode(toy_pictures())
    for decoder in DECODERS:
        for scale in (1.0, 2.0):
            drawn = pipeline(CAPTIONS, decoder=decoder, generator=seeded(0, 12), guidance_scale=scale, output_type="pt")
            right = (drawn.ids == table).flatten(1).all(1).float().mean()
            assert right >= 10 / 12, (decoder, scale)


@pytest.mark.parametrize("decoders", [("ar",), DECODERS], ids="+".join)
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, image_tokenizer, decoders):
    class Death(BaseException):
        pass

    class Deadly(ToySource):
        def __call__(self, number, count):
            if number == 3:
                raise Death
            return super().__call__(number, count)

    made = recipe(decoders=decoders)
    whole, _ = run(tmp_path / "whole", image_tokenizer, made=made)
    with pytest.raises(Death):
        run(tmp_path / "killed", image_tokenizer, Deadly(), made)
    resumed, _ = run(tmp_path / "killed", image_tokenizer, made=made, resume=True)
    a, b = bits(tmp_path / "whole"), bits(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    for name, tensor in whole.transformer.state_dict().items():
        assert torch.equal(resumed.transformer.state_dict()[name], tensor)


def test_the_global_seed_does_not_count_and_the_recipes_does(tmp_path, image_tokenizer):
    ends = []
    for name, seed, noise in (("a", 0, 1), ("b", 0, 2), ("c", 7, 1)):
        torch.manual_seed(noise)
        run(tmp_path / name, image_tokenizer, made=recipe(steps=2, seed=seed))
        ends.append(bits(tmp_path / name)["weights.model.head.weight"])
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_training_goes_on_from_another_model_with_its_statistics(tmp_path, image_tokenizer):
    init = toy_transformer(seed=5)
    init.latent_mean.fill_(0.2)
    before = {name: tensor.clone() for name, tensor in init.state_dict().items()}
    pipeline, _ = run(tmp_path, image_tokenizer, init=init, made=recipe(steps=1, muon_lr=0.0, adamw_lr=0.0))
    for name, tensor in pipeline.transformer.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)


def test_losses_of_every_decoder_are_told_and_samples_are_drawn(tmp_path, image_tokenizer):
    scored: list[list[str]] = []

    def score(pipeline):
        scored.append(sorted(pipeline.lexicon))
        return {"right": 0.5}

    _, words = run(tmp_path, image_tokenizer, sample_prompts=["red over blue", "blue over red"], score=score)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step-00000003.png", "step-00000006.png"]
    (line,) = [word for word in words if word.startswith("step 6: ")]
    assert all(f"validation_{name}" in line for name in DECODERS) and "right 0.5" in line
    assert scored == [sorted({*COLORS, "over"})] * 2


def test_every_step_has_chance_of_its_own(tmp_path, image_tokenizer, monkeypatch):
    """Which captions are left out comes from one generator of the step, what is masked and all noise from another."""
    seeds: list[int] = []

    def draws(self, number, generator, describe):
        seeds.append(generator.initial_seed())
        return drawn(self, number, generator, describe)

    def loses(self, batch, generator):
        seeds.append(generator.initial_seed())
        return losses(self, batch, generator)

    drawn, losses = Batches.pictures_drawn, DecoderLosses.forward
    monkeypatch.setattr(Batches, "pictures_drawn", draws)
    monkeypatch.setattr(DecoderLosses, "forward", loses)
    run(tmp_path / "a", image_tokenizer)
    assert len(set(seeds)) == 2 * 6 + 1  # steps, and the validation, which is the same each time
    run(tmp_path / "b", image_tokenizer, made=recipe(seed=1))
    assert len(set(seeds)) == 2 * (2 * 6 + 1)


def test_evaluation_does_not_change_what_is_learned(tmp_path, image_tokenizer):
    run(tmp_path / "often", image_tokenizer, made=recipe(evaluate_every=1), sample_prompts=["red over blue"])
    run(tmp_path / "never", image_tokenizer, made=recipe(evaluate_every=100))
    a, b = bits(tmp_path / "often"), bits(tmp_path / "never")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_validation_pictures_are_asked_for_by_their_own_number(tmp_path, image_tokenizer):
    numbers: list[int] = []

    class Watched(ToySource):
        def __call__(self, number, count):
            numbers.append(number)
            return super().__call__(number, count)

    run(tmp_path, image_tokenizer, Watched())
    assert numbers.count(VALIDATION_NUMBER) == 2  # at steps 3 and 6
    assert [number for number in numbers if number < VALIDATION_NUMBER - 1] == list(range(6))


# -------------------------------------------------------------------------------------------------- plan and refusals


def test_the_plan_tells_parameters_arithmetic_memory_and_hours():
    model = toy_transformer()
    text = plan(model, recipe(steps=1000, batch_size=8), gigaflops=100)
    total = sum(p.numel() for p in model.parameters())
    assert f"{total / 1e6:.2f} M parameters" in text and "decoders ar, masked, diffusion" in text
    assert "1000 steps of 8: 8000 pictures" in text
    for word in ("GFLOP each", "PFLOP in all", "GB", "hours at 100 GFLOP/s"):
        assert word in text


def test_the_plan_counts_six_operations_per_weight_and_token_and_the_attention():
    """A trunk of known size, once for each decoder's picture, and the prompt, padded as it is, once."""
    model, prompt = toy_transformer(width=64, num_layers=8), 24
    weights = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    weights -= sum(block.modulation_bias.numel() for block in model.blocks)
    head = model.head.weight.numel()
    for decoders in (("ar",), DECODERS):
        made = recipe(decoders=decoders, steps=1, batch_size=10**6, prompt_length=prompt)
        told = float(plan(model, made).split(" PFLOP in all")[0].split()[-1])
        slots, scores = prompt + 5 * len(decoders), prompt**2 + 5 * (5 + prompt) * len(decoders)
        by_hand = weights * slots + head * 4 * len(decoders) + 8 * 2 * 64 * scores
        assert told == pytest.approx(6e6 * by_hand / 1e15, rel=0.01)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch_size": 0}])
def test_recipes_without_work_are_refused(changes):
    with pytest.raises(ValueError, match="steps and batch_size must be at least 1"):
        recipe(**changes)


def test_a_tokenizer_of_another_build_is_refused_before_training(tmp_path):
    """(3, 4) has as many codes as (4, 3), and they mean something else."""
    other = toy_image_tokenizer(levels=(3, 4))
    with pytest.raises(ValueError, match=r"levels \(3, 4\) and the transformer was built for \(4, 3\)"):
        run(tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_resuming_with_another_tokenizer_is_refused(tmp_path, image_tokenizer):
    run(tmp_path, image_tokenizer)
    with pytest.raises(TrainingError, match="must keep its settings, but fingerprints.image_tokenizer was"):
        run(tmp_path, toy_image_tokenizer(seed=3), resume=True)
