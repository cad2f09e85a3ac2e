"""Laws of tokenizers/mulaw.py: what comes back is within half a step, and any cut gives the same bits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.tokenizers.mulaw import MuLawConfig, MuLawTokenizer
from tokenloom.tokenizers.protocol import MediaTokenizer

each_size = pytest.mark.parametrize("levels", [2, 3, 16, 255, 256, 1024, 65_536])


def mulaw(levels: int = 256) -> MuLawTokenizer:
    return MuLawTokenizer(MuLawConfig(levels=levels))


def sweep(samples: int = 20_001) -> torch.Tensor:
    """Every loudness, evenly and down to silence: (1, 1, S)."""
    even = torch.linspace(-1, 1, samples)
    return torch.cat([even, even.sign() * 10 ** (-6 * even.abs())]).view(1, 1, -1)


@each_size
def test_the_error_is_within_the_bound_and_reaches_it(levels):
    tokenizer, sounds = mulaw(levels), sweep()
    error = (tokenizer.decode(tokenizer.encode(sounds)) - sounds).abs()
    bound = tokenizer.max_error(sounds)
    assert (error <= bound * (1 + 1e-5) + 1e-7).all()
    if levels <= 1024:
        assert (error / bound).max() > 0.95


def test_ids_are_those_of_the_paper():
    """Eq. 2 of sec. 2.2, then rounded to the nearest of 256 levels."""
    sounds = sweep().double()
    squeezed = sounds.sign() * torch.log(1 + 255 * sounds.abs()) / math.log(256)
    expected = ((squeezed + 1) / 2 * 255).round().long()
    ids = mulaw().encode(sounds.float())
    assert (ids - expected).abs().max() <= 1 and (ids != expected).float().mean() < 1e-3  # on the bounds, by rounding


@each_size
def test_every_id_comes_back_as_itself(levels):
    ids = torch.arange(levels).view(1, 1, -1)
    tokenizer = mulaw(levels)
    assert torch.equal(tokenizer.encode(tokenizer.decode(ids)), ids)
    assert tokenizer.decode(ids).min() == -1 and tokenizer.decode(ids).max() == 1


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 998), unique=True, max_size=9))
def test_any_cut_gives_the_same_bits(cuts):
    tokenizer = mulaw()
    sounds = torch.rand(2, 1, 999, generator=torch.Generator().manual_seed(1)) * 2 - 1
    edges = [0, *sorted(cuts), 999]
    ids, back = tokenizer.encode(sounds), tokenizer.decode(tokenizer.encode(sounds))
    for stream, whole, pushed in ((tokenizer.stream(), ids, sounds), (tokenizer.decode_stream(), back, ids)):
        pieces = [stream.push(pushed[:, :, begin:end]) for begin, end in zip(edges, edges[1:], strict=False)]
        assert torch.equal(torch.cat([*pieces, stream.finish()], dim=2), whole)
        with pytest.raises(ValueError, match="finished stream"):
            stream.push(pushed)


def test_it_is_a_tokenizer_of_media_and_its_fingerprint_tells_its_settings():
    tokenizer = mulaw()
    assert isinstance(tokenizer, MediaTokenizer)
    sounds = torch.zeros(1, 1, 77)
    ids = tokenizer.encode(sounds)
    assert ids.shape[1:] == tokenizer.grid((77,)) and tokenizer.decode(ids, size=(77,)).shape == sounds.shape
    others = [MuLawTokenizer(config) for config in (MuLawConfig(levels=255), MuLawConfig(sample_rate=8_000))]
    assert len({t.fingerprint for t in (tokenizer, mulaw(), *others)}) == 3


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: mulaw().encode(torch.full((1, 1, 3), 1.01)), "peak of 1.01"),
        (lambda: mulaw().encode(torch.zeros(1, 2, 3)), r"\(B, 1, S\)"),
        (lambda: mulaw().decode(torch.full((1, 1, 3), 256)), r"in \[0, 256\)"),
        (lambda: mulaw().decode(torch.zeros(1, 2, 3, dtype=torch.long)), r"\(B, 1, S\)"),
        (lambda: mulaw().decode(torch.zeros(1, 1, 3, dtype=torch.long), size=(4,)), "has a grid of"),
        (lambda: mulaw().stream().finish(), "at least one push"),
        (lambda: MuLawConfig(levels=1), "levels must be from 2"),
        (lambda: MuLawConfig(sample_rate=0), "at least 1 Hz"),
    ],
)
def test_what_it_cannot_do_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
