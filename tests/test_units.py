"""Laws of tokenizers/units.py: causal, exact in streams, any length; a unit is the patch that it is nearest to."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.doubles import toy_audio_tokenizer, toy_units_tokenizer
from tokenloom.models.spectral_loss import mel_distance
from tokenloom.pipelines.media_encoders import decode_sound, encode_sound
from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
from tokenloom.tokenizers.audio import AudioTokenizer
from tokenloom.tokenizers.protocol import MediaTokenizer
from tokenloom.tokenizers.units import UnitsTokenizer, UnitsTokenizerConfig
from tokenloom.tokenizers.vocoder import DELAY, FRAME, SAMPLE_RATE

CUTS = [97, 640, 1000, 7919, 1 << 20]  # samples
RATES = {25: 640, 50: 320}  # units a second -> samples of a unit


def sounds(count: int, samples: int, seed: int = 0) -> Tensor:
    """Noise whose loudness rises and falls."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(count, 1, samples, generator=generator) * torch.linspace(0, 40, samples).sin() * 0.2
    return wave.clamp(-1, 1)


def in_pieces(stream, media: Tensor, size: int) -> Tensor:
    return torch.cat([*(stream.push(piece) for piece in media.split(size, dim=2)), stream.finish()], dim=2)


@pytest.fixture(scope="module", params=RATES)
def tokenizer(request) -> UnitsTokenizer:
    return toy_units_tokenizer(unit_rate=request.param)


def test_it_is_a_media_tokenizer_of_one_codebook():
    tokenizer = toy_units_tokenizer()
    assert isinstance(tokenizer, MediaTokenizer) and tokenizer.num_codebooks == 1
    assert tokenizer.vocab_size == 8 and tokenizer.sample_rate == SAMPLE_RATE
    assert tokenizer.bits_per_second() == 3 * 25 and UnitsTokenizerConfig().hop_length == 640


@pytest.mark.parametrize("samples", [1, 320, 641, 9001])
def test_a_sound_of_any_length_comes_back_in_its_length(tokenizer, samples):
    media, hop = sounds(2, samples), tokenizer.config.hop_length
    ids = tokenizer.encode(media)
    assert ids.shape == (2, *tokenizer.grid((samples,))) == (2, 1, math.ceil((samples + DELAY) / hop))
    assert ids.dtype == torch.long and 0 <= ids.min() and ids.max() < tokenizer.vocab_size
    back, whole = tokenizer.decode(ids, (samples,)), tokenizer.decode(ids)
    assert back.shape == media.shape and back.dtype == torch.float32 and back.abs().max() <= 1
    assert whole.shape[2] == ids.shape[2] * hop - DELAY and torch.equal(whole[:, :, :samples], back)


def test_units_occur(tokenizer):
    assert len(tokenizer.encode(sounds(4, SAMPLE_RATE)).unique()) >= 6


def test_a_centroid_has_its_own_id(tokenizer):
    """Each id is that of the patch of log-mel energies that is nearest, by brute force."""
    steps = sounds(2, SAMPLE_RATE).reshape(2, -1, 160)
    patches = tokenizer.patches(steps, {})
    squared = (patches.double().unsqueeze(2) - tokenizer.centroids.double()).square().sum(-1)
    assert torch.equal(tokenizer.encode(sounds(2, SAMPLE_RATE))[:, 0, : patches.shape[1]], squared.argmin(-1))


@pytest.mark.parametrize("size", CUTS)
def test_every_way_of_cutting_a_sound_gives_the_same_ids(tokenizer, size):
    media = sounds(1, 9001)
    assert torch.equal(in_pieces(tokenizer.stream(), media, size), tokenizer.encode(media))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_way_of_cutting_ids_gives_the_same_samples(tokenizer, size):
    ids = tokenizer.encode(sounds(1, 9001))
    assert torch.equal(in_pieces(tokenizer.decode_stream(), ids, size), tokenizer.decode(ids))


