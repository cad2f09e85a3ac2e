"""How often a drawing shows what was asked, on scenes and their clips: of models, and of image tokenizers alone.

The detector judges drawings of fresh prompts of each kind; "overall" is the plain mean of the kinds. New combinations
are prompts whose combinations training never drew. A tokenizer is judged by scenes or clips that it encodes and
decodes, frame by frame: no model on its codes can be expected to score higher.

N drawings, of clips with T frames, S pixels per side.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange

from ..data.media import from_uint8
from ..tokenizers.protocol import MediaTokenizer
from .sampler_settings import USED_BY, SamplerSettings, settings_of
from .text_to_image import BATCH, TextToImagePipeline, seeded
from .worlds import SCENES, Asked, World, as_arrays

VALIDATION_SEED = 1_000_000  # settings are chosen on prompts from here on, and reported on others
MAX_SHOWN = 24  # drawings of a kind that are kept to be looked at: of clips, all of them would fill the memory


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One decoder, one way to sample, one seed. Requests are in the order of the kinds."""

    world: World
    decoder: str
    settings: SamplerSettings
    held_out: bool
    seed: int
    requests: list[Asked]
    passed: list[bool]
    shown: dict[str, np.ndarray]  # the first of each kind: uint8 (N, S, S, 3), or (N, T, S, S, 3)
    seconds: float  # for one drawing, drawn in batches
    model_evaluations: int  # for one drawing

    @property
    def shares(self) -> dict[str, float]:
        """Share of drawings that show what was asked: per kind, and "overall"."""
        return self.world.shares(self.requests, self.passed)


def evaluate(
    pipeline: TextToImagePipeline,
    decoder: str,
    *,
    per_kind: int,
    seed: int,
    world: World = SCENES,
    held_out: bool = False,
    batch_size: int = BATCH,
    advance: Callable[[int], None] | None = None,
    **settings: Any,
) -> Evaluation:
    """Draw `per_kind` fresh prompts of each kind of `world` and judge them; drawing k is drawn from `seed` + k.

    `held_out` asks for combinations that training never drew. `advance` hears how many were drawn; `settings` are
    fields of `SamplerSettings`.
    """
    if per_kind < 1:
        raise ValueError(f"each kind needs at least 1 prompt, got {per_kind}")
    kinds = world.held_out_kinds if held_out else world.kinds
    requests = [request for kind in kinds for request in world.prompts(kind, per_kind, seed, held_out)]
    passed: list[bool] = []
    shown: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    seconds = 0.0
    for start in range(0, len(requests), batch_size):
        batch = requests[start : start + batch_size]
        generators = seeded(seed + start, len(batch))
        began = time.perf_counter()
        texts = [request.text for request in batch]
        drawn = world.draw(pipeline, texts, generators, decoder=decoder, batch_size=batch_size, **settings)
        seconds += time.perf_counter() - began
        for request, drawing in zip(batch, as_arrays(drawn.pixels), strict=True):
            passed.append(world.check(request, drawing))
            if len(shown[request.kind]) < MAX_SHOWN:
                shown[request.kind].append(drawing)
        if advance:
            advance(len(batch))
    chosen = settings_of(decoder, **settings)
    return Evaluation(
        world=world,
        decoder=decoder,
        settings=chosen,
        held_out=held_out,
        seed=seed,
        requests=requests,
        passed=passed,
        shown={kind: np.stack(drawings) for kind, drawings in shown.items()},
        seconds=seconds / len(requests),
        model_evaluations=world.model_evaluations(pipeline.transformer.config, decoder, chosen),
    )


def score_pipeline(
    pipeline: TextToImagePipeline, decoder: str, *, per_kind: int, seed: int, held_out: bool = False, **settings: Any
) -> dict[str, float]:
    """The shares of `evaluate`: per kind, and "overall"."""
    return evaluate(pipeline, decoder, per_kind=per_kind, seed=seed, held_out=held_out, **settings).shares


@torch.no_grad()
def score_reconstructions(
    tokenizer: MediaTokenizer,
    per_kind: int,
    seed: int,
    size: int = 64,
    device: str | torch.device = "cpu",
    world: World = SCENES,
) -> dict[str, float]:
    """Share of drawn scenes or clips that pass the detector after the image tokenizer encoded and decoded them.

    Per kind, and "overall". They are `size` x `size` pixels, `per_kind` of each kind, fresh ones for every `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    examples = [world.example(generator, kind, size) for kind in world.kinds for _ in range(per_kind)]
    pixels = np.stack([drawn for _, drawn in examples])
    pictures = rearrange(torch.from_numpy(pixels), "... H W C -> (...) C H W")
    decoded = [
        as_arrays(tokenizer.decode(tokenizer.encode(from_uint8(part).to(device)), (size, size)))
        for part in pictures.split(64)
    ]
    requests = [request for request, _ in examples]
    drawings = np.concatenate(decoded).reshape(pixels.shape)
    return world.shares(requests, [world.check(*pair) for pair in zip(requests, drawings, strict=True)])


def half_width(evaluations: Sequence[Evaluation]) -> float:
    """Half the 95% interval of "overall" over all prompts, as binomial shares with two more of each verdict.

    The two more (Agresti and Coull 1998) keep a share of 1 out of few from looking certain.
    """
    verdicts: dict[str, list[bool]] = {}
    for evaluation in evaluations:
        for request, verdict in zip(evaluation.requests, evaluation.passed, strict=True):
            verdicts.setdefault(request.kind, []).append(verdict)
    variances = []
    for results in verdicts.values():
        share, count = (sum(results) + 2) / (len(results) + 4), len(results) + 4
        variances.append(share * (1 - share) / count)
    return 1.96 * math.sqrt(sum(variances)) / len(variances)


def summary(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The evaluations of one decoder and one way to sample, over their seeds, as JSON holds it."""
    first = evaluations[0]
    of_seeds = [evaluation.shares for evaluation in evaluations]
    return {
        "decoder": first.decoder,
        "prompts": "new" if first.held_out else "known",
        "settings": asdict(first.settings),
        "seeds": [evaluation.seed for evaluation in evaluations],
        "drawings": sum(len(evaluation.passed) for evaluation in evaluations),
        "shares": {name: sum(s[name] for s in of_seeds) / len(of_seeds) for name in of_seeds[0]},
        "half_width_95": half_width(evaluations),
        "overall_of_seeds": [found["overall"] for found in of_seeds],
        "seconds_per_drawing": sum(evaluation.seconds for evaluation in evaluations) / len(evaluations),
        "model_evaluations": first.model_evaluations,
    }


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Summaries as lines of text, one for each, under a line of names."""
    kinds = dict.fromkeys(kind for item in summaries for kind in item["shares"] if kind != "overall")
    lines = [("decoder", "prompts", *kinds, "overall", "+-95%", "evaluations", "seconds", "settings")]
    for item in summaries:
        of_kinds = [f"{item['shares'][kind]:.3f}" if kind in item["shares"] else "-" for kind in (*kinds, "overall")]
        cost = str(item["model_evaluations"]), f"{item['seconds_per_drawing']:.3f}"
        used = [name for name in USED_BY[item["decoder"]] if name != "best_of" or item["settings"][name] > 1]
        settings = ", ".join(f"{name} {item['settings'][name]:g}" for name in used)
        lines.append((item["decoder"], item["prompts"], *of_kinds, f"{item['half_width_95']:.3f}", *cost, settings))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = (0, 1, len(widths) - 1)
    return "\n".join(
        "  ".join(word.ljust(widths[n]) if n in left else word.rjust(widths[n]) for n, word in enumerate(line)).rstrip()
        for line in lines
    )
