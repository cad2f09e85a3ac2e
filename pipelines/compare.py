"""The same prompts by each decoder, at the same guidance and from the same seeds: pictures, and what they cost.

Of every prompt and decoder: seconds and model evaluations of a picture (a guided step counts two), floating point
operations counted on a real run (torch's FlopCounterMode: products, convolutions, attention), whether the picture
shows what was asked (the detector's verdict, where the prompt is a caption of the built-in scenes) and how much
pictures of different seeds differ. Everything but the seconds is the same in every run.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.files import write_atomically
from ..data.media import write_png
from ..data.scene_detector import SMALLEST, check
from ..data.scene_parser import parse
from .evaluate import as_arrays
from .report import report_html
from .sampler_settings import USED_BY, model_evaluations, settings_of
from .text_to_image import TextToImagePipeline, seeded


@dataclass(frozen=True)
class Comparison:
    report: dict[str, Any]  # what report.json holds
    pictures: dict[str, Tensor]  # file name -> (3, H, W) in [-1, 1]


def diversity(pictures: Tensor) -> float | None:
    """Mean distance of two pictures (N, 3, H, W) in [-1, 1]; None of a single one.

    The distance is the root of the mean squared difference of their pixels, as fractions of full scale: 0 for equal
    pictures, 1 for black and white.
    """
    pairs = list(combinations(pictures, 2))
    distances = [float((one - other).square().mean().sqrt()) / 2 for one, other in pairs]
    return sum(distances) / len(distances) if distances else None


def verdicts(prompt: str, pictures: Tensor) -> list[bool] | None:
    """Whether each of the pictures (N, 3, S, S) shows what was asked; None if the detector cannot tell."""
    request = parse(prompt)
    if request is None or pictures.shape[-1] != pictures.shape[-2] or pictures.shape[-1] < SMALLEST:
        return None
    return [check(request, picture) for picture in as_arrays(pictures)]


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
    num_images: int,
    seed: int,
    guidance_scale: float,
    model: str = "",
    advance: Callable[[], None] | None = None,
) -> Comparison:
    """Draw `num_images` of each prompt by each decoder; picture k of a decoder is drawn from the seed `seed` + k.

    `model` is its name in the report; `advance` hears of every prompt and decoder that is done.
    """
    pictures: dict[str, Tensor] = {}
    flops: dict[tuple[str, int], int] = {}  # of a picture, by decoder and length of the prompt
    rows: list[dict[str, Any]] = []
    for number, prompt in enumerate(prompts):
        first = seed + number * num_images
        cells: list[dict[str, Any]] = []
        for decoder in decoders:
            draw = partial(pipeline, prompt, decoder=decoder, guidance_scale=guidance_scale, output_type="pt")
            case = decoder, len(pipeline.tokens(prompt))
            if case not in flops:  # counting costs time itself, so it is a run of its own, and warms up the next
                flops[case] = count_flops(partial(draw, generator=seeded(first, 1)))
            began = time.perf_counter()
            drawn = draw(num_images_per_prompt=num_images, generator=seeded(first, num_images)).images.cpu()
            seconds = (time.perf_counter() - began) / num_images
            settings = settings_of(decoder, guidance_scale=guidance_scale)
            passed, distance = verdicts(prompt, drawn), diversity(drawn)
            names = [f"{number:02}-{decoder}-{n:02}.png" for n in range(num_images)]
            pictures |= zip(names, drawn, strict=True)
            cells.append(
                {
                    "decoder": decoder,
                    "settings": {name: getattr(settings, name) for name in USED_BY[decoder]},
                    "seconds": round(seconds, 4),
                    "model_evaluations": model_evaluations(
                        decoder, settings, pipeline.transformer.config.num_positions
                    ),
                    "gigaflops": flops[case] / 1e9,
                    "passed": None if passed is None else sum(passed),
                    "diversity": None if distance is None else round(distance, 6),
                    "pictures": [
                        {"file": name, "seed": first + n, "passed": passed and passed[n]}
                        for n, name in enumerate(names)
                    ],
                }
            )
            if advance:
                advance()
        rows.append({"prompt": prompt, "judged": cells[0]["passed"] is not None, "decoders": cells})
    report = {
        "model": model,
        "parameters": sum(p.numel() for p in pipeline.transformer.parameters()),
        "image_size": list(pipeline.image_size),
        "guidance_scale": guidance_scale,
        "seed": seed,
        "num_images": num_images,
        "torch": torch.__version__,
        "device": pipeline.device.type,
        "threads": torch.get_num_threads(),
        "decoders": [_overall([row["decoders"][n] for row in rows]) for n in range(len(decoders))],
        "prompts": rows,
    }
    return Comparison(report, pictures)


def _overall(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One decoder over all prompts: means for one picture, and verdicts added up."""
    judged = [cell for cell in cells if cell["passed"] is not None]
    different = [cell["diversity"] for cell in cells if cell["diversity"] is not None]
    return {
        "decoder": cells[0]["decoder"],
        "settings": cells[0]["settings"],
        "seconds": round(sum(cell["seconds"] for cell in cells) / len(cells), 4),
        "model_evaluations": cells[0]["model_evaluations"],
        "gigaflops": sum(cell["gigaflops"] for cell in cells) / len(cells),
        "passed": sum(cell["passed"] for cell in judged),
        "judged": sum(len(cell["pictures"]) for cell in judged),
        "diversity": round(sum(different) / len(different), 6) if different else None,
    }


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """The pictures, report.json, and report.html, which holds them all."""
    for name, picture in comparison.pictures.items():
        write_png(folder / name, picture)
    data = {name: (folder / name).read_bytes() for name in comparison.pictures}
    text = json.dumps(comparison.report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / "report.json", text.encode())
    write_atomically(folder / "report.html", report_html(comparison.report, data).encode())