def test_a_later_sample_cannot_change_an_earlier_unit(tokenizer):
    hop = tokenizer.config.hop_length
    one = sounds(1, 12 * hop)
    for changed in (4 * hop, 7 * hop + 5):
        other = one.clone()
        other[..., changed:] = 0.0
        same = (tokenizer.encode(one) == tokenizer.encode(other))[0, 0]
        assert same[: changed // hop].all() and not same[changed // hop :].all()


def test_a_later_unit_cannot_change_a_sample_that_is_complete(tokenizer):
    ids = tokenizer.encode(sounds(1, 12 * tokenizer.config.hop_length))
    other = ids.clone()
    other[:, :, 6] = (other[:, :, 6] + 1) % tokenizer.vocab_size
    same = (tokenizer.decode(ids) == tokenizer.decode(other))[0, 0]
    complete = 6 * tokenizer.config.hop_length - DELAY
    assert same[:complete].all() and not same[complete : complete + FRAME].all()


def test_the_vocoder_hears_the_units_before(tokenizer):
    ids = torch.tensor([[[1, 2, 3, 3, 3, 3]]])
    other = torch.tensor([[[1, 5, 3, 3, 3, 3]]])
    last = slice(2 * tokenizer.config.hop_length + FRAME, None)  # past what windows of the other unit reach
    assert not torch.equal(tokenizer.decode(ids)[..., last], tokenizer.decode(other)[..., last])


def test_training_hears_what_decoding_gives(tokenizer):
    media = sounds(2, 10 * tokenizer.config.hop_length)
    heard, ids = tokenizer(media)
    assert torch.equal(ids, tokenizer.encode(media)[:, 0, :10])
    torch.testing.assert_close(heard.clamp(-1, 1), tokenizer.decode(ids.unsqueeze(1)), atol=1e-5, rtol=0)


def test_gradients_reach_the_vocoder_and_its_latents_and_no_unit(tokenizer):
    tokenizer(sounds(2, SAMPLE_RATE))[0].square().mean().backward()
    assert not [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not tokenizer.centroids.requires_grad


def test_the_linear_start_is_nearer_than_silence():
    media = sounds(4, SAMPLE_RATE)
    tokenizer = toy_units_tokenizer(alive=False)
    heard = tokenizer.decode(tokenizer.encode(media), (SAMPLE_RATE,))
    silent = mel_distance(torch.zeros_like(media), media, SAMPLE_RATE).mean()
    assert mel_distance(heard, media, SAMPLE_RATE).mean() < 0.5 * silent


def test_shards_hold_its_ids_with_time_first_and_give_its_sounds(tokenizer):
    media = sounds(1, 9001)
    ids, samples = encode_sound(media[0].split(1000, dim=1), tokenizer)
    assert samples == 9001 and torch.equal(torch.from_numpy(ids).long(), tokenizer.encode(media)[0].T)
    back = torch.cat(list(decode_sound(torch.from_numpy(ids).long().split(7), samples, tokenizer)), dim=1)
    assert torch.equal(back, tokenizer.decode(tokenizer.encode(media), (9001,))[0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_saved_and_opened_by_its_config_it_gives_the_same_ids_sounds_and_fingerprint(tmp_path, dtype):
    original = toy_units_tokenizer(storage_dtype=dtype, unit_rate=50, window=2)
    original.save_pretrained(tmp_path / "once")
    once = open_audio_tokenizer(tmp_path / "once")
    assert isinstance(once, UnitsTokenizer) and once.config == original.config
    once.save_pretrained(tmp_path / "twice")
    twice = UnitsTokenizer.from_pretrained(tmp_path / "twice")
    assert original.fingerprint == once.fingerprint == twice.fingerprint
    ids = once.encode(sounds(1, 4000))
    assert torch.equal(twice.encode(sounds(1, 4000)), ids) and torch.equal(twice.decode(ids), once.decode(ids))
    toy_audio_tokenizer().save_pretrained(tmp_path / "codec")
    assert isinstance(open_audio_tokenizer(tmp_path / "codec"), AudioTokenizer)


def test_the_fingerprint_tells_apart_what_gives_other_ids():
    others = [{}, {"seed": 1}, {"window": 2}, {"unit_rate": 50}, {"storage_dtype": "float16"}]
    assert len({toy_units_tokenizer(**changes).fingerprint for changes in others}) == 5


def test_wrong_sounds_ids_sizes_and_configs_are_refused():
    tokenizer, config = toy_units_tokenizer(), UnitsTokenizerConfig()
    ids = torch.zeros(1, 1, 5, dtype=torch.long)
    for call, words in [
        (lambda: tokenizer.encode(torch.zeros(1, 2, 400)), r"sounds must be \(B, 1, S\)"),
        (lambda: tokenizer.decode(ids + 8), r"ids must lie in \[0, 8\), got 8 to 8"),
        (lambda: tokenizer.decode(ids.expand(1, 2, 5)), r"ids must be \(B, 1, t\)"),
        (lambda: tokenizer.decode(ids, (6400,)), r"has a grid of \(1, 11\)"),
        (lambda: replace(config, num_units=1), "num_units must be from 2"),
        (lambda: replace(config, unit_rate=30), "unit_rate must be 25 or 50"),
        (lambda: replace(config, dims=2), "dims must be from 3"),
        (lambda: replace(config, storage_dtype="int8"), "storage_dtype must be float32 or float16"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
