"""How fast and in how much memory clips become tokens: reading alone, the tokenizer alone, and all of it together.

Reading, the tokenizer and writing overlap, so together they should take hardly longer than the slower alone. The clip
is drawn here, and speed does not depend on weights. One worker: a thread that reads and one that computes.
"""

import subprocess
import sys
import tempfile
from collections.abc import Generator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokenloom.scripts.side_by_side import side_by_side, spread

if TYPE_CHECKING:
    from tokenloom.pipelines.media_encoders import StreamingTokenizer

FRAMES, HEIGHT, WIDTH, FPS = 240, 360, 640, 24  # of the file whose speed is taken
SIZE = 128  # pixels of the squares that are tokenized
STREAM_FPS, STREAM_SIZE = 8, 64  # of the streams whose memory is taken
SHORT, LONG = 10, 3600  # seconds of them
PEAK = """
import resource, sys
from tokenloom.scripts.benchmark_video import tokenize_stream
tokenize_stream(int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
"""


def drawn(frames: int, height: int, width: int, block: int = 16) -> Generator[Tensor, None, None]:
    """Waves that move, uint8 (3, T, H, W), `block` frames at a time."""
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 16, width), indexing="ij")
    for start in range(0, frames, block):
        t = torch.arange(start, min(start + block, frames)).view(-1, 1, 1) / 12
        waves = [torch.sin(x + t) * torch.cos(y - t), torch.sin(y + 2 * t + x / 3), torch.cos(x - y + t)]
        yield ((torch.stack(waves) + 1) * 127).byte()


def tokenizer() -> "StreamingTokenizer":
    from tokenloom.pipelines.open_tokenizer import KINDS, open_video_tokenizer
    from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

    try:
        return open_video_tokenizer(KINDS["video"].default)
    except ValueError:  # it does not ship here
        return VideoTokenizer(VideoTokenizerConfig())


def speed(rounds: int, target: float) -> str:
    """Seconds of footage per second, and how near all of it together comes to the slower part."""
    from tokenloom.data.video import read_video
    from tokenloom.data.write_video import write_video
    from tokenloom.pipelines.media_encoders import BLOCK, encode_clip
    from tokenloom.pipelines.tokenize_files import tokenize_videos

    model, numbers = tokenizer(), count()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as every worker
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_video(path, drawn(FRAMES, HEIGHT, WIDTH), FPS)
            blocks = list(read_video(path, size=SIZE, block=BLOCK))
            seconds = side_by_side(
                {
                    "reading alone": lambda: sum(block.shape[1] for block in read_video(path, size=SIZE, block=BLOCK)),
                    "tokenizer alone": lambda: encode_clip(blocks, model),
                    "tokenize-video": lambda: tokenize_videos(
                        {"clip.mp4": path}, Path(folder) / str(next(numbers)), model, size=SIZE, show_progress=False
                    ),
                },
                rounds,
            )
    finally:
        torch.set_num_threads(threads)
    lines = [f"tokenize-video, {WIDTH} x {HEIGHT} at {FPS} fps to squares of {SIZE}, one worker"]
    lines += [
        f"  {name:34}{spread([FRAMES / FPS / value for value in values]):>32} s of footage per second"
        for name, values in seconds.items()
    ]
    parts = zip(*seconds.values(), strict=True)
    shares = spread([max(reading, computing) / together for reading, computing, together in parts])
    return "\n".join([*lines, f"  together as fast as the slower alone: {shares}; the target is {target:g}"])


def memory(target: float) -> str:
    """Peak memory of whole processes that tokenize a short and a long stream."""
    short, long = peak_mib(SHORT), peak_mib(LONG)
    return (
        f"  peak memory of {SHORT} s of frames {short:.0f} MiB, of {LONG / 60:.0f} min {long:.0f} MiB: "
        f"{long / short:.3f} times; the target is at most {target:g}"
    )


def peak_mib(seconds: int) -> float:
    command = [sys.executable, "-c", PEAK, str(seconds)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


def tokenize_stream(seconds: int) -> tuple[int, ...]:
    """Tokenize that much of an endless clip as a worker does; the shape of its ids."""
    from tokenloom.data.run_ahead import run_ahead
    from tokenloom.pipelines.media_encoders import encode_clip

    torch.set_num_threads(1)
    frames = drawn(seconds * STREAM_FPS, STREAM_SIZE, STREAM_SIZE)
    return encode_clip(run_ahead(frames), tokenizer())[0].shape
