"""Prompts -> PNG files: one, or a folder of numbered ones with an index; and the picture and mask to draw into."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..data.files import write_atomically
from ..data.media import MediaError, fit, read_image, to_tensor, write_png
from ..data.progress import Progress
from .text_to_image import BATCH, TextToImagePipeline, seeded

INDEX = "index.jsonl"


@dataclass(frozen=True)
class Drawing:
    number: int
    prompt: str
    seed: int
    decoder: str
    seconds: float  # its share of the time of its batch
    image: Image.Image


def drawings(
    pipeline: TextToImagePipeline, prompts: Sequence[tuple[int, str]], *, decoder: str, seed: int, **settings: Any
) -> Iterator[Drawing]:
    """Draw one picture per numbered prompt, in batches; picture k has the seed `seed` + k, whatever the batch.

    `settings` are those of `TextToImagePipeline.__call__`.
    """
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        generators = [seeded(seed + number, 1)[0] for number, _ in batch]
        began = time.perf_counter()
        texts = [prompt for _, prompt in batch]
        images = pipeline(texts, decoder=decoder, generator=generators, **settings).images
        seconds = (time.perf_counter() - began) / len(batch)
        for (number, prompt), image in zip(batch, images, strict=True):
            yield Drawing(number, prompt, seed + number, decoder, seconds, image)


def write_folder(folder: Path, drawn: Iterable[Drawing], progress: Progress) -> int:
    """Write 00000.png, 00001.png, ... by number as they come, and index.jsonl; returns how many there were.

    The index is written anew after every batch, so it always tells about pictures that are there.
    """
    lines: list[str] = []
    for drawing in drawn:
        name = f"{drawing.number:05}.png"
        write_png(folder / name, drawing.image)
        line = {
            "file": name,
            "prompt": drawing.prompt,
            "seed": drawing.seed,
            "decoder": drawing.decoder,
            "seconds": round(drawing.seconds, 4),
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        if len(lines) % BATCH == 0:
            write_atomically(folder / INDEX, "".join(lines).encode())
        progress.advance()
    write_atomically(folder / INDEX, "".join(lines).encode())
    return len(lines)


def read_inpainting(image: Path, mask: Path, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The picture (1, 3, H, W) in [-1, 1] and the mask (1, 1, H, W) in [0, 1], 1 where to draw anew, at `size` (H, W).

    With another size, both are cut to the largest centred square. Transparent parts of the mask count as white.

    Raises:
        MediaError: one of them cannot be read, or they differ in size.
    """
    picture, white = read_image(image), read_image(mask)
    if picture.size != white.size:
        raise MediaError(str(mask), f"a mask must be as large as its picture, {picture.size}, got {white.size}")
    if picture.size != size[::-1]:
        picture, white = fit(picture, size[0]), fit(white, size[0])
    return to_tensor(picture).unsqueeze(0), (to_tensor(white).mean(0, keepdim=True).unsqueeze(0) + 1) / 2
