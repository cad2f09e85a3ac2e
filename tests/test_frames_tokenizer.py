"""Laws of tokenizers/frames.py: each frame is the image tokenizer's, in order, whatever the stride and the cut."""

import pytest
import torch
from torch import Tensor

from tests.doubles import toy_image_tokenizer
from tokenloom.tokenizers.frames import FramesTokenizer
from tokenloom.tokenizers.protocol import MediaTokenizer

IMAGES = toy_image_tokenizer()


def clips(count: int, frames: int, height: int = 8, width: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_a_media_tokenizer():
    tokenizer = FramesTokenizer(IMAGES, 4)
    assert isinstance(tokenizer, MediaTokenizer)
    assert tokenizer.vocab_size == IMAGES.vocab_size == 12 and len(tokenizer.fingerprint) == 64


def test_without_a_stride_every_frame_is_a_picture():
    media, tokenizer = clips(2, 5), FramesTokenizer(IMAGES)
    ids = tokenizer.encode(media)
    assert ids.shape == (2, 5, 2, 3) == (2, *tokenizer.grid((5, 8, 12)))
    back = tokenizer.decode(ids)
    for frame in range(5):
        assert torch.equal(ids[:, frame], IMAGES.encode(media[:, :, frame]))
        assert torch.equal(back[:, :, frame], IMAGES.decode(ids[:, frame]))


def test_with_a_stride_the_middle_frame_stands_for_its_neighbours():
    media, tokenizer = clips(1, 8), FramesTokenizer(IMAGES, 4)
    ids = tokenizer.encode(media)
    assert torch.equal(ids, FramesTokenizer(IMAGES).encode(media[:, :, [2, 6]]))
    pictures = torch.stack([IMAGES.decode(ids[:, 0]), IMAGES.decode(ids[:, 1])], dim=2)
    assert torch.equal(tokenizer.decode(ids), pictures.repeat_interleave(4, dim=2))


@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 8, 8), (5, 7, 9), (12, 5, 3), (13, 16, 4)], ids=str)
def test_a_clip_of_any_size_and_length_comes_back_in_its_size(stride, size):
    media, tokenizer = clips(2, *size), FramesTokenizer(IMAGES, stride)
    ids = tokenizer.encode(media)
    assert ids.shape == (2, *tokenizer.grid(size)) == (2, -(-size[0] // stride), -(-size[1] // 4), -(-size[2] // 4))
    back = tokenizer.decode(ids, size)
    assert back.shape == media.shape and torch.equal(back, tokenizer.decode(ids)[:, :, : size[0], : size[1], : size[2]])


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_streams_give_what_the_whole_gives(stride, size):
    media, tokenizer = clips(1, 14), FramesTokenizer(IMAGES, stride)
    encoding, decoding = tokenizer.stream(), tokenizer.decode_stream()
    ids = torch.cat([*(encoding.push(piece) for piece in media.split(size, dim=2)), encoding.finish()], dim=1)
    assert torch.equal(ids, tokenizer.encode(media))
    frames = torch.cat([*(decoding.push(piece) for piece in ids.split(size, dim=1)), decoding.finish()], dim=2)
    assert torch.equal(frames, tokenizer.decode(ids))
    with pytest.raises(ValueError, match="a finished stream takes no more chunks"):
        encoding.push(media)


def test_a_push_without_a_whole_group_gives_no_ids():
    stream = FramesTokenizer(IMAGES, 4).stream()
    assert stream.push(clips(2, 3)).shape == (2, 0, 2, 3) and stream.push(clips(2, 1)).shape == (2, 1, 2, 3)


def test_the_fingerprint_knows_the_stride_and_the_image_tokenizer():
    others = [FramesTokenizer(IMAGES, 2), FramesTokenizer(toy_image_tokenizer(1), 4), FramesTokenizer(IMAGES, 4)]
    assert len({IMAGES.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert FramesTokenizer(toy_image_tokenizer(), 4).fingerprint == others[2].fingerprint


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="stride must be at least 1 frame, got 0"):
        FramesTokenizer(IMAGES, 0)
    with pytest.raises(ValueError, match=r"clips must be \(B, 3, T, H, W\)"):
        FramesTokenizer(IMAGES).encode(clips(1, 3)[0])
    with pytest.raises(ValueError, match=r"size \(5, 8, 8\) has a grid of \(2, 2, 2\), but the ids are \(1, 2, 2\)"):
        FramesTokenizer(IMAGES, 4).decode(torch.zeros(1, 1, 2, 2, dtype=torch.long), (5, 8, 8))
