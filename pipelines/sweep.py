"""Which settings suit a decoder: one after the other, each tried with the best found so far of the others.

That takes as many evaluations as there are values, where a full grid would take their product. Prompts and noise are
the same for every try, so that differences come from the settings.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .evaluate import Evaluation, evaluate
from .sampler_settings import SamplerSettings
from .text_to_image import BATCH, TextToImagePipeline
from .worlds import SCENES, World

Grid = Mapping[str, Sequence[float]]  # setting -> values to try

GRIDS: dict[str, Grid] = {
    "ar": {"guidance_scale": (1.0, 2.0, 3.0, 4.0, 6.0), "temperature": (0.4, 0.6, 0.8, 1.0), "top_p": (0.9, 1.0)},
    "masked": {
        "guidance_scale": (1.0, 2.0, 3.0, 4.0, 6.0),
        "num_inference_steps": (8, 16, 24, 32, 48, 64),
        "temperature": (0.4, 0.7, 1.0),
        "choice_temperature": (0.5, 1.0, 2.0, 4.0, 8.0),
    },
    "diffusion": {
        "guidance_scale": (1.0, 2.0, 3.0, 4.0, 6.0),
        "temperature": (0.4, 0.5, 0.6, 0.7, 0.8, 1.0),
        "guidance_from": (0.8, 0.9, 1.0),
        "guidance_until": (0.0, 0.3, 0.5),
        "num_inference_steps": (6, 8, 10, 12, 16, 24, 50),
    },
}


def sweep(
    pipeline: TextToImagePipeline,
    decoder: str,
    grid: Grid,
    *,
    per_kind: int,
    seed: int,
    world: World = SCENES,
    batch_size: int = BATCH,
    advance: Callable[[int], None] | None = None,
    **fixed: Any,
) -> Iterator[Evaluation]:
    """Evaluate the decoder's defaults with `fixed`, then every value of `grid`; yields each different try once.

    Of equal scores the fewer model evaluations win, then the earlier. The winner is `best` of what was yielded.
    """
    drawn: dict[str, Any] = {"per_kind": per_kind, "seed": seed, "world": world, "advance": advance}
    drawn["batch_size"] = batch_size
    start = evaluate(pipeline, decoder, **drawn, **fixed)
    yield start
    tried: dict[SamplerSettings, Evaluation] = {start.settings: start}
    for name, values in grid.items():
        leader = best(tried.values())
        for value in values:
            settings: dict[str, Any] = vars(leader.settings) | {name: value}
            if SamplerSettings(**settings) in tried:
                continue
            found = evaluate(pipeline, decoder, **drawn, **settings)
            tried[found.settings] = found
            yield found


def best(evaluations: Iterable[Evaluation]) -> Evaluation:
    """The highest score; of equal ones the cheapest, then the earliest."""
    return max(evaluations, key=lambda evaluation: (evaluation.shares["overall"], -evaluation.model_evaluations))


def tries(grid: Grid) -> int:
    """How many evaluations a sweep makes at most."""
    return 1 + sum(map(len, grid.values()))
