"""A model's own drawings that show what was asked, as captioned token shards to learn from.

The detector of a world judges them, and what it finds true is kept: as many of each kind, so that what is drawn seldom
counts as much as what is drawn always. Learning from them (ReST, arXiv:2308.08998) teaches `masked` and `diffusion`,
which draw many codes at once, more than pictures of the world do: there are fewer ways to draw what was asked, so codes
that are drawn apart fit together more often (as in translation, arXiv:1606.07947 and arXiv:1711.02281).

Nothing that is held out is asked for or kept, whatever the model drew where the prompt left it open.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..data.loader import seed_of
from ..data.shard_format import MANIFEST, ShardSpec
from ..data.shards import ShardWriter, Source, Tokens
from ..tokenizers.frames import FramesTokenizer
from .text_to_image import BATCH, TextToImagePipeline, seeded
from .text_to_video import FPS
from .worlds import CLIPS, Asked, World, as_arrays

STREAM = 7  # of random numbers: apart from those of training on the same seed
MOST_TRIES = 10  # drawings for each that is wanted, before a kind is left as it is


@dataclass(frozen=True)
class TrueDrawing:
    caption: str
    ids: Tensor  # int64 (h, w), of clips (T, h, w), on the CPU


def true_drawings(
    pipeline: TextToImagePipeline,
    decoder: str,
    world: World,
    *,
    per_kind: int,
    seed: int = 0,
    batch_size: int = BATCH,
    workers: int = 0,
    advance: Callable[[int], None] = lambda count: None,
    **settings: Any,
) -> Iterator[TrueDrawing]:
    """Draw fresh prompts of each kind until `per_kind` drawings of it are true, or ten times as many were tried.

    `workers` processes judge a batch while the next is drawn; which drawings come out does not depend on them.
    `advance` hears how many were kept; `settings` are fields of `SamplerSettings`.

    Raises:
        ValueError: `per_kind` is less than 1, or a setting is out of range.
    """
    if per_kind < 1:
        raise ValueError(f"at least 1 drawing of each kind must be wanted, got {per_kind}")
    kept, tried = dict.fromkeys(world.kinds, 0), dict.fromkeys(world.kinds, 0)
    judged: deque[tuple[list[Asked], Tensor, Iterator[bool]]] = deque()
    judge = partial(_is_true, world)
    with _crew(workers) as crew:
        for number in count():
            wanted = [k for k in world.kinds if kept[k] < per_kind and tried[k] < MOST_TRIES * per_kind]
            if wanted:
                each, fresh = max(1, batch_size // len(wanted)), seed_of(seed, number, STREAM)
                asked = [request for kind in wanted for request in world.prompts(kind, each, fresh, False)]
                texts, generators = [request.text for request in asked], seeded(fresh // 2, len(asked))
                drawn = world.draw(pipeline, texts, generators, decoder=decoder, batch_size=batch_size, **settings)
                arrays = as_arrays(drawn.pixels)
                verdicts = crew.map(judge, asked, arrays, chunksize=8) if crew else map(judge, asked, arrays)
                judged.append((asked, drawn.ids.cpu(), verdicts))
                for kind in wanted:
                    tried[kind] += each
            if len(judged) > (1 if wanted else 0):
                for request, ids, verdict in zip(*judged.popleft(), strict=True):
                    if verdict and kept[request.kind] < per_kind:
                        kept[request.kind] += 1
                        advance(1)
                        yield TrueDrawing(request.text, ids)
            elif not wanted:
                return


def _crew(workers: int) -> Any:
    # Started anew and not forked: the model may be on a device, which does not survive a fork.
    return ProcessPoolExecutor(workers, get_context("spawn")) if workers else nullcontext()


def _is_true(world: World, request: Asked, drawing: np.ndarray) -> bool:
    return world.check(request, drawing) and not world.shows_held_out(drawing)


def write_drawings(
    drawings: Sequence[TrueDrawing], out: Path, pipeline: TextToImagePipeline, world: World, *, model: str
) -> None:
    """Write token shards that `train` reads with `--data`, or of clips with `--clips`.

    `model` is the name by which its tokenizers are found again.

    Raises:
        ValueError: `out` holds token shards already.
    """
    height, width = pipeline.image_size
    media: dict[str, Any] = {"size": [height, width]}
    preprocessing: dict[str, Any] = {"background": None, "square": height, "filter": None}
    tokenizer: Any = pipeline.image_tokenizer
    if world is CLIPS:
        tokenizer = FramesTokenizer(tokenizer)
        media |= {"frames": pipeline.transformer.config.num_frames, "fps": float(FPS)}
        preprocessing["fps"] = float(FPS)
    texts = [np.array(pipeline.text_tokenizer.encode_bytes(drawn.caption.encode()), np.int64) for drawn in drawings]
    refuse_drawings(out)
    modality = "video" if world is CLIPS else "image"
    _write(out, "text", pipeline.text_tokenizer, {}, model, texts, {})  # first: without them nothing is learned from
    _write(out, modality, tokenizer, preprocessing, model, [drawn.ids.numpy() for drawn in drawings], media)


def refuse_drawings(out: Path) -> None:
    """
    Raises:
        ValueError: `out` holds token shards. Drawings have no names but numbers, so others would get their captions.
    """
    if held := sorted(out.glob(f"*/{MANIFEST}")):
        raise ValueError(f"{held[0].parent}: holds token shards already; remove it, or name another folder")


def _write(
    out: Path,
    modality: str,
    tokenizer: Any,
    preprocessing: dict[str, Any],
    name: str,
    rows: Sequence[np.ndarray],
    media: dict[str, Any],
) -> None:
    spec = ShardSpec(
        modality=modality,
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        preprocessing=preprocessing,
        tokenizer=name,
    )
    sums = [hashlib.sha256(row.astype("<i8").tobytes()).hexdigest() for row in rows]
    ids = dict(zip(sums, rows, strict=True))
    sources = [Source(f"{n:07d}", out, content, row.nbytes) for n, content, row in zip(count(), sums, rows)]
    ShardWriter(out / modality, spec).write(
        sources, lambda missing: (Tokens(ids[source.sha256], media) for source in missing)
    )
