"""Laws of pipelines/best_of.py: what is kept is one of the drawings, and none of them fits the prompt better."""

import pytest
import torch
from torch import Tensor

from tests.doubles import toy_pipeline, toy_transformer
from tests.test_likeliest import NUM_TOKENS, TEXTS, by_hand
from tests.test_writing import frames_of
from tokenloom.models.likeliest import log_probabilities
from tokenloom.pipelines.best_of import candidates
from tokenloom.pipelines.clip_order import seen_frames
from tokenloom.pipelines.sampler_settings import DECODERS, model_evaluations, settings_of
from tokenloom.pipelines.seen_media import begun_frames
from tokenloom.pipelines.text_to_image import TextToImagePipeline, picture_generators, seeded
from tokenloom.pipelines.text_to_video import TextToVideoPipeline, clip_evaluations

PROMPTS = ["red over blue", "white over green", "blue over red"]
COUNT = 4
FRAMES = 7


@pytest.fixture(scope="module")
def pictures() -> TextToImagePipeline:
    pipeline = toy_pipeline(num_frames=FRAMES)
    pipeline.writes = True
    return pipeline


def draw(pipeline, prompts=PROMPTS, *, seed: int = 0, **options) -> Tensor:
    """Codes (B, h, w) or (B, T, h, w)."""
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": seeded(seed, len(prompts))} | options
    return pipeline(prompts, **options).ids


@torch.no_grad()
def test_log_probabilities_are_those_of_texts_read_whole():
    model = toy_transformer()
    frames, numbers = frames_of(model, rows=1), torch.zeros(1, 1, dtype=torch.long)
    seen, start = model.see(frames, numbers)
    expected = [by_hand(model, seen, start, text) for text in TEXTS]
    seen, start = model.see(frames.repeat(len(TEXTS), 1, 1), numbers.repeat(len(TEXTS), 1))
    torch.testing.assert_close(
        log_probabilities(model, seen, start, TEXTS, num_tokens=NUM_TOKENS), torch.tensor(expected), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_kept_drawing_is_one_of_the_candidates_and_the_one_that_fits_best(pictures, decoder, moving):
    pipeline = TextToVideoPipeline(pictures) if moving else pictures
    kept = draw(pipeline, decoder=decoder, best_of=COUNT)
    generators = candidates(picture_generators(seeded(0, len(PROMPTS)), len(PROMPTS)), COUNT)
    every = draw(pipeline, [p for p in PROMPTS for _ in range(COUNT)], decoder=decoder, generator=generators)
    texts, model = pictures.text_tokenizer, pictures.transformer
    for row, (prompt, ids) in enumerate(zip(PROMPTS, every.split(COUNT), strict=True)):
        clips = ids if moving else ids.unsqueeze(1)
        numbers = torch.tensor(seen_frames(clips.shape[1]))
        seen, start = model.see(begun_frames(model.vocabulary, clips[:, numbers]), numbers.repeat(COUNT, 1))
        fits = log_probabilities(model, seen, start, [texts.encode(prompt)] * COUNT, num_tokens=texts.vocab_size)
        assert len(set(fits.tolist())) > 1
        assert torch.equal(kept[row], ids[int(fits.argmax())])


@pytest.mark.parametrize("moving", [False, True])
def test_it_depends_on_its_seed_and_not_on_its_batch(pictures, moving):
    pipeline = TextToVideoPipeline(pictures) if moving else pictures
    together = draw(pipeline, best_of=COUNT)
    assert torch.equal(draw(pipeline, best_of=COUNT, batch_size=3), together)
    assert torch.equal(draw(pipeline, PROMPTS[1:2], seed=1, best_of=COUNT)[0], together[1])
    assert not torch.equal(draw(pipeline, seed=9, best_of=COUNT), together)
    assert torch.equal(draw(pipeline, best_of=1), draw(pipeline))


def test_given_frames_stay_in_the_one_that_is_kept(pictures):
    first = torch.rand(1, 3, *pictures.image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clips = TextToVideoPipeline(pictures)(PROMPTS, image=first, best_of=2, output_type="pt").frames
    assert torch.equal(clips[:, :, 0], first.expand(3, -1, -1, -1))


def test_progress_is_told_of_all_candidates(pictures):
    told: list[tuple[int, int]] = []
    draw(TextToVideoPipeline(pictures), best_of=COUNT, batch_size=5, callback=lambda done, of: told.append((done, of)))
    assert len({of for _, of in told}) == 1 and told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_each_candidate_counts_and_so_does_looking_at_it(pictures):
    config = pictures.transformer.config
    for decoder in DECODERS:
        one, four = settings_of(decoder), settings_of(decoder, best_of=4)
        assert model_evaluations(decoder, four, 64) == 4 * (model_evaluations(decoder, one, 64) + 1)
        each = clip_evaluations(decoder, one, config.num_frames, 4)
        assert clip_evaluations(decoder, four, config.num_frames, 4) == 4 * (each + 1)


def test_what_cannot_be_chosen_from_is_refused(pictures):
    for count in (0, 257):
        with pytest.raises(ValueError, match=f"best_of must be 1 to 256 drawings, got {count}"):
            draw(pictures, best_of=count)
    silent = toy_pipeline(num_frames=FRAMES)
    for pipeline in (silent, TextToVideoPipeline(silent)):
        with pytest.raises(
            ValueError, match="best_of must be 1 with a model that only draws, got 2; train it to write"
        ):
            draw(pipeline, best_of=2)
