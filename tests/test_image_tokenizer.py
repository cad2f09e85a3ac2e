"""Laws of tokenizers/image.py: any size in, the same size out, ids in range, and one fingerprint for one behaviour."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor

from tests.doubles import toy_image_tokenizer, toy_pictures
from tokenloom.models.image_metrics import psnr
from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from tokenloom.tokenizers.linear_code import principal_axes
from tokenloom.tokenizers.protocol import MediaTokenizer

SIZES = [(16, 16), (8, 24), (5, 7), (1, 1), (17, 9), (3, 40)]


def pictures(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    return toy_image_tokenizer()


def wide(stride: int, alive: bool = True) -> ImageTokenizer:
    scales = {4: 1, 8: 2, 16: 3}[stride]
    sizes = {"widths": (8, 12, 16)[:scales], "encoder_blocks": (1,) * scales, "decoder_blocks": (1,) * scales}
    return toy_image_tokenizer(stride=stride, alive=alive, **sizes)


def test_it_is_a_media_tokenizer(tokenizer):
    assert isinstance(tokenizer, MediaTokenizer)
    assert tokenizer.vocab_size == 12 and len(tokenizer.fingerprint) == 64


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_picture_of_any_size_comes_back_in_its_size(stride, size):
    tokenizer = wide(stride)
    ids = tokenizer.encode(pictures(2, *size))
    assert ids.shape == (2, *tokenizer.grid(size)) == (2, -(-size[0] // stride), -(-size[1] // stride))
    assert ids.dtype == torch.long and 0 <= ids.min() and ids.max() < tokenizer.vocab_size
    back = tokenizer.decode(ids, size)
    assert back.shape == (2, 3, *size) and back.dtype == torch.float32 and back.abs().max() <= 1
    assert torch.equal(back, tokenizer.decode(ids)[:, :, : size[0], : size[1]])


def test_what_is_missing_to_a_whole_square_repeats_the_edge(tokenizer):
    small = pictures(1, 5, 6)
    padded = torch.cat([small, small[:, :, :, -1:].expand(-1, -1, -1, 2)], dim=3)
    padded = torch.cat([padded, padded[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    assert torch.equal(tokenizer.encode(small), tokenizer.encode(padded))


def test_most_codes_occur(tokenizer):
    """The double is alive: laws about ids would say little of a tokenizer that gives one."""
    assert len(tokenizer.encode(pictures(4, 32, 32)).unique()) >= 8


def test_a_picture_does_not_depend_on_its_batch(tokenizer):
    batch = pictures(3, 12, 12)
    ids = tokenizer.encode(batch)
    for row in range(3):
        assert torch.equal(tokenizer.encode(batch[row : row + 1])[0], ids[row])
        torch.testing.assert_close(tokenizer.decode(ids[row : row + 1])[0], tokenizer.decode(ids)[row])


def test_nothing_normalizes_across_the_picture(tokenizer):
    """Far from a change, nothing changes: ids of a large picture's left half do not know its right end."""
    one, other = pictures(1, 16, 96), pictures(1, 16, 96)
    other[..., 88:] *= -1
    ids_one, ids_other = tokenizer.encode(one), tokenizer.encode(other)
    assert torch.equal(ids_one[..., :12], ids_other[..., :12])
    assert not torch.equal(ids_one[..., 20:], ids_other[..., 20:])


def test_training_sees_what_encode_and_decode_do(tokenizer):
    images = pictures(2, 16, 8)
    outputs, z_q = tokenizer(images)
    ids = tokenizer.encode(images)
    assert torch.equal(tokenizer.quantizer.latents_to_ids(z_q.movedim(1, -1)), ids)
    torch.testing.assert_close(outputs.clamp(-1, 1), tokenizer.decode(ids))


def test_gradients_reach_every_weight_through_the_quantizer():
    tokenizer = wide(16)
    tokenizer(pictures(2, 32, 32))[0].square().mean().backward()
    assert not [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]


# ------------------------------------------------------------------------------------------------ the linear beginning


def test_a_fresh_tokenizer_is_its_two_linear_maps():
    """So that `start_linear` sets the whole: the networks' last layers begin at zero."""
    tokenizer, images = wide(8, alive=False), pictures(2, 16, 16)
    z_e = tokenizer.encoder.linear(images)
    torch.testing.assert_close(tokenizer.encoder(images), z_e)
    torch.testing.assert_close(tokenizer.decoder(z_e), tokenizer.decoder.linear(z_e))


