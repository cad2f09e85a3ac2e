"""Laws of data/cut_off.py: what is missing at the end of a file is seen, and a whole file is left alone."""

import io
from fractions import Fraction

import pytest

from tests.conftest import needs_packs
from tests.test_video import animation, encoded, gray
from tokenloom.data.cut_off import why_cut_off

KINDS = ("mp4", "mov", "matroska", "webm", "avi", "gif", "webp")


def sample(kind: str) -> bytes:
    if kind in ("gif", "webp"):
        return animation(kind.upper(), [100] * 4)
    codec, pixels = {"webm": ("libvpx-vp9", "yuv420p")}.get(kind, ("mpeg4", "yuv420p"))
    base = Fraction(1, 1000) if kind in ("matroska", "webm") else Fraction(1, 10)
    return encoded([gray(20 + 9 * n) for n in range(9)], codec=codec, pixels=pixels, container=kind, base=base)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_is_seen_wherever_it_is_and_a_whole_file_is_left_alone(kind):
    whole = sample(kind)
    assert why_cut_off(io.BytesIO(whole)) is None
    for length in (len(whole) - 9, len(whole) * 9 // 10, len(whole) // 2, len(whole) // 3):
        reason = why_cut_off(io.BytesIO(whole[:length]))
        if kind == "gif":
            assert reason is None or "mark" in reason  # a byte of a picture may look like the mark
        else:
            assert reason is not None and f"{length:,} of " in reason


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webp"])
def test_bytes_after_the_end_are_nobodys_business(kind):
    assert why_cut_off(io.BytesIO(sample(kind) + bytes(40))) is None


def test_what_states_no_size_is_left_alone():
    live = b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(50)  # a segment of unknown size
    for data in (b"", b"RI", b"hello", bytes(5000), b"\0\0\1\xba" * 99, b"OggS" * 9, live, b"\x1a\x45\xdf\xa3"):
        assert why_cut_off(io.BytesIO(data)) is None


def test_a_large_box_states_its_size_in_64_bits():
    head = b"\0\0\0\x08ftyp" + b"\0\0\0\x01mdat" + (10**12).to_bytes(8, "big")
    assert "of 1,000,000,000,008 bytes" in str(why_cut_off(io.BytesIO(head + bytes(99))))


@needs_packs
def test_no_clip_of_the_packs_is_taken_for_cut_off(packs):
    for path in [*(packs / "reallife" / "video").iterdir(), *(packs / "reallife" / "image").glob("animated*")]:
        data = path.read_bytes()
        assert why_cut_off(io.BytesIO(data)) is None, path.name
        if path.suffix not in (".mpg", ".gif"):
            assert why_cut_off(io.BytesIO(data[: len(data) * 97 // 100])), path.name


def test_sizes_that_lie_behind_the_end_are_left_alone():
    assert why_cut_off(io.BytesIO(b"\xff\xfb\x90\x00" + bytes(32) + b"Xing")) is None
    beyond = b"\0\0\0\x08ftyp" + b"\0\0\0\x01mdat" + (2**64 - 1).to_bytes(8, "big") + bytes(99)
    assert "cut off" in str(why_cut_off(io.BytesIO(beyond)))
