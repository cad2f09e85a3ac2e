"""Laws of models/transformer.py and attention.py: one pass or cached, padded or not, alone or in a batch: the same.

The toy has every weight alive, so that nothing holds because a fresh block is the identity.
"""

import pytest
import torch
from torch import Tensor

from tests.doubles import LEVELS, awaken, one_pass, prompt_of, toy_config, toy_transformer
from tokenloom.models.attention import KVCache, plain_products
from tokenloom.models.masks import causal_mask
from tokenloom.models.transformer import Role, SharedTransformer
from tokenloom.tokenizers.sequence import Segment, media_positions, text_positions

PROMPTS = [[5, 6, 7, 8], [9], [10, 11]]
CODES = torch.tensor([[[1, 2], [3, 4]], [[11, 0], [5, 5]], [[2, 7], [9, 10]]])  # (B, h, w)
close = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model() -> SharedTransformer:
    return toy_transformer()


def slots(model: SharedTransformer, codes: Tensor) -> Tensor:
    """BEGIN and the codes (B, h, w), embedded: (B, 1 + N, D)."""
    ids = model.vocabulary.to_shared(codes.flatten(1), "image")
    begin = torch.full((len(ids), 1), model.vocabulary.special("begin_image"))
    return model.embedding(torch.cat([begin, ids], dim=1))


@torch.no_grad()
def picture_after(model: SharedTransformer, prompts, codes: Tensor, role=Role.AR, time=0.0, padding=0) -> Tensor:
    """Hidden slots of pictures after their prompts, whose keys and values are cached: (B, 1 + N, D)."""
    cache, positions = prompt_of(model, prompts, padding)
    count = len(prompts)
    causal = torch.full((count,), role == Role.AR)
    return model(
        slots(model, codes), positions, torch.full((count,), time), torch.full((count,), int(role)), cache, causal
    )


def packed_pass(model: SharedTransformer, prompts, codes: Tensor, role=Role.AR, time=0.0) -> list[Tensor]:
    """The same sequences in one pass without a cache: hidden tokens of each, padding cut off."""
    sequences = [
        [Segment("text", torch.tensor(p)), Segment("image", c, causal=role == Role.AR, given=False)]
        for p, c in zip(prompts, codes, strict=True)
    ]
    return one_pass(model, sequences, role, time)


def test_plain_products_are_the_fused_attention_and_leave_torch_as_it_was(model):
    switch = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed
    before = switch()
    with plain_products():
        assert switch()
        plain = picture_after(model, PROMPTS, CODES, Role.MASKED)
    assert switch() == before
    torch.testing.assert_close(plain, picture_after(model, PROMPTS, CODES, Role.MASKED), **close)


def test_where_everything_is_masked_each_slot_still_knows_its_row_and_column(model):
    cache, positions = prompt_of(model, PROMPTS)
    places = model.places(positions, cache.start)
    assert torch.equal(places[0], places[1])  # whatever the prompt's length
    assert torch.cdist(places[0], places[0]).add(torch.eye(5)).min() > 0.1


@pytest.mark.parametrize(("role", "time"), [(Role.AR, 0.0), (Role.MASKED, 0.0), (Role.DIFFUSION, 0.7)])
def test_a_cached_prompt_and_then_a_picture_equal_the_whole_sequence_in_one_pass(model, role, time):
    cached = picture_after(model, PROMPTS, CODES, role, time)
    whole = packed_pass(model, PROMPTS, CODES, role, time)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(whole[row][1 + len(prompt) :], cached[row], **close)


def test_token_by_token_with_a_growing_cache_equals_one_pass(model):
    cache, positions = prompt_of(model, PROMPTS)
    modulation = model.modulation(torch.zeros(1), torch.tensor([Role.AR]))
    x = slots(model, CODES) + model.places(positions, cache.start)
    steps = []
    with torch.no_grad():
        for step in range(x.shape[1]):
            now = slice(step, step + 1)
            mask = torch.cat([cache.mask, cache.mask.new_ones(len(x), 1)], dim=1)[:, None, None]
            hidden, new = model.trunk(x[:, now], positions[:, now], modulation, mask, cache)
            cache = cache.extend(new)
            steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, dim=1), picture_after(model, PROMPTS, CODES), **close)


def test_a_later_code_cannot_change_an_earlier_logit_of_ar(model):
    before = model.logits(picture_after(model, PROMPTS, CODES))
    for place in range(4):
        changed = CODES.clone()
        changed.flatten(1)[:, place] = (changed.flatten(1)[:, place] + 1) % 12
        after = model.logits(picture_after(model, PROMPTS, changed))
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert (after[:, place + 1 :] - before[:, place + 1 :]).abs().amax(dim=(1, 2)).min() > 1e-4


