"""Laws of pipelines/text_to_video.py: prompt, seed, settings and given frames decide a clip, nothing else does."""

from functools import partial

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import SIZE, toy_pictures, toy_pipeline
from tokenloom.models.transformer import SharedTransformer
from tokenloom.pipelines import text_to_video
from tokenloom.pipelines.sampler_settings import DECODERS, settings_of
from tokenloom.pipelines.text_to_image import UnknownWordWarning, seeded
from tokenloom.pipelines.text_to_video import OVERLAP, TextToVideoPipeline, clip_evaluations, settings_at

PROMPTS = ["red over blue", "white over green", "blue over red"]
FRAMES = 7
each_decoder = pytest.mark.parametrize("decoder", DECODERS)


@pytest.fixture(scope="module")
def pipeline() -> TextToVideoPipeline:
    return TextToVideoPipeline(toy_pipeline(num_frames=FRAMES))


def draw(pipeline, prompts, decoder: str, seed: int = 0, **options):
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": seeded(seed, len(prompts))} | options
    return pipeline(prompts, decoder=decoder, **options)


@each_decoder
def test_a_clip_does_not_depend_on_its_batch_and_changes_with_its_seed(pipeline, decoder):
    together = draw(pipeline, PROMPTS, decoder)
    assert together.frames.shape == (3, 3, FRAMES, SIZE, SIZE) and together.ids.shape == (3, FRAMES, 2, 2)
    alone = draw(pipeline, PROMPTS[1:2], decoder, seed=1)
    assert torch.equal(alone.ids[0], together.ids[1]) and torch.equal(alone.frames[0], together.frames[1])
    assert not torch.equal(draw(pipeline, PROMPTS, decoder, seed=9).ids, together.ids)
    assert torch.equal(draw(pipeline, PROMPTS, decoder, batch_size=2).ids, together.ids)


@each_decoder
def test_given_frames_are_kept_and_what_is_given_decides_what_is_drawn(pipeline, decoder):
    first, last, other = toy_pictures()[:3].unsqueeze(1)
    free = draw(pipeline, PROMPTS[:2], decoder)
    started = draw(pipeline, PROMPTS[:2], decoder, image=first)
    between = draw(pipeline, PROMPTS[:2], decoder, image=first, last_image=last)
    assert torch.equal(started.frames[:, :, 0], first.expand(2, -1, -1, -1))
    assert torch.equal(between.frames[:, :, -1], last.expand(2, -1, -1, -1))
    assert not torch.equal(started.ids[:, 1:], free.ids[:, 1:])
    ends = [draw(pipeline, PROMPTS * 4, decoder, image=start, last_image=last).ids[:, 1:-1] for start in (first, other)]
    assert not torch.equal(*ends)


@each_decoder
def test_a_continued_clip_comes_back_with_new_frames_after_it(pipeline, decoder):
    clip = toy_pictures()[:8].transpose(0, 1).unsqueeze(0)  # (1, 3, 8, H, W)
    longer = draw(pipeline, PROMPTS[:2], decoder, video=clip)
    assert longer.frames.shape[2] == 8 + FRAMES - OVERLAP
    assert torch.equal(longer.frames[:, :, :8], clip.expand(2, -1, -1, -1, -1))
    short = draw(pipeline, PROMPTS[:1], decoder, video=clip[:, :, -OVERLAP:])
    assert torch.equal(short.ids[0], longer.ids[0])  # it looks back so far, and no further
    assert draw(pipeline, PROMPTS[:1], decoder, video=clip[:, :, :1]).frames.shape[2] == FRAMES


def test_a_frame_is_drawn_after_those_nearest_in_time(pipeline, monkeypatch):
    seen = {}

    def watched(model, batch, settings, callback):
        seen[batch.frame] = list(batch.given)
        return torch.full((1, 4), batch.frame)

    monkeypatch.setitem(text_to_video.DRAW, "ar", watched)
    ids = draw(pipeline, PROMPTS[:1], "ar").ids
    assert ids[0, :, 0, 0].tolist() == list(range(FRAMES))
    assert seen == {0: [], 6: [0], 3: [0, 6], 1: [0, 3, 6], 4: [0, 1, 3, 6], 2: [0, 1, 3, 4], 5: [2, 3, 4, 6]}


