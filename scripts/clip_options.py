"""What the four commands that draw clips share: their options, and the run, given files or none."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import UsageError, open_device, refuse_to_lose
from tokenloom.scripts.option_types import out_path
from tokenloom.scripts.prompt_options import (
    add_best_of,
    add_fine_options,
    add_prompt_options,
    check_out,
    check_prompts,
    numbered,
    prompts_asked_for,
    sampler_options,
    write_drawings,
)

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("mp4", "gif", "png")
NUM_VIDEOS = "--num-videos"
OUT = """
One clip: --out is the file, and its ending says what it is: .mp4, .gif, or .png, which shows the frames side by side.
Several: --out is a folder with 00000.mp4, 00001.mp4, ... in the order of the prompts, and index.jsonl, a line per clip.
Clip k has the seed --seed + k, and a seed always gives the same bytes.
"""  # for the descriptions of the commands


def add_clip_options(parser: argparse.ArgumentParser) -> None:
    add_prompt_options(parser, "clip", NUM_VIDEOS)
    add_best_of(parser, "clip")
    add_fine_options(parser)
    parser.add_argument("--format", choices=FORMATS, help=f"of several clips; default: {FORMATS[0]}")
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="PATH", help="the clip, or the folder of several"
    )


def draw(arguments: argparse.Namespace, **given: Path) -> int:
    """Draw what is asked for; files by the names `image`, `last_image` or `video` hold frames that are kept."""
    prompts = prompts_asked_for(arguments, "clip")
    count = len(prompts) * arguments.copies
    if arguments.format and count == 1:
        raise UsageError("--format is for several clips; the ending of --out says it for one")
    refuse_to_lose(arguments.out, given.values())
    check_out(arguments.out, "clip", [f".{name}" for name in FORMATS], several=count > 1)

    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.draw_clips import draw_clips, read_given, write_clip
    from tokenloom.pipelines.text_to_video import TextToVideoPipeline

    pipeline = TextToVideoPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    frames = read_given(pipeline.pictures.image_size, **given)

    def write(file: Path, clip: "Tensor") -> None:
        write_clip(file, clip, frames.before)

    todo = numbered(prompts, arguments.copies, check_prompts(pipeline.pictures, prompts))
    progress = Progress("drawing", len(todo), unit=(1, "clips"))
    drawn = draw_clips(
        pipeline,
        todo,
        frames,
        decoder=arguments.decoder,
        seed=arguments.seed,
        progress=progress,
        **sampler_options(arguments),
    )
    suffix = f".{arguments.format or FORMATS[0]}"
    return write_drawings(drawn, count, arguments.out, "clip", suffix, write, progress)