@pytest.mark.parametrize("stride", [4, 8])
def test_the_linear_start_beats_a_fresh_tokenizer_and_the_mean_color(stride):
    smooth = torch.nn.functional.interpolate(pictures(64, 4, 4), size=32, mode="bicubic").clamp(-1, 1)
    fresh, started = wide(stride, alive=False), wide(stride, alive=False)
    started.start_linear(smooth)

    def quality(tokenizer: ImageTokenizer) -> float:
        return float(psnr(tokenizer.decode(tokenizer.encode(smooth)), smooth).mean())

    mean = float(psnr(smooth.mean((0, 2, 3), keepdim=True).expand_as(smooth), smooth).mean())
    assert quality(started) > mean + 1 and quality(started) > quality(fresh) + 1
    z = started.encoder(smooth)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)


def test_the_linear_start_of_flat_pictures_is_still_finite():
    tokenizer = wide(4, alive=False)
    tokenizer.start_linear(torch.full((8, 3, 8, 8), 0.25))
    assert all(p.isfinite().all() for p in tokenizer.parameters())
    flat = torch.full((1, 3, 8, 8), 0.25)
    torch.testing.assert_close(tokenizer.decode(tokenizer.encode(flat)), flat, atol=0.02, rtol=0)


# ------------------------------------------------------------------------------------------------- saved, and who it is


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_saved_and_loaded_it_gives_the_same_ids_pictures_and_fingerprint(tmp_path, dtype):
    original = toy_image_tokenizer(
        storage_dtype=dtype, stride=8, widths=(8, 12), encoder_blocks=(1, 2), decoder_blocks=(2, 0)
    )
    original.save_pretrained(tmp_path / "once")
    once = ImageTokenizer.from_pretrained(tmp_path / "once")
    once.save_pretrained(tmp_path / "twice")
    twice = ImageTokenizer.from_pretrained(tmp_path / "twice")
    assert original.fingerprint == once.fingerprint == twice.fingerprint
    images = pictures(2, 20, 16)
    ids = once.encode(images)
    assert torch.equal(twice.encode(images), ids) and torch.equal(twice.decode(ids), once.decode(ids))
    if dtype == "float32":
        assert torch.equal(original.encode(images), ids) and torch.equal(original.decode(ids), once.decode(ids))


def test_the_fingerprint_tells_apart_what_gives_other_ids():
    tokenizer = toy_image_tokenizer()
    others = [
        toy_image_tokenizer(seed=1),
        toy_image_tokenizer(levels=(3, 4)),
        toy_image_tokenizer(storage_dtype="float16"),
    ]
    for name in ("encoder.head.bias", "decoder.linear.weight"):
        moved = toy_image_tokenizer()
        with torch.no_grad():
            dict(moved.named_parameters())[name].flatten()[0] += 1e-3
        others.append(moved)
    fingerprints = {tokenizer.fingerprint, *(other.fingerprint for other in others)}
    assert len(fingerprints) == 1 + len(others)
    assert toy_image_tokenizer().fingerprint == tokenizer.fingerprint


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("bad", [1.01, -2.0, float("nan"), float("inf")])
def test_pictures_out_of_range_are_refused_and_not_clipped(tokenizer, bad):
    images = pictures(1, 8, 8)
    images[0, 1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"images must lie in \[-1, 1\], got a peak of"):
        tokenizer.encode(images)


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8), (1, 8, 8, 3)], ids=str
)
def test_what_is_not_a_batch_of_rgb_pictures_is_refused(tokenizer, shape):
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), got"):
        tokenizer.encode(torch.zeros(shape))


