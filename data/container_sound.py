"""Sound that FFmpeg decodes (by PyAV): wav, aiff, flac, mp3, Ogg, Opus, m4a, and the sound tracks of video.

C channels, S samples. Of several sound streams the first is taken. Its samples lie end to end from the first one on;
the times that packets state are not looked at, since many containers round them to milliseconds.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from .media import MediaError
from .packets import decode_packets
from .resample import MAX_RATE, MIN_RATE

if TYPE_CHECKING:  # PyAV is imported where it is used
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

FORMATS = "wav,w64,aiff,caf,au,flac,mp3,aac,ogg,mov,matroska,avi,mpeg"  # FFmpeg's demuxers; none opens a second file
MAX_CHANNELS = 8
_EXACT = ("wav", "w64", "aiff", "caf", "au", "flac")  # where the header counts the samples
_SCALES = {torch.uint8: 2.0**7, torch.int16: 2.0**15, torch.int32: 2.0**31, torch.int64: 2.0**63}


class ContainerSound:
    """The sound of an open container, which is read once; whoever opened it closes it.

    Raises:
        MediaError: it holds no sound that can be decoded, or none of a rate and channels that are taken.
    """

    def __init__(self, container: "InputContainer", name: str, keep_decodable: bool):
        if not container.streams.audio:
            raise MediaError(name, "no sound in it")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise MediaError(name, "no decoder for its sound")
        self.container, self.stream, self.name, self.keep_decodable = container, stream, name, keep_decodable
        self.codec: str = stream.codec_context.name
        self.sample_rate: int = stream.codec_context.sample_rate  # Hz
        self.channels: int = stream.codec_context.channels
        if not MIN_RATE <= self.sample_rate <= MAX_RATE or not 1 <= self.channels <= MAX_CHANNELS:
            raise MediaError(
                name,
                f"{self.channels} channels at {self.sample_rate:,} Hz; 1 to {MAX_CHANNELS} at {MIN_RATE:,} to "
                f"{MAX_RATE:,} Hz are taken",
            )
        self.seconds = _seconds(container, stream)  # as the header says; None where it is silent
        covers = [video.disposition & video.disposition.attached_pic for video in container.streams.video]
        self.has_video = not all(covers)  # but for cover pictures
        self._exact = container.format.name in _EXACT
        self._plain = self._exact and self.codec.startswith("pcm_")  # nothing in it can be damaged, only missing
        self._seeks = self._plain or (self._exact and self.codec == "flac")  # a seek finds the very sample
        if self.codec == "flac":
            stream.codec_context.options = {"err_detect": "crccheck+explode"}  # each frame states its sum
        stream.codec_context.thread_type = "NONE"  # as for video (PyAV #1849)

    def chunks(self, start: int = 0) -> Iterator[Tensor]:
        """The samples from number `start` on, as they are decoded: float32 (C, S), full scale is 1.

        Floats in the file may be louder than 1.

        Raises:
            MediaError: the sound is damaged, cut off, changes its rate or channels, or holds what is no number.
        """
        position = None if start and self._seeks and self._seek(start) else 0
        packets = self.container.demux(self.stream)
        heed_flags = not self._plain  # FFmpeg flags a last packet that is short, and what is missing is counted below
        for frame in decode_packets(packets, self._decode, self.name, self.keep_decodable, heed_flags=heed_flags):
            if position is None:
                position = self._position(frame)
            chunk = self._samples(frame)
            position += chunk.shape[1]
            if position > start:
                yield chunk[:, max(0, start - position + chunk.shape[1]) :]
        if self._exact and self.seconds and not self.keep_decodable and position is not None:
            stated = round(self.seconds * self.sample_rate)
            if position < stated:
                raise MediaError(self.name, f"cut off: {position:,} of {stated:,} samples are there")

    def _decode(self, packet: "Packet[AudioStream]") -> "list[AudioFrame]":
        return self.stream.codec_context.decode(packet)

    def _seek(self, start: int) -> bool:
        """To the sample `start` or one before it; False where it lies behind the end."""
        base = self.stream.time_base
        if base is None or self.seconds is None or start >= self.seconds * self.sample_rate:
            return False
        self.container.seek((self.stream.start_time or 0) + int(start / self.sample_rate / base), stream=self.stream)
        return True

    def _position(self, frame: "AudioFrame") -> int:
        if frame.pts is None or frame.time_base is None:
            raise MediaError(self.name, "a part of it without a time")
        return round((frame.pts - (self.stream.start_time or 0)) * frame.time_base * self.sample_rate)

    def _samples(self, frame: "AudioFrame") -> Tensor:
        if frame.sample_rate != self.sample_rate or frame.layout.nb_channels != self.channels:
            raise MediaError(
                self.name,
                f"changes to {frame.layout.nb_channels} channels at {frame.sample_rate:,} Hz on its way; split it",
            )
        samples = torch.from_numpy(frame.to_ndarray())
        if not frame.format.is_planar:
            samples = rearrange(samples, "1 (S C) -> C S", C=self.channels)
        scale = _SCALES.get(samples.dtype)
        if scale is None:
            samples = samples.float()
            if not torch.isfinite(samples).all():
                raise MediaError(self.name, "holds samples that are no numbers")
            return samples
        return (samples.float() - (scale if samples.dtype == torch.uint8 else 0.0)) / scale


def _seconds(container: "InputContainer", stream: "AudioStream") -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None
