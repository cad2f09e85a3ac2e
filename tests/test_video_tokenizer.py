"""Laws of tokenizers/video.py: causal, exact in streams, any size and length, and one fingerprint for one behaviour."""

import inspect
import io
import tarfile
from dataclasses import asdict, replace

import pytest
import torch
from einops import rearrange
from torch import Tensor

from tests.conftest import needs_packs
from tests.doubles import toy_video_tokenizer
from tokenloom.models.image_metrics import psnr
from tokenloom.tokenizers.protocol import MediaTokenizer
from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig, fold, turns_of, unfold

SIZES = [(1, 16, 16), (5, 8, 24), (2, 5, 7), (9, 1, 1), (7, 17, 9), (17, 3, 10)]
CUTS = [1, 2, 3, 5, 7, 11, 13, 100]


def clips(count: int, frames: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def in_pieces(tokenizer: VideoTokenizer, media: Tensor, size: int) -> Tensor:
    stream = tokenizer.stream()
    return torch.cat([*(stream.push(piece) for piece in media.split(size, dim=2)), stream.finish()], dim=1)


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    return toy_video_tokenizer()


def wide(**changes) -> VideoTokenizer:
    """Two scales, several blocks."""
    sizes = {"stride": 8, "widths": (8, 12), "encoder_blocks": (1, 2), "decoder_blocks": (2, 1)}
    return toy_video_tokenizer(**(sizes | changes))


def test_it_is_a_media_tokenizer(tokenizer):
    assert isinstance(tokenizer, MediaTokenizer)
    assert tokenizer.vocab_size == 12 and len(tokenizer.fingerprint) == 64


@pytest.mark.parametrize("group", [4, 8])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_clip_of_any_size_and_length_comes_back_in_its_size(group, size):
    tokenizer = wide(group=group)
    ids = tokenizer.encode(clips(2, *size))
    assert ids.shape == (2, *tokenizer.grid(size))
    assert tokenizer.grid(size) == (1 + -((1 - size[0]) // group), -(-size[1] // 8), -(-size[2] // 8))
    assert ids.dtype == torch.long and 0 <= ids.min() and ids.max() < tokenizer.vocab_size
    back = tokenizer.decode(ids, size)
    assert back.shape == (2, 3, *size) and back.dtype == torch.float32 and back.abs().max() <= 1
    assert torch.equal(back, tokenizer.decode(ids)[:, :, : size[0], : size[1], : size[2]])


def test_what_is_missing_repeats_the_edge_and_the_last_frame(tokenizer):
    small = clips(1, 7, 5, 6)
    padded = torch.cat([small, small[:, :, -1:].expand(-1, -1, 2, -1, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, -1, 2)], dim=4)
    padded = torch.cat([padded, padded[:, :, :, -1:].expand(-1, -1, -1, 3, -1)], dim=3)
    assert torch.equal(tokenizer.encode(small), tokenizer.encode(padded))


def test_most_codes_occur(tokenizer):
    """The double is alive: laws about ids would say little of a tokenizer that gives one."""
    assert len(tokenizer.encode(clips(2, 9, 32, 32)).unique()) >= 8


def test_folding_loses_nothing():
    media = clips(2, 8, 8, 12)
    folded = fold(media, 4, 4)
    assert folded.shape == (2, 2, 2, 3, 3 * 4 * 16) and torch.equal(unfold(folded, 4, 4), media)


# ----------------------------------------------------------------------------------------------------------- streaming


@pytest.mark.parametrize("group", [4, 8])
@pytest.mark.parametrize("size", CUTS)
def test_every_way_of_cutting_a_clip_gives_the_same_ids(group, size):
    tokenizer, media = wide(group=group, levels=(8, 8, 8)), clips(1, 23, 19, 33)
    assert torch.equal(in_pieces(tokenizer, media, size), tokenizer.encode(media))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_way_of_cutting_ids_gives_the_same_frames(size):
    tokenizer = wide(levels=(8, 8, 8))
    ids = tokenizer.encode(clips(1, 23, 16, 24))
    stream = tokenizer.decode_stream()
    pieces = [*(stream.push(piece) for piece in ids.split(size, dim=1)), stream.finish()]
    assert pieces[0].shape[2] == 1 + 4 * (min(size, ids.shape[1]) - 1) and pieces[-1].shape[2] == 0
    assert torch.equal(torch.cat(pieces, dim=2), tokenizer.decode(ids))


@needs_packs
@pytest.mark.parametrize("group", [4, 8])
def test_a_real_clip_gives_the_same_ids_however_it_is_cut(packs, group):
    """By a network of the usual size."""
    media = real_clip(packs, 40)
    tokenizer = toy_video_tokenizer(**asdict(VideoTokenizerConfig(group=group)))
    whole = tokenizer.encode(media)
    assert whole.shape[1] == 1 + -(-39 // group) and len(whole.unique()) > 50
    for size in (1, 7, 13):
        assert torch.equal(in_pieces(tokenizer, media, size), whole)


def real_clip(packs, frames: int) -> Tensor:
    """The first frames of the first clip of the pack, (1, 3, T, 90, 120) in [-1, 1]."""
    import av

    with tarfile.open(packs / "video" / "clips_real_train.tar") as tar:
        member = next(entry for entry in tar if entry.name.endswith(".mp4"))
        data = io.BytesIO(tar.extractfile(member).read())
    pictures = []
    with av.open(data) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            pictures.append(torch.from_numpy(frame.to_ndarray(format="rgb24", width=120, height=90)))
            if len(pictures) == frames:
                break
    return rearrange(torch.stack(pictures), "T H W C -> 1 C T H W").float() / 127.5 - 1


def test_ids_come_with_the_last_frame_of_their_group(tokenizer):
    stream, media = tokenizer.stream(), clips(1, 10, 8, 8)
    counts = [stream.push(frame).shape[1] for frame in media.split(1, dim=2)]
    assert counts == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert stream.finish().shape == (1, 1, 2, 2)
    with pytest.raises(ValueError, match="a finished stream takes no more chunks"):
        stream.push(media)


def test_two_streams_do_not_know_of_each_other(tokenizer):
    one, other = clips(1, 9, 8, 8), clips(1, 9, 8, 8, seed=1)
    a, b = tokenizer.stream(), tokenizer.stream()
    ids_a, ids_b = [], []
    for piece_a, piece_b in zip(one.split(3, dim=2), other.split(3, dim=2), strict=True):
        ids_a.append(a.push(piece_a))
        ids_b.append(b.push(piece_b))
    assert torch.equal(torch.cat(ids_a, dim=1), tokenizer.encode(one))
    assert torch.equal(torch.cat(ids_b, dim=1), tokenizer.encode(other))


def test_what_a_stream_keeps_does_not_grow():
    tokenizer, kept = wide(), []
    stream = tokenizer.stream()
    cache = inspect.getclosurevars(inspect.unwrap(stream.run)).nonlocals["cache"]
    for seed in range(6):
        stream.push(clips(1, 11, 16, 16, seed))
        kept.append(sum(past.untyped_storage().nbytes() for past in cache.values()))
    assert len(cache) == 4 and kept[0] > 0 and set(kept[1:]) == {kept[0]}


# ----------------------------------------------------------------------------------------------------------- causality


@pytest.mark.parametrize("changed", [1, 4, 5, 9, 12])
def test_a_later_frame_cannot_change_an_earlier_id(changed):
    tokenizer = wide(levels=(8, 8, 8))
    one = clips(1, 13, 16, 16)
    other = one.clone()
    other[:, :, changed:] *= -1
    ids_one, ids_other = tokenizer.encode(one), tokenizer.encode(other)
    group = (changed + 3) // 4
    assert torch.equal(ids_one[:, :group], ids_other[:, :group])
    assert not torch.equal(ids_one[:, group], ids_other[:, group])


def test_a_later_id_cannot_change_an_earlier_frame():
    tokenizer = wide(levels=(8, 8, 8))
    ids = tokenizer.encode(clips(1, 13, 16, 16))
    other = ids.clone()
    other[:, 2] = (other[:, 2] + 1) % tokenizer.vocab_size
    one, two = tokenizer.decode(ids), tokenizer.decode(other)
    assert torch.equal(one[:, :, :5], two[:, :, :5]) and not torch.equal(one[:, :, 5:9], two[:, :, 5:9])


def test_groups_take_turns_in_pieces_as_in_the_whole():
    cache: dict[str, Tensor] = {}
    pieces = [turns_of(count, 3, cache) for count in (1, 2, 1, 4)]
    assert torch.equal(torch.cat(pieces), turns_of(8, 3, {}))
    assert torch.equal(torch.cat(pieces).argmax(1), torch.arange(8) % 3) and torch.cat(pieces).sum() == 8


def test_the_linear_start_of_pictures_is_still_finite():
    """One group is there, and the second turn has nothing to learn from."""
    tokenizer = wide(alive=False)
    tokenizer.start_linear(clips(4, 1, 16, 16))
    assert all(p.isfinite().all() for p in tokenizer.parameters())


def test_what_stands_still_is_told_better_by_taking_turns():
    """Two numbers per square and group: both turns together tell four of a still clip."""
    still = torch.nn.functional.interpolate(clips(32, 1, 6, 6), size=(1, 24, 24)).expand(-1, -1, 17, -1, -1)
    error = {}
    for turns in (1, 2):
        tokenizer = wide(alive=False, turns=turns, levels=(32, 32))
        tokenizer.start_linear(still)
        frames, _ = tokenizer(still)
        error[turns] = float((frames - still)[:, :, 5:].square().mean().detach())
    assert error[2] < 0.9 * error[1]


def test_the_past_matters():
    """Or the laws of streams would hold for a network that looks at one group alone."""
    tokenizer = wide(levels=(8, 8, 8))
    one = clips(1, 9, 16, 16)
    other = torch.cat([-one[:, :, :5], one[:, :, 5:]], dim=2)
    assert not torch.equal(tokenizer.encode(one)[:, 2], tokenizer.encode(other)[:, 2])


@pytest.mark.parametrize("group", [4, 8])
def test_a_picture_is_a_clip_of_one_frame(group):
    tokenizer, media = wide(group=group), clips(2, 10, 20, 16)
    picture = tokenizer.encode(media[:, :, :1])
    assert picture.shape[1] == 1 and torch.equal(picture, tokenizer.encode(media)[:, :1])
    assert torch.equal(tokenizer.decode(picture), tokenizer.decode(tokenizer.encode(media))[:, :, :1])


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("group", [4, 8])
def test_training_sees_what_encode_and_decode_do(group):
    """All groups at once and one after the other agree, up to the last bits of float32."""
    tokenizer, media = wide(group=group), clips(2, 17, 16, 8)
    frames, z_q = tokenizer(media)
    assert frames.shape == media.shape and z_q.shape == (2, 2, *tokenizer.grid((17, 16, 8)))
    ids = tokenizer.encode(media)
    assert torch.equal(tokenizer.quantizer.latents_to_ids(z_q.movedim(1, -1)), ids)
    torch.testing.assert_close(frames.clamp(-1, 1), tokenizer.decode(ids))


def test_gradients_reach_every_weight_through_the_quantizer():
    tokenizer = wide(stride=16, widths=(8, 12, 8), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1))
    tokenizer(clips(2, 9, 32, 32))[0].square().mean().backward()
    assert not [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]


def test_nothing_normalizes_across_the_frame(tokenizer):
    one, other = clips(1, 5, 8, 96), clips(1, 5, 8, 96)
    other[..., 88:] *= -1
    ids_one, ids_other = tokenizer.encode(one), tokenizer.encode(other)
    assert torch.equal(ids_one[..., :12], ids_other[..., :12]) and not torch.equal(ids_one, ids_other)


def test_a_fresh_tokenizer_is_its_two_linear_maps():
    tokenizer = wide(alive=False)
    media = clips(1, 8, 16, 16)
    z_e = tokenizer.encoder.linear(fold(media, 4, 8))
    z_e = torch.stack([z_e[:, 0, ..., :2], z_e[:, 1, ..., 2:]], dim=1)  # the first turn, then the second
    torch.testing.assert_close(tokenizer.encoder(media, {}), z_e)
    slots = torch.zeros(1, 2, 2, 2, 4)
    slots[:, 0, ..., :2], slots[:, 1, ..., 2:] = z_e.unbind(1)
    torch.testing.assert_close(tokenizer.decoder(z_e, {}), unfold(tokenizer.decoder.linear(slots, {}), 4, 8))


def test_the_linear_start_beats_a_fresh_tokenizer_and_the_mean_color():
    corners = clips(16, 3, 4, 4)
    smooth = torch.nn.functional.interpolate(corners, size=(9, 32, 32), mode="trilinear").clamp(-1, 1)
    fresh, started = wide(alive=False), wide(alive=False)
    started.start_linear(smooth)

    def quality(reconstruction: Tensor) -> float:
        by_frame = "N C T H W -> (N T) C H W"
        return float(psnr(rearrange(reconstruction, by_frame), rearrange(smooth, by_frame)).mean())

    mean = quality(smooth.mean((0, 2, 3, 4), keepdim=True).expand_as(smooth))
    reached = quality(started.decode(started.encode(smooth)))
    assert reached > mean + 1 and reached > quality(fresh.decode(fresh.encode(smooth))) + 1


# ------------------------------------------------------------------------------------------------- saved, and who it is


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_saved_and_loaded_it_gives_the_same_ids_frames_and_fingerprint(tmp_path, dtype):
    original = wide(storage_dtype=dtype, group=8, window=2)
    original.save_pretrained(tmp_path / "once")
    once = VideoTokenizer.from_pretrained(tmp_path / "once")
    once.save_pretrained(tmp_path / "twice")
    twice = VideoTokenizer.from_pretrained(tmp_path / "twice")
    assert once.config == original.config
    assert original.fingerprint == once.fingerprint == twice.fingerprint
    media = clips(1, 10, 20, 16)
    ids = once.encode(media)
    assert torch.equal(twice.encode(media), ids) and torch.equal(twice.decode(ids), once.decode(ids))
    if dtype == "float32":
        assert torch.equal(original.encode(media), ids) and torch.equal(original.decode(ids), once.decode(ids))


def test_the_fingerprint_tells_apart_what_gives_other_ids():
    tokenizer = toy_video_tokenizer()
    others = [toy_video_tokenizer(seed=1), toy_video_tokenizer(levels=(3, 4)), toy_video_tokenizer(window=2)]
    moved = toy_video_tokenizer()
    with torch.no_grad():
        moved.encoder.head.bias[0] += 1e-3
    fingerprints = {each.fingerprint for each in (tokenizer, moved, *others)}
    assert len(fingerprints) == 5 and toy_video_tokenizer().fingerprint == tokenizer.fingerprint


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("bad", [1.01, -2.0, float("nan")])
def test_clips_out_of_range_are_refused_and_not_clipped(tokenizer, bad):
    media = clips(1, 5, 8, 8)
    media[0, 1, 2, 3, 3] = bad
    with pytest.raises(ValueError, match=r"clips must lie in \[-1, 1\], got a peak of"):
        tokenizer.encode(media)


@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (1, 1, 5, 8, 8), (1, 3, 0, 8, 8), (1, 5, 8, 8, 3)], ids=str)
def test_what_is_not_a_batch_of_rgb_clips_is_refused(tokenizer, shape):
    with pytest.raises(ValueError, match=r"clips must be \(B, 3, T, H, W\), got"):
        tokenizer.encode(torch.zeros(shape))


def test_clips_in_whole_numbers_are_refused(tokenizer):
    with pytest.raises(ValueError, match="clips must be floats"):
        tokenizer.encode(torch.zeros(1, 3, 5, 8, 8, dtype=torch.uint8))


def test_ids_of_another_shape_or_outside_the_codebook_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"ids must lie in \[0, 12\)"):
        tokenizer.decode(torch.full((1, 1, 2, 2), 12))
    with pytest.raises(ValueError, match=r"ids must be \(B, t, h, w\), got \(1, 2, 2\)"):
        tokenizer.decode(torch.zeros(1, 2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"size \(6, 8, 8\) has a grid of \(3, 2, 2\), but the ids are \(2, 2, 2\)"):
        tokenizer.decode(torch.zeros(1, 2, 2, 2, dtype=torch.long), (6, 8, 8))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"group": 1}, "a group needs at least 2 frames"),
        ({"window": 0}, "a window 1 group"),
        ({"turns": 0}, "codes 1 turn, got 4, 3 and 0"),
        ({"stride": 6}, "stride must be 4, 8 or 16 pixels, got 6"),
        ({"widths": (8,)}, "stride 8 needs 2 widths and blocks"),
        ({"levels": (8, 1)}, "every dimension needs at least 2 levels"),
    ],
)
def test_configs_that_cannot_be_built_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        VideoTokenizer(replace(VideoTokenizerConfig(), **changes))


def test_both_usual_sizes_fit_what_ships():
    """Two of them in 8 MB of float16."""
    for group in (4, 8):
        tokenizer = VideoTokenizer(VideoTokenizerConfig(group=group))
        assert sum(p.numel() for p in tokenizer.parameters()) < 2e6