def test_a_bidirectional_picture_sees_its_later_codes(model):
    changed = CODES.clone()
    changed[:, 1, 1] = 6
    before, after = (picture_after(model, PROMPTS, codes, Role.MASKED) for codes in (CODES, changed))
    assert (after[:, 0] - before[:, 0]).abs().max() > 1e-3


def test_the_prompt_never_depends_on_the_picture(model):
    """In one pass: the prompt's tokens are the same whatever picture follows, whoever draws it, at whatever time."""
    lengths = [1 + len(prompt) for prompt in PROMPTS]
    before = packed_pass(model, PROMPTS, CODES, Role.DIFFUSION, 0.9)
    after = packed_pass(model, PROMPTS, (CODES + 3) % 12, Role.MASKED, 0.0)
    for length, a, b in zip(lengths, before, after, strict=True):
        torch.testing.assert_close(a[:length], b[:length], **close)


def test_padded_prompts_give_the_same_as_unpadded(model):
    plain, padded = (picture_after(model, PROMPTS, CODES, padding=padding) for padding in (0, 5))
    torch.testing.assert_close(padded, plain, **close)


def test_a_sequence_does_not_depend_on_its_batch(model):
    batch = picture_after(model, PROMPTS, CODES, Role.MASKED)
    for row, prompt in enumerate(PROMPTS):
        alone = picture_after(model, [prompt], CODES[row : row + 1], Role.MASKED)
        torch.testing.assert_close(alone[0], batch[row], **close)


def test_the_prompt_the_time_and_the_decoder_reach_the_logits(model):
    base = picture_after(model, PROMPTS, CODES, Role.DIFFUSION, 0.5)
    for other in (
        picture_after(model, [[5, 6, 7, 12], [13], [14, 11]], CODES, Role.DIFFUSION, 0.5),
        picture_after(model, PROMPTS, CODES, Role.DIFFUSION, 0.6),
        picture_after(model, PROMPTS, CODES, Role.MASKED, 0.5),
    ):
        assert (other - base).abs().amax(dim=(1, 2)).min() > 1e-3


def test_the_order_of_words_counts(model):
    there, back = (picture_after(model, [prompt], CODES[:1]) for prompt in ([5, 6, 7], [7, 6, 5]))
    assert (there - back).abs().max() > 1e-3


def test_a_fresh_block_is_the_identity():
    model = toy_transformer(alive=False)
    x = torch.randn(2, 4, model.config.width, generator=torch.Generator().manual_seed(0))
    hidden, _ = model.trunk(x, text_positions(4), model.given(1), None)
    torch.testing.assert_close(hidden, model.norm(x))


def test_neighbouring_codes_start_alike():
    model = toy_transformer(alive=False, image_levels=(8, 8), width=128)
    near = (model.quantizer.codebook()[:, None] - model.quantizer.codebook()).norm(dim=-1) < 0.26
    near.fill_diagonal_(False)
    embedded = model.embedding.weight[model.vocabulary.range("image").start :]
    for table in (embedded, model.head.weight):
        alike = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1).detach()
        assert alike[near].mean() > alike.mean() + 0.2


def test_the_codebook_of_diffusion_snaps_back_to_its_ids():
    model = toy_transformer()
    model.latent_mean.copy_(torch.tensor([0.3, -0.2]))
    model.latent_std.copy_(torch.tensor([0.5, 1.7]))
    ids = torch.arange(model.config.num_codes).unsqueeze(0)
    assert torch.equal(model.snap(model.standardized_codebook()[ids]), ids)
    near = model.standardized_codebook() + 0.9 / max(LEVELS) / 1.7  # less than half a cell
    assert torch.equal(model.snap(near.unsqueeze(0)), ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text_is_told_in_float32_over_the_tokens_there_are_and_end(dtype):
    model = toy_transformer(text_vocab_size=20).to(dtype)
    end = model.vocabulary.special("end")
    hidden = torch.randn(2, model.config.width, generator=torch.Generator().manual_seed(0)).to(dtype)
    logits = model.text_logits(hidden, 12)
    assert logits.dtype == torch.float32 and logits.shape == (2, end + 1)
    possible = [*range(12), end]
    assert logits.isfinite()[0].nonzero().flatten().tolist() == possible
    torch.testing.assert_close(logits[:, possible], (hidden @ model.text_head()[possible].T).float())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_saved_model_comes_back_with_the_same_logits(tmp_path, dtype):
    model = toy_transformer(storage_dtype=dtype, text_vocab_size=20)
    model.latent_mean.fill_(0.25)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)))
    model.save_pretrained(tmp_path)
    back = SharedTransformer.from_pretrained(tmp_path)
    assert back.config == model.config and not back.training
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    assert torch.equal(back.latent_mean, model.latent_mean)
    prompts = [[1, 2], [3], []]
    assert torch.equal(picture_after(back, prompts, CODES), picture_after(model, prompts, CODES))