def test_ends_are_drawn_with_all_steps_and_guided_and_what_lies_between_with_a_quarter(pipeline, monkeypatch):
    chosen = settings_of("masked", num_inference_steps=64)
    assert settings_at(0, [], chosen) == settings_at(16, [0], chosen) == settings_at(3, [8, 9], chosen) == chosen
    between = settings_at(8, [0, 16], chosen)
    assert between.num_inference_steps == 16 and between.guidance_scale == 1
    assert settings_at(1, [0, 2], settings_of("masked", num_inference_steps=3)).num_inference_steps == 1
    assert clip_evaluations("masked", chosen, 17, 64) == 2 * 128 + 15 * 16
    assert clip_evaluations("ar", settings_of("ar"), 17, 64) == 2 * 128 + 15 * 64
    used = {}

    def watched(model, batch, settings, callback):
        used[batch.frame] = settings.num_inference_steps
        return torch.zeros(1, 4, dtype=torch.long)

    monkeypatch.setitem(text_to_video.DRAW, "masked", watched)
    pipeline(PROMPTS[0], decoder="masked", generator=seeded(0, 1), num_inference_steps=8)
    assert used == {0: 8, FRAMES - 1: 8} | dict.fromkeys(range(1, FRAMES - 1), 2)


def test_pictures_are_drawn_as_before_by_a_model_that_learned_clips_from_it():
    pictures = toy_pipeline()
    before = [pictures(PROMPTS, decoder=d, generator=seeded(0, 3), output_type="pt").ids for d in DECODERS]
    pictures.transformer = pictures.transformer.for_clips(FRAMES)
    after = [pictures(PROMPTS, decoder=d, generator=seeded(0, 3), output_type="pt").ids for d in DECODERS]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_model_of_clips_learns_longer_ones_and_keeps_what_it_knows(pipeline):
    model: SharedTransformer = pipeline.pictures.transformer
    longer = model.for_clips(FRAMES + 2)
    assert longer.config.num_frames == FRAMES + 2
    assert torch.equal(longer.place[2].weight[: FRAMES + 1], model.place[2].weight)
    assert not longer.place[2].weight[FRAMES + 1 :].any()


def test_frames_come_as_pil_pictures_progress_is_told_and_strange_words_are_named(pipeline):
    steps: list[tuple[int, int]] = []
    with pytest.warns(UnknownWordWarning, match="'zebra'"):
        drawn = pipeline("red zebra", generator=seeded(0, 1), callback=lambda *step: steps.append(step))
    assert len(drawn.frames[0]) == FRAMES and isinstance(drawn.frames[0][0], Image.Image)
    runs = clip_evaluations("ar", settings_of("ar"), FRAMES, 4)  # the ends cost twice what a frame between costs
    assert steps == [(done, runs) for done in (8, 16, 20, 24, 28, 32, 36)]


def test_it_loads_what_it_saved(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = TextToVideoPipeline.from_pretrained(tmp_path)
    assert torch.equal(draw(again, PROMPTS, "ar").ids, draw(pipeline, PROMPTS, "ar").ids)


def picture(*shape: int) -> Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": picture(1, 3, SIZE, SIZE + 1)}, r"image must be \(1, 3, 8, 8\)"),
        ({"last_image": picture(2, 3, SIZE, SIZE)}, "for each of 1 clips"),
        ({"video": picture(1, 3, 0, SIZE, SIZE)}, "video must be"),
        ({"video": picture(1, 3, SIZE, SIZE)}, "video must be"),
        ({"video": picture(1, 3, 2, SIZE, SIZE), "image": picture(1, 3, SIZE, SIZE)}, "leave them out"),
        ({"output_type": "np"}, 'must be "pil" or "pt"'),
        ({"decoder": "best"}, "decoder must be one of"),
        ({"guidance_scale": -1.0}, "guidance_scale must be"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_that_says_what_to_give(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        partial(pipeline, "red over blue", generator=seeded(0, 1))(**options)


def test_a_model_of_pictures_alone_is_refused():
    with pytest.raises(ValueError, match="knows only pictures"):
        TextToVideoPipeline(toy_pipeline())
