"""Prompts -> files: one, or a folder of numbered ones with an index; and the picture and mask to draw into."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from ..data.files import json_line, write_atomically
from ..data.media import MediaError, fit, read_image, to_tensor
from .text_to_image import BATCH, seeded

INDEX = "index.jsonl"
Media = TypeVar("Media")  # a picture, a clip


@dataclass(frozen=True)
class Drawing(Generic[Media]):
    number: int
    prompt: str
    seed: int
    decoder: str
    seconds: float  # its share of the time of its batch
    media: Media


def drawings(
    draw: Callable[..., Sequence[Media]], prompts: Sequence[tuple[int, str]], *, decoder: str, seed: int
) -> Iterator[Drawing[Media]]:
    """Draw one picture or clip per numbered prompt, in batches; number k has the seed `seed` + k, whatever the batch.

    `draw` is given the prompts of a batch, and `decoder` and `generator`, one for each, by name.
    """
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        generators = [seeded(seed + number, 1)[0] for number, _ in batch]
        began = time.perf_counter()
        drawn = draw([prompt for _, prompt in batch], decoder=decoder, generator=generators)
        seconds = (time.perf_counter() - began) / len(batch)
        for (number, prompt), media in zip(batch, drawn, strict=True):
            yield Drawing(number, prompt, seed + number, decoder, seconds, media)


def write_folder(
    folder: Path, drawn: Iterable[Drawing[Media]], suffix: str, write: Callable[[Path, Media], None]
) -> int:
    """Write 00000.png, 00001.png, ... by number as they come, and index.jsonl; returns how many there were.

    `suffix` is that of the files, such as ".png". The index is written anew after every batch, so it always tells about
    files that are there.
    """
    lines: list[bytes] = []
    for drawing in drawn:
        name = f"{drawing.number:05}{suffix}"
        write(folder / name, drawing.media)
        line = {
            "file": name,
            "prompt": drawing.prompt,
            "seed": drawing.seed,
            "decoder": drawing.decoder,
            "seconds": round(drawing.seconds, 4),
        }
        lines.append(json_line(line))
        if len(lines) % BATCH == 0:
            write_atomically(folder / INDEX, b"".join(lines))
    if lines:  # else an index that is there speaks of files that are there
        write_atomically(folder / INDEX, b"".join(lines))
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