def test_a_cache_repeats_selects_and_extends_by_sequence():
    cache, _ = prompt_of(toy_transformer(), PROMPTS)
    doubled = cache.repeat(2)
    again = doubled.select(torch.tensor([3, 4, 5]))
    longer = cache.extend(again)
    for a, b, c, d in zip(cache.keys, doubled.keys, again.keys, longer.keys, strict=True):
        assert torch.equal(b, torch.cat([a, a])) and torch.equal(c, a) and torch.equal(d, torch.cat([a, a], dim=2))
    for a, b, c in zip(cache.values, again.values, longer.values, strict=True):
        assert torch.equal(b, a) and torch.equal(c, torch.cat([a, a], dim=2))
    assert torch.equal(longer.mask, torch.cat([cache.mask, cache.mask], dim=1))
    assert isinstance(longer, KVCache) and longer.mask.shape == (3, 10)


def test_prefill_marks_which_tokens_are_real_and_equals_a_causal_pass():
    model = toy_transformer()
    cache, positions = prompt_of(model, PROMPTS)
    assert cache.mask.sum(1).tolist() == [5, 2, 3]
    ids = torch.tensor([[model.vocabulary.special("begin"), *PROMPTS[0]]])
    _, direct = model.trunk(model.embedding(ids), text_positions(5), model.given(1), causal_mask(5))
    torch.testing.assert_close(cache.keys[1][:1], direct.keys[1], **close)
    assert torch.equal(positions[0], media_positions((2, 2), start=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30, "num_heads": 4}, "width must be heads x an even number, got 30 and 4 heads"),
        ({"width": 30, "num_heads": 2}, "width must be heads x an even number, got 30 and 2 heads"),
        ({"storage_dtype": "int8"}, "storage_dtype must be float32 or float16, got 'int8'"),
        ({"text_vocab_size": 0}, "every range must hold an id"),
        ({"image_levels": (1, 4)}, "at least 2 levels"),
        ({"image_levels": (), "num_frames": 4}, "knows no clips"),
        ({"sound_steps": 4}, "need sound_levels and sound_steps"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SharedTransformer(toy_config(**changes))


def test_awake_means_that_no_tensor_is_at_its_start():
    """The double's own law: without it, laws above could hold for no reason."""
    fresh, awake = toy_transformer(alive=False), toy_transformer(alive=False)
    awaken(awake, 1)
    assert not [n for (n, a), b in zip(fresh.named_parameters(), awake.parameters(), strict=True) if torch.equal(a, b)]


def test_a_model_has_only_the_parts_of_what_it_knows():
    text_only = toy_transformer(image_levels=())
    assert text_only.vocabulary.modalities == () and len(text_only.embedding.weight) == text_only.vocabulary.size
    assert not {"head", "latent_in", "place", "sound"} & dict(text_only.named_children()).keys()
    both = toy_transformer(sound_levels=((2, 3, 1), (3, 1, 2)), sound_steps=9)
    assert both.vocabulary.codebooks == {"image": (12,), "audio": (6, 6)}
    assert {"head", "sound"} <= dict(both.named_children()).keys()


def test_a_deeper_model_says_the_same_until_it_learns():
    model = toy_transformer(num_layers=2)
    deeper = model.deeper(5).eval()
    assert deeper.config.num_layers == len(deeper.blocks) == 5
    ids = torch.randint(256, (2, 6), generator=torch.Generator().manual_seed(0))
    real, positions = torch.ones_like(ids, dtype=torch.bool), text_positions(6)
    caches = [m.prefill(ids, positions, real) for m in (model, deeper)]
    start = torch.full((2,), 6)
    (old, _), (new, _) = (m.write(ids, start, cache) for m, cache in zip((model, deeper), caches, strict=True))
    assert torch.equal(old, new)
    new.sum().backward()
    outputs = [
        gradient
        for b in deeper.blocks
        if (gradient := b.mlp_out.weight.grad) is not None and not b.mlp_out.weight.any()
    ]
    assert len(outputs) == 3 and all(gradient.any() for gradient in outputs)  # the new ones can learn
    with pytest.raises(ValueError, match="a model of 2 layers can become deeper, got 1"):
        model.deeper(1)


def test_longer_clips_leave_a_model_factorized_as_it_was():
    for factorized in (False, True):
        model = toy_transformer(num_frames=2, factorized=factorized)
        assert model.for_clips(5).config.factorized == factorized
        assert model.for_clips(5, factorized=not factorized).config.factorized != factorized
