"""Packets of a stream, one after the other -> what they decode to; damage is met on the way."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .media import MediaError

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av import Packet

Frame = TypeVar("Frame")


def decode_packets(
    packets: "Iterator[Packet[Any]]",
    decode: "Callable[[Packet[Any]], Sequence[Frame] | None]",
    name: str,
    keep_decodable: bool,
    *,
    heed_flags: bool = True,
) -> Iterator[Frame]:
    """The frames of all packets; `decode` gives those of one, often none, or None where it is damaged. Packets that
    FFmpeg flags as corrupt are not tried, unless `heed_flags` is false.

    Raises:
        MediaError: a packet is damaged, and not `keep_decodable`: then it is passed over.
    """
    import av

    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = None if heed_flags and packet.is_corrupt else decode(packet)
        except (av.InvalidDataError, av.EOFError):
            frames = None
        if frames is not None:
            yield from frames
        elif not keep_decodable:
            raise MediaError(name, "damaged: a part of it cannot be decoded")
