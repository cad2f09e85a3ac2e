"""Laws of tokenizers/audio.py: causal, exact in streams, any length, any number of codebooks, one fingerprint."""

import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor

from tests.conftest import needs_packs
from tests.doubles import toy_audio_tokenizer
from tokenloom.data.audio import read_audio
from tokenloom.models.spectral_loss import mel_distance
from tokenloom.pipelines.media_encoders import decode_sound, encode_sound
from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from tokenloom.tokenizers.protocol import MediaTokenizer
from tokenloom.tokenizers.vocoder import BLOCK, DELAY, FRAME, HOP, SAMPLE_RATE, STEP, overlap_add

CUTS = [97, 160, 320, 1000, 7919, 1 << 20]  # samples


def sounds(count: int, samples: int, seed: int = 0) -> Tensor:
    """Noise whose loudness rises and falls."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(count, 1, samples, generator=generator) * torch.linspace(0, 40, samples).sin() * 0.2
    return wave.clamp(-1, 1)


def in_pieces(stream, media: Tensor, size: int) -> Tensor:
    return torch.cat([*(stream.push(piece) for piece in media.split(size, dim=2)), stream.finish()], dim=2)


@pytest.fixture(scope="module")
def tokenizer() -> AudioTokenizer:
    return toy_audio_tokenizer()


def test_it_is_a_media_tokenizer(tokenizer):
    assert isinstance(tokenizer, MediaTokenizer)
    assert tokenizer.vocab_size == 8 and tokenizer.num_codebooks == 3 and len(tokenizer.fingerprint) == 64
    assert tokenizer.bits_per_second(2) == 2 * 3 * 50


def test_the_usual_codebooks_have_10_bits_and_serve_1_to_4_kilobits():
    config = AudioTokenizerConfig()
    assert len(config.levels) == 8 and {math.prod(level) for level in config.levels} == {1024}


@pytest.mark.parametrize("samples", [1, 159, 320, 321, 3200, 8001])
def test_a_sound_of_any_length_comes_back_in_its_length(tokenizer, samples):
    media = sounds(2, samples)
    ids = tokenizer.encode(media)
    assert ids.shape == (2, *tokenizer.grid((samples,))) == (2, 3, math.ceil((samples + DELAY) / HOP))
    assert ids.dtype == torch.long and 0 <= ids.min() and ids.max() < tokenizer.vocab_size
    back = tokenizer.decode(ids, (samples,))
    assert back.shape == media.shape and back.dtype == torch.float32 and back.abs().max() <= 1
    whole = tokenizer.decode(ids)
    assert whole.shape[2] == ids.shape[2] * HOP - DELAY and torch.equal(whole[:, :, :samples], back)


def test_codes_occur(tokenizer):
    """The double is alive: laws about ids would say little of a tokenizer that gives one."""
    ids = tokenizer.encode(sounds(4, SAMPLE_RATE))
    assert all(len(level.unique()) >= 6 for level in ids.unbind(1))


# ----------------------------------------------------------------------------------------------------------- streaming


@pytest.mark.parametrize("size", CUTS)
def test_every_way_of_cutting_a_sound_gives_the_same_ids(tokenizer, size):
    media = sounds(1, 9001)
    assert torch.equal(in_pieces(tokenizer.stream(), media, size), tokenizer.encode(media))


@pytest.mark.parametrize("size", [1, 3, BLOCK, 100])
def test_every_way_of_cutting_ids_gives_the_same_samples(tokenizer, size):
    ids = tokenizer.encode(sounds(1, 9001))
    assert torch.equal(in_pieces(tokenizer.decode_stream(), ids, size), tokenizer.decode(ids))


@needs_packs
def test_real_speech_gives_the_same_ids_however_it_is_cut(packs):
    """By a network of the usual size."""
    speech = read_audio(packs / "reallife" / "audio" / "speech_fr.aiff", stop=1.0)[None]
    tokenizer = toy_audio_tokenizer(levels=AudioTokenizerConfig().levels, width=192, fine_width=160)
    whole = tokenizer.encode(speech)
    assert all(len(level.unique()) > 20 for level in whole.unbind(1))
    for size in (163, 4001):
        assert torch.equal(in_pieces(tokenizer.stream(), speech, size), whole)


def test_ids_come_with_the_last_sample_of_their_block_and_a_finished_stream_is_over(tokenizer):
    stream, media = tokenizer.stream(), sounds(1, 2 * BLOCK * HOP)
    counts = [stream.push(piece).shape[2] for piece in media.split(BLOCK * HOP // 2, dim=2)]
    assert counts == [0, BLOCK, 0, BLOCK] and stream.finish().shape == (1, 3, DELAY // HOP)
    for again in (lambda: stream.push(media), stream.finish):
        with pytest.raises(ValueError, match="finish"):
            again()
    with pytest.raises(ValueError, match="after at least one push"):
        tokenizer.stream().finish()


def test_shards_hold_its_ids_with_time_first_and_give_its_sounds(tokenizer):
    media = sounds(1, 9001)
    ids, samples = encode_sound(media[0].split(1000, dim=1), tokenizer)
    assert samples == 9001 and torch.equal(torch.from_numpy(ids).long(), tokenizer.encode(media)[0].T)
    back = torch.cat(list(decode_sound(torch.from_numpy(ids).long().split(7), samples, tokenizer)), dim=1)
    assert torch.equal(back, tokenizer.decode(tokenizer.encode(media), (9001,))[0])


# ----------------------------------------------------------------------------------------------------------- causality


def test_a_later_sample_cannot_change_an_earlier_code(tokenizer):
    one = sounds(1, 12 * HOP)
    for changed in (4 * HOP, 7 * HOP + 5):
        other = one.clone()
        other[..., changed:] = sounds(1, 12 * HOP, seed=1)[..., changed:]
        same = (tokenizer.encode(one) == tokenizer.encode(other)).all(1)[0]
        assert same[: changed // HOP].all() and not same[changed // HOP :].all()


def test_a_later_code_cannot_change_a_sample_that_is_complete(tokenizer):
    ids = tokenizer.encode(sounds(1, 12 * HOP))
    other = ids.clone()
    other[:, :, 6] = (other[:, :, 6] + 1) % tokenizer.vocab_size
    same = (tokenizer.decode(ids) == tokenizer.decode(other))[0, 0]
    complete = 6 * HOP - DELAY
    assert same[:complete].all() and not same[complete : complete + FRAME].all()


def test_the_past_matters(tokenizer):
    """Or the laws of streams would hold for a network that looks at one code alone."""
    one = sounds(1, 12 * HOP)
    other = torch.cat([-one[..., : 5 * HOP], one[..., 5 * HOP :]], dim=2)
    assert not torch.equal(tokenizer.encode(one)[..., 7], tokenizer.encode(other)[..., 7])


# ----------------------------------------------------------------------------------------------------------- codebooks


def test_the_first_codebooks_alone_are_what_training_with_few_hears(tokenizer):
    media = sounds(2, 20 * HOP)
    ids = tokenizer.encode(media)[:, :, :20]
    for count in (1, 2, 3):
        heard, latents = tokenizer(media, torch.full((2,), count))
        expected = tokenizer.quantizer.ids_to_latents(rearrange(ids[:, :count], "B k t -> B t k"))
        assert torch.equal(rearrange(latents, "B D t -> B t D"), expected)
        torch.testing.assert_close(heard.clamp(-1, 1), tokenizer.decode(ids[:, :count]), atol=1e-5, rtol=0)


def test_wrong_sounds_ids_and_sizes_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"sounds must be \(B, 1, S\), got \(1, 2, 400\)"):
        tokenizer.encode(torch.zeros(1, 2, 400))
    with pytest.raises(ValueError, match=r"sounds must lie in \[-1, 1\]"):
        tokenizer.encode(torch.full((1, 1, 400), 2.0))
    ids = tokenizer.encode(sounds(1, 3200))
    with pytest.raises(ValueError, match="6400 samples take 21 codes"):
        tokenizer.decode(ids, (6400,))
    with pytest.raises(ValueError, match="1 to 3 levels, got 4"):
        tokenizer.decode(torch.zeros(1, 4, 5, dtype=torch.long))


# ------------------------------------------------------------------------------------------------------- linear vocoder


def test_frames_that_are_windows_of_a_sound_add_up_to_it():
    """Hann windows of three steps, one step apart, sum to 3/2."""
    wave = sounds(1, 20 * STEP)[0]
    frames = torch.nn.functional.pad(wave, (FRAME - STEP, 0)).unfold(1, FRAME, STEP) * torch.hann_window(FRAME)
    back = rearrange(overlap_add(frames, {}), "B n s -> B (n s)")
    torch.testing.assert_close(back[:, DELAY:] / 1.5, wave[:, :-DELAY])


@pytest.mark.parametrize("place", [-60, -1, 0, 37])
def test_a_pulse_is_found_and_put_where_it_was(place):
    frame = torch.zeros(1, 1, FRAME)
    frame[..., FRAME // 2 + place] = 0.9
    tokenizer = toy_audio_tokenizer(alive=False)
    u = tokenizer.quantizer.bound(tokenizer.encoder.pulses(frame))
    assert float(u) * STEP / 2 == pytest.approx(place, abs=0.51)
    torch.nn.init.zeros_(tokenizer.decoder.linear.weight)
    torch.nn.init.zeros_(tokenizer.decoder.linear.bias)  # magnitudes of 1: each frame is one pulse
    wave = tokenizer.decoder(torch.cat([u.expand(1, 6, 2), torch.zeros(1, 6, 2)], dim=-1), {}).flatten()
    for step in range(4, 8):
        around = wave[(step + 1) * STEP + place :][:STEP]  # a step, whose pulse is in its middle
        assert abs(int(around.argmax()) - STEP // 2) <= 1 and around.max() > 0.5


def test_the_linear_start_is_nearer_than_a_fresh_tokenizer():
    media = 0.05 * sounds(8, 50 * HOP)
    fresh, started = toy_audio_tokenizer(alive=False), toy_audio_tokenizer(alive=False)
    started.start_linear(media)

    def distance(tokenizer: AudioTokenizer) -> float:
        heard = tokenizer.decode(tokenizer.encode(media), (media.shape[2],))
        return float(mel_distance(heard, media, SAMPLE_RATE).mean())

    assert distance(started) < 0.5 * distance(fresh)


def test_gradients_reach_every_weight_through_the_quantizer(tokenizer):
    tokenizer(sounds(2, 20 * HOP))[0].square().mean().backward()
    assert not [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]


# ------------------------------------------------------------------------------------------------- saved, and who it is


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_saved_and_loaded_it_gives_the_same_ids_sounds_and_fingerprint(tmp_path, dtype):
    original = toy_audio_tokenizer(storage_dtype=dtype, window=2)
    original.save_pretrained(tmp_path / "once")
    once = AudioTokenizer.from_pretrained(tmp_path / "once")
    once.save_pretrained(tmp_path / "twice")
    twice = AudioTokenizer.from_pretrained(tmp_path / "twice")
    assert once.config == original.config
    assert original.fingerprint == once.fingerprint == twice.fingerprint
    media = sounds(1, 4000)
    ids = once.encode(media)
    assert torch.equal(twice.encode(media), ids) and torch.equal(twice.decode(ids), once.decode(ids))


def test_the_fingerprint_tells_apart_what_gives_other_ids(tokenizer):
    others = [toy_audio_tokenizer(seed=1), toy_audio_tokenizer(window=2), toy_audio_tokenizer(storage_dtype="float16")]
    assert len({tokenizer.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_wrong_config_is_told():
    with pytest.raises(ValueError, match="storage_dtype must be float32 or float16"):
        replace(AudioTokenizerConfig(), storage_dtype="int8")
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        AudioTokenizerConfig(levels=((2, 2),))
