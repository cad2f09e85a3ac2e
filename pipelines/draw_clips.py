"""Prompts -> clips on disk: reading the frames that a clip must have, drawing, writing mp4, gif or strips of frames.

T frames, H W pixels. Clips that are read or written are uint8 (3, T, H, W).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.media import MediaError, fit, from_uint8, read_image, to_tensor, to_uint8, write_png
from ..data.progress import Progress
from ..data.video import read_video
from ..data.write_video import strip, write_video
from .draw_files import Drawing, drawings
from .text_to_video import FPS, OVERLAP, TextToVideoPipeline

MAX_SECONDS = 600  # of a clip that is continued: 59 MB at 64 x 64 pixels


@dataclass(frozen=True)
class GivenFrames:
    """What every clip must show."""

    frames: Mapping[str, Tensor]  # `image`, `last_image` or `video`, as `TextToVideoPipeline` takes them
    before: Tensor | None = None  # earlier frames of a clip that is continued, which the pipeline need not see


def read_given(size: tuple[int, int], **files: Path) -> GivenFrames:
    """Files by the names `image`, `last_image` or `video`, the middle of each scaled to `size` (H, W).

    Raises:
        MediaError: one of them cannot be read, or the clip is longer than `MAX_SECONDS`.
    """
    if "video" not in files:
        return GivenFrames({name: to_tensor(fit(read_image(file), size[0]))[None] for name, file in files.items()})
    clip = read_clip(files["video"], size)
    return GivenFrames({"video": from_uint8(clip[:, -OVERLAP:])[None]}, clip[:, :-OVERLAP])


def read_clip(file: Path, size: tuple[int, int]) -> Tensor:
    """What a clip shows at `FPS`, uint8 (3, T, H, W).

    Raises:
        MediaError: it cannot be read, or is longer than `MAX_SECONDS`.
    """
    blocks: list[Tensor] = []
    for block in read_video(file, fps=FPS, size=size):
        blocks.append(block)
        if sum(block.shape[1] for block in blocks) > MAX_SECONDS * FPS:
            raise MediaError(str(file), f"a clip to be continued may last {MAX_SECONDS} seconds; cut its end out first")
    return torch.cat(blocks, dim=1)


def draw_clips(
    pipeline: TextToVideoPipeline,
    prompts: Sequence[tuple[int, str]],
    given: GivenFrames,
    *,
    decoder: str,
    seed: int,
    progress: Progress,
    **settings: Any,
) -> Iterator[Drawing[Tensor]]:
    """Draw one clip per numbered prompt, all with the same given frames; clip k has the seed `seed` + k.

    `progress` counts clips, and parts of them; `settings` are fields of `SamplerSettings`.
    """
    options: dict[str, Any] = {**given.frames, **settings}

    def draw(texts: list[str], **how: Any) -> list[Tensor]:
        finished = progress.done

        def told(done: int, of: int) -> None:
            progress.advance(finished + len(texts) * done / of - progress.done)

        clips = pipeline(texts, callback=told, output_type="pt", **how, **options).frames
        return list(to_uint8(clips).cpu())

    return drawings(draw, prompts, decoder=decoder, seed=seed)


def write_clip(file: Path, clip: Tensor, before: Tensor | None = None) -> None:
    """Write `before` and then `clip`, by the suffix of `file`: .mp4 or .gif at `FPS`, or .png, a strip of the frames.

    A strip has as many frames a row as `clip`; a clip that was continued has more rows.
    """
    parts = [clip] if before is None else [before, clip]
    if file.suffix.lower() == ".png":
        write_png(file, strip(torch.cat(parts, dim=1), columns=clip.shape[1]))
    else:
        write_video(file, parts, FPS)
