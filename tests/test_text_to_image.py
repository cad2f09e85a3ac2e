"""Laws of pipelines/text_to_image.py: a picture is decided by its prompt, seed and settings, and by nothing else."""

import json
import warnings

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import (
    COLORS,
    GRID,
    SIZE,
    toy_image_tokenizer,
    toy_pictures,
    toy_pipeline,
    toy_text_tokenizer,
    toy_transformer,
)
from tokenloom.data.media import to_pil
from tokenloom.pipelines import text_to_image
from tokenloom.pipelines.draw_codes import CodeBatch, draw_diffusion, noise_of
from tokenloom.pipelines.sampler_settings import DECODERS, settings_of
from tokenloom.pipelines.text_to_image import (
    MAX_PROMPT_TOKENS,
    MAX_SEED,
    TextToImagePipeline,
    UnknownWordWarning,
    find_model,
    picture_generators,
    seeded,
    words_of,
)

PROMPTS = ["red over blue", "white over green", "blue"]
each_decoder = pytest.mark.parametrize("decoder", DECODERS)


@pytest.fixture(scope="module")
def pipeline() -> TextToImagePipeline:
    return toy_pipeline()


def ids_of(
    pipeline: TextToImagePipeline, prompts, decoder: str, seed: int = 0, count: int | None = None, **options
) -> Tensor:
    count = len(prompts) if count is None else count
    options = {"num_inference_steps": 4, "output_type": "pt", "generator": seeded(seed, count)} | options
    return pipeline(prompts, decoder=decoder, **options).ids


# ---------------------------------------------------------------------------------------------- what decides a picture


@each_decoder
def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_picture(pipeline, decoder):
    one, two, other = (
        pipeline("red over blue", decoder=decoder, generator=seeded(seed, 4), num_images_per_prompt=4).images
        for seed in (0, 0, 4)
    )
    assert [image.tobytes() for image in one] == [image.tobytes() for image in two]
    assert [image.tobytes() for image in one] != [image.tobytes() for image in other]


@each_decoder
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_picture_does_not_depend_on_its_batch(pipeline, decoder, scale):
    together = ids_of(pipeline, PROMPTS, decoder, guidance_scale=scale)
    for number, prompt in enumerate(PROMPTS):
        alone = ids_of(
            pipeline, [prompt], decoder, generator=[torch.Generator().manual_seed(number)], guidance_scale=scale
        )
        assert torch.equal(alone[0], together[number])


@each_decoder
def test_many_pictures_are_drawn_in_parts_that_do_not_show(pipeline, decoder):
    whole = ids_of(pipeline, PROMPTS * 2, decoder)
    assert torch.equal(ids_of(pipeline, PROMPTS * 2, decoder, batch_size=4), whole)
    with pytest.raises(ValueError, match="a batch must hold at least 1, got 0"):
        ids_of(pipeline, PROMPTS, decoder, batch_size=0)


@each_decoder
def test_the_prompt_the_guidance_and_the_decoder_count(pipeline, decoder):
    base = ids_of(pipeline, ["red over blue"] * 8, decoder)
    assert not torch.equal(ids_of(pipeline, ["blue over red"] * 8, decoder), base)
    assert not torch.equal(ids_of(pipeline, ["red over blue"] * 8, decoder, guidance_scale=1.0), base)
    others = [ids_of(pipeline, ["red over blue"] * 8, other) for other in DECODERS if other != decoder]
    assert not any(torch.equal(other, base) for other in others)


def test_guidance_at_no_time_is_no_guidance_and_at_some_it_is_neither_all_nor_none(pipeline):
    none, some, full = (
        ids_of(pipeline, ["red over blue"] * 8, "diffusion", guidance_from=first, guidance_until=last)
        for first, last in ((0.0, 0.0), (0.75, 0.25), (1.0, 0.0))
    )
    assert torch.equal(none, ids_of(pipeline, ["red over blue"] * 8, "diffusion", guidance_scale=1.0))
    assert torch.equal(full, ids_of(pipeline, ["red over blue"] * 8, "diffusion"))
    assert not torch.equal(some, none) and not torch.equal(some, full)


@pytest.mark.parametrize("decoder", ["ar", "masked"])
def test_temperature_zero_ignores_the_seed(pipeline, decoder):
    options = {"temperature": 0.0, "choice_temperature": 0.0}
    assert torch.equal(*(ids_of(pipeline, PROMPTS, decoder, seed, **options) for seed in (0, 9)))


def test_several_pictures_of_a_prompt_come_in_the_order_of_the_prompts(pipeline):
    twice = ids_of(pipeline, PROMPTS, "ar", count=6, num_images_per_prompt=2)
    assert torch.equal(twice, ids_of(pipeline, [p for p in PROMPTS for _ in range(2)], "ar"))


