"""Texts and files in, their vectors out: one safetensors file, and an index beside it.

N rows, E the size of a vector. A broken file costs its own row alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..data.files import json_line, write_atomically
from ..data.media import MediaError
from .describe_files import clip_of, picture_of
from .embed import EmbeddingPipeline
from .hear_files import beginning_of
from .out_of_memory import LEAVE_OUT, skipped
from .speech_model import SpeechModel


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


def readers(pipeline: EmbeddingPipeline) -> Mapping[str, Callable[[Path], Tensor]]:
    """Modality -> how a file of it becomes its vector (1, E), of those that the model knows."""
    model = pipeline.model
    if isinstance(model, SpeechModel):
        return {"audio": lambda file: pipeline.embed_sounds([beginning_of(file, model)])}
    return {
        "image": lambda file: pipeline.embed_pictures(picture_of(file, model)),
        "video": lambda file: pipeline.embed_clips(clip_of(file, model)),
    }


def embed_files(pipeline: EmbeddingPipeline, files: Iterable[tuple[str, Path]]) -> Iterator[Embedded]:
    """The vector of each file, of which the modality is told, in their order."""
    read = readers(pipeline)
    for modality, file in files:
        try:
            if modality not in read:
                raise MediaError(
                    str(file),
                    f"no vectors are made of {modality} files by this model, but of {' and '.join(read)} ones",
                )
            vector = read[modality](file)[0].cpu()
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
