"""Texts and files in, their vectors out: one safetensors file, and an index beside it.

N rows, E the size of a vector. A broken file costs its own row alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..data.files import json_line, write_atomically
from ..data.media import MediaError
from .describe_files import Read, clip_of, picture_of
from .embed import EmbeddingPipeline
from .out_of_memory import LEAVE_OUT, skipped

READ: Mapping[str, Read] = {"image": picture_of, "video": clip_of}


@dataclass(frozen=True)
class Embedded:
    """A text or a file with its vector (E,), or with what is wrong with it."""

    modality: str
    name: str  # the text itself, or the path of the file
    vector: Tensor | None = None
    error: str = ""


def embed_texts(pipeline: EmbeddingPipeline, texts: Sequence[str]) -> list[Embedded]:
    """Raises ValueError as `EmbeddingPipeline.embed_text`."""
    vectors = pipeline.embed_text(texts).cpu()
    return [Embedded("text", text, vector) for text, vector in zip(texts, vectors, strict=True)]


def embed_files(pipeline: EmbeddingPipeline, files: Iterable[tuple[str, Path]]) -> Iterator[Embedded]:
    """The vector of each file, of which the modality is told, in their order."""
    for modality, file in files:
        try:
            if modality not in READ:
                raise MediaError(
                    str(file), f"no vectors are made of {modality} files, but of {' and '.join(READ)} ones"
                )
            media = READ[modality](file, pipeline.pictures)
            embed = pipeline.embed_clips if modality == "video" else pipeline.embed_pictures
            vector = embed(media)[0].cpu()
        except LEAVE_OUT as error:
            yield Embedded(modality, str(file), error=skipped(file, error))
            continue
        yield Embedded(modality, str(file), vector)


def save_vectors(path: Path, rows: Sequence[Embedded]) -> None:
    """`vectors` float32 (N, E) in safetensors at `path`, and a line of JSON for each row in `path` with .jsonl."""
    vectors = [row.vector for row in rows if row.vector is not None]
    lines = [{"modality": row.modality, ("text" if row.modality == "text" else "file"): row.name} for row in rows]
    index = b"".join(map(json_line, lines))
    write_atomically(path, save({"vectors": torch.stack(vectors).contiguous()}))
    write_atomically(path.with_suffix(".jsonl"), index)