def test_one_generator_seeds_every_picture_and_moves_on(pipeline):
    def drawn(generator):
        return [ids_of(pipeline, PROMPTS, "ar", generator=generator) for _ in range(2)]

    first, second = drawn(torch.Generator().manual_seed(1))
    again, _ = drawn(torch.Generator().manual_seed(1))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_without_a_generator_chance_is_fresh_and_torchs_own_is_left_alone(pipeline):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two = (ids_of(pipeline, PROMPTS * 3, "ar", generator=None) for _ in range(2))
    assert not torch.equal(one, two) and torch.equal(torch.get_rng_state(), before)


def test_seeds_count_up_and_must_fit_a_generator():
    assert [g.initial_seed() for g in seeded(5, 3)] == [5, 6, 7]
    for wrong in (-1, MAX_SEED + 1):
        with pytest.raises(ValueError, match="a seed must be 0 to"):
            seeded(wrong, 1)
    with pytest.raises(ValueError, match="one generator per picture is needed, got 2 for 3 pictures"):
        picture_generators(seeded(0, 2), 3)


# ------------------------------------------------------------------------------------------------------ what comes out


@each_decoder
def test_pictures_are_the_decoded_codes_as_pil_or_as_a_tensor(pipeline, decoder):
    options = {"decoder": decoder, "num_inference_steps": 3}
    pil = pipeline(PROMPTS, generator=seeded(0, 3), **options)
    tensor = pipeline(PROMPTS, generator=seeded(0, 3), output_type="pt", **options)
    assert torch.equal(pil.ids, tensor.ids) and pil.ids.shape == (3, *GRID)
    assert torch.equal(tensor.images, pipeline.image_tokenizer.decode(pil.ids))
    assert tensor.images.shape == (3, 3, SIZE, SIZE) and tensor.images.abs().max() <= 1
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for image in pil.images)
    assert [image.tobytes() for image in pil.images] == [to_pil(image).tobytes() for image in tensor.images]


@each_decoder
def test_the_callback_counts_the_steps_and_knows_how_many(pipeline, decoder):
    seen: list[tuple[int, int]] = []
    ids_of(pipeline, PROMPTS, decoder, callback=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 4) for step in range(1, 5)]  # 4 codes of `ar`, 4 steps of the others


# ---------------------------------------------------------------------------------------------------------- inpainting


def right_half() -> Tensor:
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., SIZE // 2 :] = 1
    return mask


