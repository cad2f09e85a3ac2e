"""Laws of searching codes: never worse than the encoder's, better for pictures that it does not know, repeatable."""

import pytest
import torch

from tokenloom.tokenizers.code_search import search_codes
from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    config = ImageTokenizerConfig(stride=8, widths=(8, 12), encoder_blocks=(0, 1), decoder_blocks=(1, 1))
    tokenizer = ImageTokenizer(config)
    tokenizer.start_linear(torch.cat([pictures(seed, 32, 32) for seed in range(10, 20)]))
    return tokenizer.eval()


def pictures(seed: int, height: int = 20, width: int = 28):
    """Smooth, of a size that the stride does not divide."""
    coarse = torch.rand(3, 3, 5, 7, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def errors(tokenizer, images, ids):
    return (tokenizer.decode(ids, images.shape[2:]) - images).square().mean((1, 2, 3))


def test_no_picture_is_worse_than_by_the_encoder_and_the_mean_is_better(tokenizer):
    images = pictures(1)
    first, found = tokenizer.encode(images), search_codes(tokenizer, images, steps=30)
    assert found.shape == first.shape and found.dtype == torch.int64
    before, after = errors(tokenizer, images, first), errors(tokenizer, images, found)
    assert bool((after <= before + 1e-7).all()) and float(after.mean()) < 0.99 * float(before.mean())
    assert torch.equal(found, search_codes(tokenizer, images, steps=30))


def test_the_search_begins_at_the_codes_of_the_encoder(tokenizer):
    images = pictures(2)
    assert torch.equal(search_codes(tokenizer, images, steps=0), tokenizer.encode(images))


def test_weights_stay_as_they_are_and_get_no_gradients(tokenizer):
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    with torch.no_grad():  # callers do not care that it looks at gradients
        search_codes(tokenizer, pictures(3), steps=3)
    assert all(torch.equal(value, tokenizer.state_dict()[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in tokenizer.parameters())


def test_negative_steps_are_refused(tokenizer):
    with pytest.raises(ValueError, match="at least 0"):
        search_codes(tokenizer, pictures(0), steps=-1)
