"""Clips that FFmpeg decodes (by PyAV): mp4, mov, Matroska, WebM, avi, mpg, Ogg, GIF.

Of several video streams the first is taken, cover pictures aside. Lines of interlaced video stay as they are, and HDR
is not mapped to the tones of SDR.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from .clip import MAX_CLIP_PIXELS, TimedFrame, check_pixels
from .media import MediaError
from .packets import decode_packets

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av import Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

FORMATS = "mov,matroska,avi,mpeg,ogg,gif"  # FFmpeg's demuxers for these; none opens a second file
OPTIONS = {"max_pixels": str(MAX_CLIP_PIXELS)}  # FFmpeg refuses larger frames before it makes them
MAX_HOLD = Fraction(3600)  # seconds of one frame on the screen; more is a broken clock, to be filled with frames
_INDEXED = ("mov", "matroska", "avi")  # those that know where key frames lie; elsewhere a seek may land between them
_REORDERING = 1  # seconds: an index lists key frames by when they are decoded, which is a few frames early
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of these leave transparency out


class ContainerClip:
    """An open container as a `Clip`; whoever opened it closes it.

    Raises:
        MediaError: it holds no video that can be decoded.
    """

    def __init__(self, container: "InputContainer", name: str, keep_decodable: bool):
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            raise MediaError(name, "no video stream")
        if streams[0].codec_context is None:
            raise MediaError(name, "no decoder for its video")
        self.container, self.stream, self.name, self.keep_decodable = container, streams[0], name, keep_decodable
        check_pixels(self.stream.width, self.stream.height, name)
        self.fps = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.num_frames = self.stream.frames or None
        self.has_audio = bool(container.streams.audio)
        self.pixel_aspect = self.stream.sample_aspect_ratio or Fraction(1)
        self._base = self.stream.time_base or Fraction(1, 1000)
        self.rounding = self._base if self._base <= Fraction(1, 100) else Fraction(0)  # coarser is one tick a frame
        self._is_gif = container.format.name == "gif"
        self._origin: int | None = None  # when the first frame comes, which headers do not always say
        self._decoder = _decoder(self.stream)

    def seconds(self) -> Fraction:
        if self.stream.duration:
            return self.stream.duration * self._base
        if self.container.duration:
            return Fraction(self.container.duration, 1_000_000)
        packets = self.container.demux(self.stream)
        ends = [packet.pts + (packet.duration or 0) for packet in packets if packet.pts is not None]
        start = self.stream.start_time or 0
        return (max(ends, default=start) - start) * self._base

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[TimedFrame]:
        frames = self._in_order(start)
        if start > _REORDERING and self.container.format.name.startswith(_INDEXED):
            if next(frames, None) is None:  # it tells the origin
                return
            for goal in (start - _REORDERING, Fraction(0)):  # if the index is wrong, from the beginning
                self.container.seek((self._origin or 0) + int(goal / self._base), stream=self.stream)
                self._decoder.flush_buffers()
                frames = self._in_order(start)
                first = next(frames, None)
                if first is not None and first.time <= start:
                    yield first
                    break
        yield from frames

    def _in_order(self, start: Fraction) -> Iterator[TimedFrame]:
        last = None
        for frame in self._decoded():
            check_pixels(frame.width, frame.height, self.name)
            ticks = frame.dts if frame.pts is None else frame.pts
            if ticks is None:
                raise MediaError(self.name, "a frame without a time")
            if self._origin is None:
                self._origin = ticks
            time = (ticks - self._origin) * self._base
            if last is not None and time - last > MAX_HOLD:
                raise MediaError(self.name, f"{float(time - last):,.0f} s between two frames, {int(MAX_HOLD):,} may be")
            last = time
            if not frame.is_corrupt:
                yield TimedFrame(time, min(frame.duration * self._base, MAX_HOLD) or 1 / self.fps, frame)
            elif not self.keep_decodable and time >= start:  # before that, what a seek lacks to be whole
                raise MediaError(self.name, f"damaged at {float(time):.2f} s")

    def _decoded(self) -> Iterator["VideoFrame"]:
        return decode_packets(self.container.demux(self.stream), self._decode, self.name, self.keep_decodable)

    def _decode(self, packet: "Packet[VideoStream]") -> "list[VideoFrame] | None":
        if not packet.size and packet.dts is not None:
            return []  # avi's way to say "as before"; the decoder would take it for the end
        if self._is_gif and not _ends_as_gif(bytes(packet)):  # some decoders would show half a frame
            return None
        return self._decoder.decode(packet)


def _ends_as_gif(data: bytes) -> bool:
    """The pixels of a GIF end in 0; behind the last ones, or at the end of the file, stands its mark."""
    return not data or data.rstrip(b";").endswith(b"\0")


def _decoder(stream: "VideoStream") -> "VideoCodecContext":
    """The stream's decoder, or the one that sees its transparency."""
    from av import VideoCodecContext

    decoder = stream.codec_context
    other = _WITH_ALPHA.get(decoder.name)
    if other and stream.metadata.get("alpha_mode") == "1":
        decoder = cast(VideoCodecContext, VideoCodecContext.create(other, "r"))
        decoder.extradata = stream.codec_context.extradata
    decoder.options = OPTIONS
    decoder.thread_type = "NONE"  # frame threads can hang when decoding stops early (PyAV #1849)
    return decoder
