"""Is a media file cut off? What it says about its own size, against the bytes that are there.

Decoders end a cut file quietly, as if it were complete. Boxes of mp4 and mov (ISO/IEC 14496-12), the segment of
Matroska and WebM (RFC 8794, RFC 9559), RIFF (avi, wav, webp) and AIFF state their sizes, and so do many mp3 files in a
frame of their own (Xing). A GIF ends with a mark, and Ogg with a whole page (RFC 3533), which browsers do not mark as
the last. MPEG says nothing; of FLAC the samples can be counted, which data/container_sound.py does.
"""

import os
from typing import BinaryIO

_MAX_BOXES = 100_000  # a file of nothing but empty boxes shall not keep us busy
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def why_cut_off(file: BinaryIO) -> str | None:
    """One line about what is missing at the end of a seekable file; None if nothing is, or nothing is known."""
    there = file.seek(0, os.SEEK_END)
    head = _read(file, 0, 12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        stated = _end_of_boxes(file, there)
    elif head.startswith(_EBML):
        stated = _end_of_segment(file)
    elif head.startswith(b"RIFF"):
        stated = _end_of_riff(file, there)
    elif head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        stated = 8 + int.from_bytes(head[4:8], "big")
    elif head.startswith(b"OggS"):
        return "cut off: its last page is not whole" if _page_is_cut(file, there) else None
    elif head.startswith(b"ID3") or head[:1] == b"\xff":
        stated = _end_of_mp3(file, head)
    elif head.startswith(b"GIF8"):
        last = _read(file, max(0, there - 64), 64).rstrip(b"\0")
        return None if last.endswith(b";") else "cut off: the mark at its end is missing"
    else:
        return None
    return f"cut off: {there:,} of {stated:,} bytes are there" if stated > there else None


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _end_of_boxes(file: BinaryIO, there: int) -> int:
    position = 0
    for _ in range(_MAX_BOXES):
        if position > there:  # which may be more than a file can be sought to
            break
        head = _read(file, position, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:  # a large one: 64 bits follow the name
            size = int.from_bytes(head[8:], "big")
        if len(head) < 8 or size < 8:  # the end, what is no box, or one that says "to the end"
            break
        position += size
    return position


def _end_of_segment(file: BinaryIO) -> int:
    position, size, unknown = _element(file, len(_EBML))
    position += size
    if unknown or _read(file, position, 4) != _SEGMENT:
        return 0
    position, size, unknown = _element(file, position + 4)
    return 0 if unknown else position + size  # live recordings leave it open


def _element(file: BinaryIO, position: int) -> tuple[int, int, bool]:
    """Where the content of an EBML element begins, its size, and whether that is left open."""
    data = _read(file, position, 8)
    length = 9 - data[0].bit_length() if data and data[0] else 8  # leading zeros tell how many bytes the number has
    bits = (1 << 7 * length) - 1
    size = int.from_bytes(data[:length], "big") & bits
    return position + length, size, size == bits


def _end_of_riff(file: BinaryIO, there: int) -> int:
    position = 0
    while position < there and (head := _read(file, position, 8)).startswith(b"RIFF"):  # a long avi has several
        if head[4:] == b"\xff" * 4:
            return 0  # written to a pipe: nobody knew
        position += 8 + int.from_bytes(head[4:], "little")
        position += position % 2
    return position - 1 if position == there + 1 else position  # the last byte of padding is often left out


def _page_is_cut(file: BinaryIO, there: int) -> bool:
    """Whether the last page of Ogg says that more bytes follow than do."""
    tail = _read(file, max(0, there - _OGG_PAGE), _OGG_PAGE)
    start = tail.rfind(b"OggS\0")
    page = tail[start:]
    if start < 0 or len(page) < 27:
        return start >= 0
    segments = page[27 : 27 + page[26]]  # their lengths
    return len(page) < 27 + page[26] + sum(segments)


def _end_of_mp3(file: BinaryIO, head: bytes) -> int:
    """What the first frame states in place of sound: tag "Xing" or "Info", flags, and by these frames and bytes."""
    start = 0
    if head.startswith(b"ID3"):  # its size is four times 7 bits
        start = 10 + sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
    frame = _read(file, start, 64)
    tag = max(frame.find(b"Xing", 0, 40), frame.find(b"Info", 0, 40))  # behind 4 bytes and side information of 9 to 32
    if frame[:1] != b"\xff" or tag < 0 or len(frame) < tag + 16:
        return 0
    flags = frame[tag + 7]
    if not flags & 2:
        return 0
    place = tag + 8 + 4 * (flags & 1)
    return start + int.from_bytes(frame[place : place + 4], "big")