def test_pictures_in_whole_numbers_are_refused(tokenizer):
    with pytest.raises(ValueError, match="images must be floats"):
        tokenizer.encode(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_pictures_of_other_floats_are_refused(tokenizer, dtype):
    with pytest.raises(ValueError, match=r"images must be float32, got .*; convert them with .float()"):
        tokenizer.encode(torch.zeros(1, 3, 8, 8, dtype=dtype))


@pytest.mark.parametrize("bad", [-1, 12])
def test_ids_outside_the_codebook_are_refused(tokenizer, bad):
    with pytest.raises(ValueError, match=r"ids must lie in \[0, 12\)"):
        tokenizer.decode(torch.tensor([[[0, bad]]]))


def test_ids_of_another_shape_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"ids must be \(B, h, w\), got \(2, 4\)"):
        tokenizer.decode(torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"size \(8, 9\) has a grid of \(2, 3\), but the ids are \(2, 2\)"):
        tokenizer.decode(torch.zeros(1, 2, 2, dtype=torch.long), (8, 9))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stride": 6}, "stride must be 4, 8 or 16 pixels, got 6"),
        ({"widths": (8,)}, "stride 8 needs 2 widths and blocks"),
        ({"decoder_blocks": (1, 2, 3)}, "stride 8 needs 2 widths and blocks"),
        ({"storage_dtype": "float64"}, "storage_dtype must be float32 or float16"),
        ({"levels": (8, 1)}, "every dimension needs at least 2 levels"),
    ],
)
def test_configs_that_cannot_be_built_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        ImageTokenizer(replace(ImageTokenizerConfig(), **changes))


def test_codes_too_many_for_ids_are_told_by_cells():
    tokenizer = toy_image_tokenizer(levels=(9,) * 20)
    images = torch.rand(2, 3, 10, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cells = tokenizer.encode_cells(images)
    assert cells.shape == (2, 3, 3, 20) and 0 <= cells.min() and cells.max() < 9 and len(cells.unique()) > 3
    assert tokenizer.decode_cells(cells, (10, 9)).shape == images.shape
    with pytest.raises(ValueError, match="codes can have ids"):
        tokenizer.encode(images)
    few = toy_image_tokenizer()
    ids = few.encode(images)
    assert torch.equal(few.quantizer.cells_to_ids(few.encode_cells(images)), ids)
    torch.testing.assert_close(few.decode_cells(few.encode_cells(images), (10, 9)), few.decode(ids, (10, 9)))


@pytest.mark.parametrize(
    "cells",
    [torch.full((1, 2, 2, 3), 9), torch.full((1, 2, 2, 3), -1), torch.zeros(1, 2, 2, 3), torch.zeros(2, 2, 3).long()],
)
def test_cells_that_cannot_be_are_refused(tokenizer, cells):
    with pytest.raises(ValueError, match="cells must be"):
        tokenizer.decode_cells(cells)


def test_cells_of_the_linear_start_are_as_wide_as_asked_on_every_axis():
    tokenizer = toy_image_tokenizer(alive=False, levels=(255, 201, 151))
    squares = rearrange(toy_pictures(), "N C (h p) (w q) -> (N h w) (C p q)", p=4, q=4)
    tokenizer.start_linear(toy_pictures(), step=0.3)
    for number, axis in enumerate(principal_axes(squares, 3).T):
        told = squares.mean(0) + 0.3 * torch.arange(-2, 3)[:, None] * axis  # the mean lies amid the middle cell
        cells = tokenizer.quantizer.cells(tokenizer.bounded(rearrange(told, "n (C p q) -> n C p q", p=4, q=4)))
        assert (cells[:, 0, 0, number].diff() == 1).all()
        assert (cells[:, 0, 0, [d for d in range(3) if d != number]].diff(dim=0) == 0).all()


def test_the_twelve_toy_pictures_have_codes_of_their_own():
    """The world of the pipelines' tests, after the linear start that it is used with."""
    tokenizer = toy_image_tokenizer(alive=False)
    tokenizer.start_linear(toy_pictures())
    assert len(tokenizer.encode(toy_pictures()).unique(dim=0)) == 12


def test_a_deeper_tokenizer_gives_the_same_bits_until_it_learns():
    tokenizer, pictures = toy_image_tokenizer(), toy_pictures()
    more = tuple(count + 1 for count in tokenizer.config.decoder_blocks)
    deeper = tokenizer.deeper(replace(tokenizer.config, decoder_blocks=more, storage_dtype="float16"))
    assert deeper.config.decoder_blocks == more and deeper.fingerprint != tokenizer.fingerprint
    assert torch.equal(deeper.encode(pictures), tokenizer.encode(pictures))
    assert torch.equal(deeper.decode(deeper.encode(pictures)), tokenizer.decode(tokenizer.encode(pictures)))
    for changed in ({"decoder_blocks": (0,) * len(more)}, {"levels": (5, 5)}):
        with pytest.raises(ValueError, match="can get more blocks and nothing else"):
            tokenizer.deeper(replace(tokenizer.config, **changed))