@pytest.mark.parametrize("decoder", ["masked", "diffusion"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_inpainting_keeps_the_given_pixels_and_codes_and_draws_the_rest(pipeline, decoder, scale):
    image, mask = toy_pictures()[:1], right_half()
    drawn = [
        pipeline(
            ["red over blue"] * 4,
            decoder=decoder,
            generator=seeded(seed, 4),
            image=image,
            mask_image=mask,
            output_type="pt",
            guidance_scale=scale,
        )
        for seed in (0, 9)
    ]
    codes = pipeline.image_tokenizer.encode(image)
    for output in drawn:
        assert torch.equal(output.images[..., : SIZE // 2], image[..., : SIZE // 2].expand(4, -1, -1, -1))
        assert torch.equal(output.ids[:, :, 0], codes[:, :, 0].expand(4, -1))
    assert not torch.equal(drawn[0].ids[:, :, 1], drawn[1].ids[:, :, 1])


@pytest.mark.parametrize("decoder", ["masked", "diffusion"])
def test_what_is_drawn_depends_on_what_is_given(pipeline, decoder):
    one, other = (
        ids_of(pipeline, ["red over blue"] * 8, decoder, image=toy_pictures()[n : n + 1], mask_image=right_half())
        for n in (0, 11)
    )
    assert not torch.equal(one[:, :, 1], other[:, :, 1])


def test_given_codes_travel_from_their_noise_to_their_latents_beside_the_others(pipeline):
    """`diffusion` must see them as noisy as the rest, or it would be asked what it was never trained on."""
    model = pipeline.transformer
    known, fixed = torch.tensor([[3, 0, 7, 0]]), torch.tensor([[True, False, True, False]])
    seen: dict[float, Tensor] = {}

    def solver(velocity, noise, steps, after):
        seen.update({time: after(time, torch.full_like(noise, 9.0)) for time in (1.0, 0.25, 0.0)})
        return noise

    batch = CodeBatch([pipeline.tokens("white")], seeded(0, 1), known, fixed)
    draw_diffusion(model, batch, settings_of("diffusion"), None, solver)
    noise, latents = noise_of(model, seeded(0, 1)), model.standardized_codebook()[known]
    for time, x in seen.items():
        torch.testing.assert_close(x[fixed], ((1 - time) * latents + time * noise)[fixed])
        assert (x[~fixed] == 9).all()


def test_a_code_that_the_mask_touches_is_drawn_anew_and_only_its_masked_pixels_change(pipeline):
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., 0, 0] = 1
    image = toy_pictures()[3:4]
    output = pipeline("white", decoder="masked", image=image, mask_image=mask, output_type="pt", generator=seeded(0, 1))
    assert torch.equal(output.images[..., 1:, :], image[..., 1:, :]) and torch.equal(
        output.images[..., 1:], image[..., 1:]
    )
    codes = pipeline.image_tokenizer.encode(image)
    assert torch.equal(output.ids.flatten()[1:], codes.flatten()[1:])


@pytest.mark.parametrize("decoder", ["masked", "diffusion"])
def test_an_empty_mask_gives_the_picture_back(pipeline, decoder):
    image = toy_pictures()[:2]
    output = pipeline(
        ["white"] * 2, decoder=decoder, image=image, mask_image=torch.zeros(2, 1, SIZE, SIZE), output_type="pt"
    )
    assert torch.equal(output.images, image) and torch.equal(output.ids, pipeline.image_tokenizer.encode(image))


def test_ar_refuses_to_inpaint_but_draws_where_everything_is_masked(pipeline):
    image = toy_pictures()[:1]
    with pytest.raises(ValueError, match="sees the whole picture, got ar; take masked or diffusion"):
        pipeline("white", decoder="ar", image=image, mask_image=right_half())
    everything = ids_of(pipeline, ["white"], "ar", image=image, mask_image=torch.ones(1, 1, SIZE, SIZE))
    assert torch.equal(everything, ids_of(pipeline, ["white"], "ar"))


@pytest.mark.parametrize(
    ("image", "mask", "told"),
    [
        ((1, 3, 8, 8), None, "needs image and mask_image, got only one of them"),
        (None, (1, 1, 8, 8), "needs image and mask_image, got only one of them"),
        (
            (1, 3, 8, 9),
            (1, 1, 8, 8),
            r"image must be \(1, 3, 8, 8\) or \(2, 3, 8, 8\) for 2 pictures, got \(1, 3, 8, 9\)",
        ),
        ((3, 3, 8, 8), (1, 1, 8, 8), "image must be"),
        ((3, 8, 8), (1, 1, 8, 8), "image must be"),
        ((1, 3, 8, 8), (1, 3, 8, 8), "mask_image must be"),
        ((1, 3, 8, 8), (5, 1, 8, 8), "mask_image must be"),
    ],
)
def test_pictures_and_masks_that_do_not_fit_are_refused(pipeline, image, mask, told):
    parts = {
        name: None if shape is None else torch.zeros(shape) for name, shape in (("image", image), ("mask_image", mask))
    }
    with pytest.raises(ValueError, match=told):
        pipeline(["white"] * 2, decoder="masked", **parts)


# ------------------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("", "a prompt must say something, got an empty one"),
        (" \n\t", "a prompt must say something"),
        (["red", ""], "a prompt must say something"),
        (None, "a prompt must be text, got NoneType"),
        (7, "a prompt must be text, got int"),
        (b"red", "a prompt must be text, got bytes"),
        (["red", 3.5], "a prompt must be text, got float"),
        ([], "a prompt is needed, got none"),
        ("red " * 500, f"a prompt may have {MAX_PROMPT_TOKENS} tokens, got"),
        ("red " * 10**6, "letters, got 4000000; shorten it"),
        ("red \ud800", "half a surrogate pair"),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.filterwarnings("ignore::tokenloom.pipelines.text_to_image.UnknownWordWarning")
def test_prompts_that_cannot_be_drawn_are_one_line(pipeline, prompt, told):
    with pytest.raises(ValueError, match=told) as caught:
        pipeline(prompt)
    assert "\n" not in str(caught.value)


def test_words_that_training_never_held_are_named_in_one_warning(pipeline):
    with pytest.warns(UnknownWordWarning) as caught:
        pipeline(["a red Zebra", "teapot over zebra"], decoder="ar")
    (warning,) = caught
    assert str(warning.message) == "the training captions never held 'a', 'teapot', 'zebra'; expect little of it"
    assert warning.filename == __file__


def test_known_words_in_any_case_and_an_unknown_lexicon_warn_of_nothing(pipeline):
    silent = TextToImagePipeline(pipeline.transformer, pipeline.image_tokenizer, pipeline.text_tokenizer)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pipeline("RED over, Blue!", decoder="ar")
        silent("a zebra", decoder="ar")
    assert not told


def test_words_are_letters_and_digits_in_lower_case():
    assert words_of("Two red CIRCLES, left_of 3 über-squares!") == {
        *("two", "red", "circles", "left", "of", "3", "über", "squares")
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"decoder": "gan"}, "decoder must be one of ar, masked, diffusion, got 'gan'"),
        ({"output_type": "jpeg"}, 'output_type must be "pil" or "pt"'),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 to 1000, got 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be 0 to 100, got nan"),
        (
            {"guidance_until": -0.1},
            "0 <= guidance_until <= guidance_from <= 1, times from data to noise, got -0.1 and 1",
        ),
        ({"guidance_from": 0.2, "guidance_until": 0.3}, "got 0.3 and 0.2"),
        ({"guidance_from": 2.0}, "got 0.0 and 2.0"),
        ({"temperature": float("nan")}, "temperature must be 0 to 100"),
        ({"choice_temperature": -1.0}, "choice_temperature must be 0 to 100"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 0.0}, r"top_p in \(0, 1\]"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt must be at least 1, got 0"),
        ({"num_inference_steps": 1.5}, "num_inference_steps must be a whole number, got 1.5"),
        ({"guidance_scale": "3"}, "guidance_scale must be a number, got .3."),
        ({"generator": 7}, "generator must be one or several torch.Generators, got 7"),
        ({"image": [0.0]}, "image must be a torch.Tensor, got list"),
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(pipeline, options, told):
    with pytest.raises(ValueError, match=told):
        pipeline("red", **options)


@each_decoder
def test_a_very_low_temperature_is_close_to_none_and_not_a_crash(pipeline, decoder):
    ids = ids_of(pipeline, PROMPTS, decoder, temperature=1e-40)
    assert 0 <= ids.min() and ids.max() < pipeline.image_tokenizer.vocab_size


# ------------------------------------------------------------------------------------------------------------- on disk


@pytest.fixture
def saved(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@each_decoder
def test_a_saved_pipeline_draws_the_same_pictures(pipeline, saved, decoder):
    back = TextToImagePipeline.from_pretrained(saved)
    assert torch.equal(ids_of(back, PROMPTS, decoder), ids_of(pipeline, PROMPTS, decoder))
    images = [p(PROMPTS, decoder=decoder, generator=seeded(0, 3)).images for p in (pipeline, back)]
    assert [image.tobytes() for image in images[0]] == [image.tobytes() for image in images[1]]
    assert back.lexicon == pipeline.lexicon == {*COLORS, "over"} and back.image_size == (SIZE, SIZE)


def test_tokenizers_that_the_model_was_not_trained_with_are_refused(pipeline, saved):
    toy_image_tokenizer(seed=3).save_pretrained(saved / "image_tokenizer")
    with pytest.raises(ValueError, match="the image_tokenizer in .* is not the one this model was trained with"):
        TextToImagePipeline.from_pretrained(saved)
    pipeline.image_tokenizer.save_pretrained(saved / "image_tokenizer")
    from tokenloom.tokenizers.text import TextTokenizer

    TextTokenizer.train(["something else"], vocab_size=270).save_pretrained(saved / "text_tokenizer")
    with pytest.raises(ValueError, match="the text_tokenizer in .* is not the one this model was trained with"):
        TextToImagePipeline.from_pretrained(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"lexicon": 3, "fingerprints": {}}', '{"lexicon": []}'])
def test_a_broken_index_is_one_line(saved, content):
    (saved / "pipeline.json").write_text(content)
    with pytest.raises(ValueError, match="pipeline.json is broken") as caught:
        TextToImagePipeline.from_pretrained(saved)
    assert "\n" not in str(caught.value)


def test_an_index_without_fingerprints_is_not_trusted(saved):
    index = json.loads((saved / "pipeline.json").read_text())
    (saved / "pipeline.json").write_text(json.dumps(index | {"fingerprints": {}}))
    with pytest.raises(ValueError, match="is not the one this model was trained with"):
        TextToImagePipeline.from_pretrained(saved)


def test_a_model_is_found_by_folder_or_by_shipped_name(saved, monkeypatch):
    monkeypatch.setattr(text_to_image, "SHIPPED", saved.parent)
    assert find_model(saved) == find_model(str(saved)) == find_model("model") == saved
    with pytest.raises(ValueError, match="or one of model, and 'modle' is neither; train one, or name its folder"):
        find_model("modle")


def test_parts_of_different_builds_are_refused_when_they_are_joined():
    parts = toy_transformer(), toy_image_tokenizer(), toy_text_tokenizer()
    TextToImagePipeline(*parts)
    with pytest.raises(ValueError, match=r"levels \(3, 4\) and the transformer was built for \(4, 3\)"):
        TextToImagePipeline(parts[0], toy_image_tokenizer(levels=(3, 4)), parts[2])
    with pytest.raises(ValueError, match="the text tokenizer has .* tokens and the transformer was built for 260"):
        TextToImagePipeline(toy_transformer(text_vocab_size=260), *parts[1:])
