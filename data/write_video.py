"""Clips out: H.264 mp4, gif, or one picture that shows the frames side by side.

T frames, H W pixels. A clip is (3, T, H, W), uint8 in [0, 255] or float in [-1, 1]; a video of any length is an
iterable of such blocks, and is written in flat memory.
"""

import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from .files import appears_whole
from .media import from_uint8, image_grid, to_uint8

H264 = {
    "crf": "14",  # x264's scale of quality: 0 is lossless, 18 is taken for hard to tell from the original
    "x264-params": "mbtree=0",  # it reads memory that nobody wrote where frames are tiny, and the bytes would vary
}
MAX_GIF_FPS = 50  # browsers slow down what is faster


def write_video(path: str | os.PathLike, frames: Tensor | Iterable[Tensor], fps: float | Fraction) -> None:
    """Write a clip, or blocks of one, as .mp4 (H.264) or .gif, by its suffix; the name appears when all is written.

    Mp4 stores colors at half the resolution and even sizes only: an odd side is made one pixel longer by repeating the
    last row or column. A gif has 255 colors a frame, and times in hundredths of a second. Same frames, same bytes.

    Raises:
        ValueError: another suffix or rate, no frame, or blocks that are no clips of one size.
    """
    path = Path(path)
    encoders = {".mp4": _encode_mp4, ".gif": _encode_gif}
    encode = encoders.get(path.suffix.lower())
    if encode is None:
        raise ValueError(f"a clip is written as {' or '.join(encoders)}, got {path.name!r}; change its suffix")
    rate = Fraction(fps if math.isfinite(fps) else 0).limit_denominator(1_000_000)
    if rate <= 0 or (encode is _encode_gif and rate > MAX_GIF_FPS):
        raise ValueError(f"fps must be more than 0, and for gif at most {MAX_GIF_FPS}, got {fps}")
    pictures = _pictures([frames] if isinstance(frames, Tensor) else frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path.name}: a clip needs at least one frame")
    with appears_whole(path) as unfinished:
        encode(unfinished, chain([first], pictures), first.shape[:2], rate)


def strip(clip: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """A clip (3, T, H, W) as one picture: its frames in reading order, `columns` a row; None puts all in one row."""
    _check(clip, tuple(clip.shape[2:]))
    frames = rearrange(clip, "C T H W -> T C H W")
    return image_grid(from_uint8(frames) if clip.dtype == torch.uint8 else frames, columns or len(frames), gap)


def _pictures(blocks: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3), all of one size."""
    size: tuple[int, ...] | None = None
    for block in blocks:
        size = size or tuple(block.shape[2:])
        _check(block, size)
        stored = block if block.dtype == torch.uint8 else to_uint8(block)
        yield from rearrange(stored, "C T H W -> T H W C").cpu().contiguous().numpy()


def _check(block: Tensor, size: tuple[int, ...]) -> None:
    ranges = block.dtype == torch.uint8 or block.is_floating_point()
    if block.ndim != 4 or len(block) != 3 or not ranges or tuple(block.shape[2:]) != size or 0 in size:
        raise ValueError(
            f"a clip must be (3, T, H, W), uint8 or float, and all its blocks of one size, "
            f"got {tuple(block.shape)} of {block.dtype}" + (f" after {size}" if len(size) == 2 else "")
        )


def _encode_mp4(path: Path, pictures: Iterator[np.ndarray], size: tuple[int, int], rate: Fraction) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

    height, width = (side + side % 2 for side in size)
    scaler = VideoReformatter()
    with av.open(str(path.absolute()), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=rate, options=H264)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # the bytes depend on it
        stream.color_range, stream.colorspace = ColorRange.MPEG, Colorspace.ITU709  # told, so that nobody has to guess
        for number, picture in enumerate(pictures):
            even = np.pad(picture, ((0, height - size[0]), (0, width - size[1]), (0, 0)), mode="edge")
            frame = scaler.reformat(
                av.VideoFrame.from_ndarray(even, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
                threads=1,
            )
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _encode_gif(path: Path, pictures: Iterator[np.ndarray], size: tuple[int, int], rate: Fraction) -> None:
    import av

    height, width = size
    graph = av.filter.Graph()  # each frame with the colors that suit it best
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    split, use = graph.add("split"), graph.add("paletteuse", "new=1")
    palette, sink = graph.add("palettegen", "stats_mode=single"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()

    def colored() -> Iterator[av.VideoFrame]:
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            graph.vpush(frame)
            yield from pulled()
        graph.vpush(None)
        yield from pulled()

    def pulled() -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return

    with av.open(str(path.absolute()), "w", format="gif") as out:
        stream = out.add_stream("gif", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        for frame in colored():
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
