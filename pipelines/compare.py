"""The same prompts by each decoder, at the same guidance and from the same seeds: what they draw, and what it costs.

Of every prompt and decoder: seconds and model evaluations of a drawing (a guided step counts two), floating point
operations counted on a real run (torch's FlopCounterMode: products, convolutions, attention), whether the drawing
shows what was asked (the detector's verdict, where the prompt is a caption of the built-in world), how well the model
itself reads the prompt from it, how much drawings of different seeds differ, and how much clips flicker. Everything but
the seconds is the same in every run.

N drawings: pictures (N, 3, H, W) or clips (N, 3, T, H, W), float in [-1, 1].
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.clip_render import NUM_FRAMES
from ..data.files import write_atomically, write_json
from ..data.media import write_png
from ..data.scene_detector import SMALLEST
from ..data.write_video import strip, write_video
from .best_of import likelihoods
from .report import report_html
from .sampler_settings import USED_BY, settings_of
from .text_to_image import TextToImagePipeline, seeded
from .text_to_video import FPS
from .worlds import SCENES, World, as_arrays

STRIP_COLUMNS = 9  # two rows of 17 frames


@dataclass(frozen=True)
class Comparison:
    report: dict[str, Any]  # what report.json holds
    drawings: dict[str, Tensor]  # file name -> picture (3, H, W) or clip (3, T, H, W), in [-1, 1]


def diversity(drawings: Tensor) -> float | None:
    """Mean distance of two drawings; None of a single one.

    The distance is the root of the mean squared difference of their pixels, as fractions of full scale: 0 for equal
    drawings, 1 for black and white.
    """
    pairs = list(combinations(drawings, 2))
    distances = [float((one - other).square().mean().sqrt()) / 2 for one, other in pairs]
    return sum(distances) / len(distances) if distances else None


def flicker(clips: Tensor) -> float:
    """Mean over pixels and inner frames of |x(t) - median(x(t - 1), x(t), x(t + 1))|, as fractions of full scale.

    The residual of a median of three, which film restoration knows as the spike detection index: what leaves its value
    in one frame and is back in the next counts in full; what stands still or changes one way, as most of a motion does,
    counts nothing. Differences of neighbouring frames would take motion for flicker. Clips of the built-in world have
    at most 0.0005 in the mean of a motion, and 0.006 where an object circles another and is out of its place at once.

    Raises:
        ValueError: there are fewer than three frames.
    """
    if clips.shape[2] < 3:
        raise ValueError(f"flicker needs clips of at least 3 frames, got {clips.shape[2]}; draw longer ones")
    around = clips.unfold(2, 3, 1)  # (N, 3, T - 2, H, W, 3)
    return float((around[..., 1] - around.median(-1).values).abs().mean()) / 2


def verdicts(prompt: str, drawings: Tensor, world: World = SCENES) -> list[bool] | None:
    """Whether each of the drawings shows what was asked; None if the detector cannot tell."""
    request, (*frames, height, width) = world.parse(prompt), drawings.shape[2:]
    if request is None or height != width or width < SMALLEST or frames not in ([], [NUM_FRAMES]):
        return None
    return [world.check(request, drawing) for drawing in as_arrays(drawings)]


def alignment(pipeline: TextToImagePipeline, prompt: str, ids: Tensor) -> float:
    """How probable the model itself finds a token of the prompt as it looks at drawings: the geometric mean, in (0, 1].

    `ids` int64 (N, h, w), or (N, T, h, w) of clips. What nobody else judges is at least judged so, by eyes that can be
    wrong in the same way as the hand.
    """
    tokens = pipeline.tokens(prompt)
    clips = ids if ids.ndim == 4 else ids.unsqueeze(1)
    nats = likelihoods(pipeline.transformer, pipeline.text_tokenizer, clips, [tokens] * len(clips))
    return round(float((nats / (len(tokens) + 1)).mean().exp()), 6)  # END is told, too


def count_flops(run: Callable[[], object]) -> int:
    """Floating point operations of products, convolutions and attention in `run()`; a multiplication and an addition
    are two."""
    from torch.utils.flop_counter import FlopCounterMode  # some tenths of a second

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def compare(
    pipeline: TextToImagePipeline,
    prompts: Sequence[str],
    decoders: Sequence[str],
    *,
    count: int,
    seed: int,
    guidance_scale: float,
    world: World = SCENES,
    model: str = "",
    advance: Callable[[], None] | None = None,
) -> Comparison:
    """Draw each prompt `count` times by each decoder; drawing k of a decoder is drawn from the seed `seed` + k.

    `world` tells whether pictures or clips are drawn; `model` is its name in the report; `advance` hears of every
    prompt and decoder that is done.
    """
    config = pipeline.transformer.config
    files: dict[str, Tensor] = {}
    flops: dict[tuple[str, int], int] = {}  # of a drawing, by decoder and length of the prompt
    rows: list[dict[str, Any]] = []
    for number, prompt in enumerate(prompts):
        first = seed + number * count
        cells: list[dict[str, Any]] = []
        for decoder in decoders:
            draw = partial(world.draw, pipeline, decoder=decoder, guidance_scale=guidance_scale)
            case = decoder, len(pipeline.tokens(prompt))
            if case not in flops:  # counting costs time itself, so it is a run of its own, and warms up the next
                flops[case] = count_flops(partial(draw, [prompt], seeded(first, 1)))
            began = time.perf_counter()
            made = draw([prompt] * count, seeded(first, count))
            drawn = made.pixels.cpu()
            seconds = (time.perf_counter() - began) / count
            settings = settings_of(decoder, guidance_scale=guidance_scale)
            passed, distance = verdicts(prompt, drawn, world), diversity(drawn)
            entries = [
                _entry(f"{number:02}-{decoder}-{n:02}", drawing) | {"seed": first + n, "passed": passed and passed[n]}
                for n, drawing in enumerate(drawn)
            ]
            files |= {entry["file"]: drawing for entry, drawing in zip(entries, drawn, strict=True)}
            cells.append(
                {
                    "decoder": decoder,
                    "settings": {name: getattr(settings, name) for name in USED_BY[decoder]},
                    "seconds": round(seconds, 4),
                    "model_evaluations": world.model_evaluations(config, decoder, settings),
                    "gigaflops": flops[case] / 1e9,
                    "passed": None if passed is None else sum(passed),
                    "alignment": alignment(pipeline, prompt, made.ids) if pipeline.writes else None,
                    "diversity": None if distance is None else round(distance, 6),
                    **({"flicker": round(flicker(drawn), 6)} if drawn.ndim == 5 else {}),
                    "drawings": entries,
                }
            )
            if advance:
                advance()
        rows.append({"prompt": prompt, "judged": cells[0]["passed"] is not None, "decoders": cells})
    report = {
        "model": model,
        "on": world.name,
        "noun": world.noun,
        "parameters": sum(p.numel() for p in pipeline.transformer.parameters()),
        "image_size": list(pipeline.image_size),
        **({"num_frames": config.num_frames, "fps": FPS} if drawn.ndim == 5 else {}),
        "guidance_scale": guidance_scale,
        "seed": seed,
        "count": count,
        "torch": torch.__version__,
        "device": pipeline.device.type,
        "threads": torch.get_num_threads(),
        "decoders": [_overall([row["decoders"][n] for row in rows]) for n in range(len(decoders))],
        "prompts": rows,
    }
    return Comparison(report, files)


def _entry(stem: str, drawing: Tensor) -> dict[str, Any]:
    """The files of a picture, or of a clip, which has its strip beside it."""
    return {"file": f"{stem}.png"} if drawing.ndim == 3 else {"file": f"{stem}.mp4", "strip": f"{stem}.png"}


def _overall(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One decoder over all prompts: means for one drawing, and verdicts added up."""
    judged = [cell for cell in cells if cell["passed"] is not None]
    different = [cell["diversity"] for cell in cells if cell["diversity"] is not None]
    return {
        "decoder": cells[0]["decoder"],
        "settings": cells[0]["settings"],
        "seconds": round(sum(cell["seconds"] for cell in cells) / len(cells), 4),
        "model_evaluations": cells[0]["model_evaluations"],
        "gigaflops": sum(cell["gigaflops"] for cell in cells) / len(cells),
        "passed": sum(cell["passed"] for cell in judged),
        "judged": sum(len(cell["drawings"]) for cell in judged),
        "alignment": _geometric_mean([cell["alignment"] for cell in cells]),
        "diversity": round(sum(different) / len(different), 6) if different else None,
        **({"flicker": round(sum(c["flicker"] for c in cells) / len(cells), 6)} if "flicker" in cells[0] else {}),
    }


def _geometric_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(math.exp(sum(map(math.log, known)) / len(known)), 6) if known and min(known) > 0 else None


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """The drawings, report.json, and report.html, which holds them all."""
    for name, drawing in comparison.drawings.items():
        is_clip = drawing.ndim == 4
        if is_clip:
            write_video(folder / name, drawing, FPS)
        write_png((folder / name).with_suffix(".png"), strip(drawing, STRIP_COLUMNS) if is_clip else drawing)
    entries = [e for row in comparison.report["prompts"] for cell in row["decoders"] for e in cell["drawings"]]
    names = [entry[key] for entry in entries for key in ("file", "strip") if key in entry]
    write_json(folder / "report.json", comparison.report)
    page = report_html(comparison.report, {name: (folder / name).read_bytes() for name in names})
    write_atomically(folder / "report.html", page.encode())
