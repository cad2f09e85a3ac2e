"""Laws of tokenizers/ans.py: what was put comes back, at its entropy, and damage is seen."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.tokenizers.ans import LOWEST, PRECISION, Decoder, Encoder

TOTAL = 1 << PRECISION
some_symbols = st.lists(
    st.integers(0, TOTAL - 1).flatmap(lambda start: st.tuples(st.just(start), st.integers(1, TOTAL - start)))
)


def coded(symbols: list[tuple[int, int]]) -> bytes:
    encoder = Encoder()
    for start, size in reversed(symbols):
        encoder.put(start, size)
    return encoder.finish()


def slots(data: bytes, symbols: list[tuple[int, int]]) -> list[int]:
    """Where the decoder points before it takes each of the symbols."""
    decoder, found = Decoder(data), []
    for start, size in symbols:
        found.append(decoder.slot())
        decoder.take(start, size)
    decoder.finish()
    return found


@settings(max_examples=200, deadline=None)
@given(some_symbols)
def test_every_symbol_comes_back_in_its_order(symbols):
    found = slots(coded(symbols), symbols)
    assert all(start <= slot < start + size for slot, (start, size) in zip(found, symbols, strict=True))


@settings(max_examples=50, deadline=None)
@given(some_symbols)
def test_symbols_take_their_entropy_and_little_more(symbols):
    bits = sum(PRECISION - math.log2(size) for _, size in symbols)
    assert bits / 8 - 1e-6 <= len(coded(symbols)) <= bits / 8 * 1.001 + 12


def test_by_hand():
    """Half of the slots say 1 bit: 32 of them are the word that the number began with, and one word more."""
    half = TOTAL // 2
    assert coded([]) == (1).to_bytes(4, "little") + bytes(4)
    data = coded([(half, half)] * 31)
    assert len(data) == 8
    assert int.from_bytes(data[:4], "little") << 32 | int.from_bytes(data[4:], "little") > LOWEST
    assert len(coded([(half, half)] * 32)) == 12


def test_data_that_ends_too_early_or_too_late_is_refused():
    symbols = [(7, 900)] * 50
    data = coded(symbols)
    for end in range(len(data)):
        with pytest.raises(ValueError, match="cut off|damaged"):
            slots(data[:end], symbols)
    with pytest.raises(ValueError, match="end where the data ends"):
        slots(data + bytes(4), symbols)
    with pytest.raises(ValueError, match="in words of 4, got 9"):
        Decoder(bytes(9))
