"""Laws of tokens without training: patches lose nothing, pixels get the nearest color, palettes fit their pictures."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import needs_packs
from tokenloom.data.folders import open_examples
from tokenloom.data.media import fit, to_tensor
from tokenloom.tokenizers.palette import nearest
from tokenloom.tokenizers.patches import PaletteConfig, PaletteTokenizer, PatchTokenizer
from tokenloom.tokenizers.protocol import MediaTokenizer, fingerprint_of


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """8-bit pictures (B, 3, H, W) in [-1, 1]."""
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return pixels / 127.5 - 1


# ---- patches ----


@pytest.mark.parametrize("patch", [1, 4, 5, 16, 32])
@pytest.mark.parametrize("size", [(16, 32), (13, 18), (1, 1)])
def test_patches_come_back_exactly_whatever_the_size(patch, size):
    tokenizer, images = PatchTokenizer(patch), pictures(2, 3, *size)
    vectors = tokenizer.encode(images)
    assert vectors.shape == (2, *tokenizer.grid(size), tokenizer.width)
    assert torch.equal(tokenizer.decode(vectors, size), images)


def test_a_patch_holds_its_own_square_channel_by_channel():
    images = pictures(1, 3, 8, 12)
    vectors = PatchTokenizer(4).encode(images)
    assert torch.equal(vectors[0, 1, 2], images[0, :, 4:8, 8:12].flatten())


def test_padding_repeats_the_edge():
    images = pictures(1, 3, 3, 5)
    padded = PatchTokenizer(4).decode(PatchTokenizer(4).encode(images))
    assert padded.shape == (1, 3, 4, 8)
    assert torch.equal(padded[:, :, :3, 5:], images[:, :, :, 4:].expand(-1, -1, -1, 3))
    assert torch.equal(padded[:, :, 3], padded[:, :, 2])


def test_wrong_patches_are_named():
    with pytest.raises(ValueError, match="at least 1"):
        PatchTokenizer(0)
    with pytest.raises(ValueError, match=r"\(B, h, w, 48\)"):
        PatchTokenizer(4).decode(torch.zeros(1, 2, 2, 47))
    for size in [(4, 4), (9, 8), (8, 8, 1)]:
        with pytest.raises(ValueError, match="size"):
            PatchTokenizer(4).decode(torch.zeros(1, 2, 2, 48), size)


# ---- palettes ----


@pytest.mark.parametrize("tokenizer", [PaletteTokenizer.uniform(), PaletteTokenizer.learn(pictures(2, 3, 32, 32), 16)])
def test_pixels_get_the_nearest_color_and_ids_come_back(tokenizer):
    images = pictures(2, 3, 7, 9, seed=1)
    ids = tokenizer.encode(images)
    assert isinstance(tokenizer, MediaTokenizer)
    assert ids.shape == (2, *tokenizer.grid((7, 9))) and ids.dtype == torch.int64
    assert 0 <= int(ids.min()) <= int(ids.max()) < tokenizer.vocab_size
    decoded = tokenizer.decode(ids, (7, 9))
    assert torch.equal(tokenizer.encode(decoded), ids)
    every = tokenizer.decode(torch.arange(tokenizer.vocab_size)[None, None])[0, :, 0].T  # (V, 3)
    distances = (images.movedim(1, -1).unsqueeze(-2) - every).square().sum(-1)  # (B, H, W, V)
    torch.testing.assert_close((images - decoded).square().sum(1), distances.amin(-1))


def test_pictures_of_few_colors_lose_nothing():
    few = pictures(5, 3, 1, 1).expand(-1, -1, 4, 4)
    tokenizer = PaletteTokenizer.learn(few, num_colors=256)
    assert tokenizer.vocab_size == 5
    assert torch.equal(tokenizer.decode(tokenizer.encode(few)), few)


def test_a_learned_palette_is_closer_than_an_even_one_and_does_not_depend_on_order():
    ramp = torch.linspace(-1, 1, 64)
    images = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), -ramp.expand(64, 64) / 3])[None]
    learned, even = PaletteTokenizer.learn(images, 64), PaletteTokenizer.uniform((4, 4, 4))
    assert learned.vocab_size == even.vocab_size == 64
    errors = [(tokenizer.decode(tokenizer.encode(images)) - images).square().mean() for tokenizer in (learned, even)]
    assert errors[0] < errors[1] / 4
    halves = [images[0, :, :, 40:], images[0, :, :, :40]]
    assert PaletteTokenizer.learn(halves, 64).fingerprint == learned.fingerprint


def test_a_palette_is_the_same_after_saving_and_loading(tmp_path):
    before = PaletteTokenizer.learn(pictures(2, 3, 16, 16), num_colors=20)
    before.save_pretrained(tmp_path)
    after = PaletteTokenizer.from_pretrained(tmp_path)
    images = pictures(3, 3, 10, 10, seed=2)
    assert torch.equal(after.encode(images), before.encode(images))
    assert torch.equal(after.decode(after.encode(images)), before.decode(before.encode(images)))
    assert after.config == before.config and after.fingerprint == before.fingerprint
    assert set(load_file(tmp_path / "model.safetensors")) == {"colors"}


def test_of_equally_near_colors_the_first_is_taken():
    palette = torch.tensor([[0.0, 0, 2], [0, 2, 0], [0, 2, 0]])
    assert nearest(torch.tensor([[0.0, 1, 1], [0, 3, 0]]), palette).tolist() == [0, 1]


@needs_packs
def test_emoji_keep_their_look_with_256_colors(packs):
    examples = open_examples(packs / "images/emoji_fluent3d_train.tar")
    images = torch.stack([to_tensor(fit(examples[i].image, 32)) for i in range(0, 1000, 50)])
    tokenizer = PaletteTokenizer.learn(images, 256)
    error = (tokenizer.decode(tokenizer.encode(images)) - images).square().mean()
    assert 10 * torch.log10(4 / error) > 34  # PSNR in dB


def test_wrong_input_is_named():
    tokenizer = PaletteTokenizer.uniform((2, 2, 2))
    for images, message in [
        (torch.zeros(3, 8, 8), "batch axis"),
        (torch.zeros(1, 1, 8, 8), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "127.5"),
        (torch.full((1, 3, 8, 8), 255.0), "peak of 255"),
        (torch.full((1, 3, 8, 8), torch.nan), "peak of nan"),
    ]:
        for broken in (tokenizer, PatchTokenizer(4)):
            with pytest.raises(ValueError, match=message):
                broken.encode(images)
    for ids in (
        torch.tensor([[[8]]]),
        torch.tensor([[[-1]]]),
        torch.zeros(2, 2, dtype=torch.long),
        torch.zeros(1, 2, 2),
    ):
        with pytest.raises(ValueError, match="ids must"):
            tokenizer.decode(ids)
    with pytest.raises(ValueError, match="size"):
        tokenizer.decode(torch.zeros(1, 2, 2, dtype=torch.long), (1, 2))
    with pytest.raises(ValueError, match="uint8"):
        PaletteTokenizer.from_colors(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="at least one picture"):
        PaletteTokenizer.learn([])
    for build in (lambda: PaletteConfig(num_colors=0), lambda: PaletteTokenizer.uniform((999, 999, 999))):
        with pytest.raises(ValueError, match="65536"):
            build()


# ---- fingerprints ----


def test_a_fingerprint_sees_everything_that_decides_ids():
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}
    base = fingerprint_of("A", 1, {"x": 1, "y": (2, 3)}, tensors)
    assert len(base) == 64 and base == fingerprint_of("A", 1, {"y": [2, 3], "x": 1}, dict(reversed(tensors.items())))
    others = [
        fingerprint_of("B", 1, {"x": 1, "y": (2, 3)}, tensors),
        fingerprint_of("A", 2, {"x": 1, "y": (2, 3)}, tensors),
        fingerprint_of("A", 1, {"x": 1, "y": (2, 4)}, tensors),
        fingerprint_of("A", 1, {"x": 1, "y": (2, 3)}, tensors | {"b": torch.tensor(2)}),
        fingerprint_of("A", 1, {"x": 1, "y": (2, 3)}, {"a": tensors["a"].view(3, 2), "b": tensors["b"]}),
        fingerprint_of("A", 1, {"x": 1, "y": (2, 3)}, {"a": tensors["a"].double(), "b": tensors["b"]}),
        fingerprint_of("A", 1, {"x": 1, "y": (2, 3)}, {"c": tensors["a"], "b": tensors["b"]}),
    ]
    assert len({base, *others}) == 8


def test_a_fingerprint_is_that_of_the_weights_as_shipped():
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    loaded = weight.half().float()
    half = [fingerprint_of("A", 1, {}, {"w": w}, torch.float16) for w in (weight, loaded, loaded.half())]
    assert len(set(half)) == 1
    assert fingerprint_of("A", 1, {}, {"w": weight}) != fingerprint_of("A", 1, {}, {"w": loaded})
    assert fingerprint_of("A", 1, {}, {"w": weight.T}) == fingerprint_of("A", 1, {}, {"w": weight.T.contiguous()})
