"""Files of pictures or clips in, captions out, one after the other; a broken file costs its own caption alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.media import MediaError, fit, from_uint8, read_image, to_tensor
from ..data.video import read_video
from .media_to_text import MediaToTextPipeline
from .out_of_memory import LEAVE_OUT, skipped
from .text_to_image import TextToImagePipeline
from .text_to_video import FPS

Read = Callable[[Path, TextToImagePipeline], Tensor]  # -> (1, 3, H, W) or (1, 3, T, H, W), as the model takes it


@dataclass(frozen=True)
class Described:
    """A file with its caption, or with what is wrong with it."""

    file: Path
    text: str = ""  # the caption
    error: str = ""


def picture_of(file: Path, pipeline: TextToImagePipeline) -> Tensor:
    """The middle square of a picture, in the size that the model knows."""
    return to_tensor(fit(read_image(file), pipeline.image_size[0]))[None]


def clip_of(file: Path, pipeline: TextToImagePipeline) -> Tensor:
    """The beginning of a clip, as many frames as the model knows, at its rate; a longer clip is cut there."""
    wanted = pipeline.transformer.config.num_frames
    blocks: list[Tensor] = []
    for block in read_video(file, fps=FPS, size=pipeline.image_size, stop=wanted / FPS):
        blocks.append(block)
    if not blocks:
        raise MediaError(str(file), "the clip has no frame")
    return from_uint8(torch.cat(blocks, dim=1)[:, :wanted])[None]


def describe(
    pipeline: MediaToTextPipeline, files: Iterable[Path], read: Read, *, seed: int = 0, temperature: float = 0.0
) -> Iterator[Described]:
    """The caption of each file, in their order; number k has the seed `seed` + k."""
    for number, file in enumerate(files):
        generator = torch.Generator().manual_seed(seed + number)
        try:
            media = read(file, pipeline.pictures)
            text = pipeline(media, generator=[generator], temperature=temperature)[0]
        except LEAVE_OUT as error:
            yield Described(file, error=skipped(file, error))
            continue
        yield Described(file, text)
