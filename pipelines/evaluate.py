"""How often a picture shows what was asked, on scenes: of models, and of image tokenizers alone.

The detector judges pictures of fresh prompts, of each of the six kinds; "overall" is the plain mean of the kinds. New
combinations are prompts whose combinations training never drew. A tokenizer is judged by scenes that it encodes and
decodes: no model on its codes can be expected to score higher.

K kinds, N pictures of a kind, S pixels per side.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..data.media import to_uint8
from ..data.scene_captions import Request
from ..data.scene_detector import check, score, shares
from ..data.scenes import HELD_OUT_KINDS, KINDS, draw_example, prompts, render
from ..tokenizers.protocol import MediaTokenizer
from .sampler_settings import USED_BY, SamplerSettings, model_evaluations, settings_of
from .text_to_image import BATCH, TextToImagePipeline, seeded

VALIDATION_SEED = 1_000_000  # settings are chosen on prompts from here on, and reported on others


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One decoder, one way to sample, one seed. Pictures are in the order of the kinds."""

    decoder: str
    settings: SamplerSettings
    held_out: bool
    seed: int
    requests: list[Request]
    pictures: np.ndarray  # uint8 (K N, S, S, 3)
    passed: list[bool]
    seconds: float  # for one picture, drawn in batches
    model_evaluations: int  # for one picture

    @property
    def shares(self) -> dict[str, float]:
        """Share of pictures that show what was asked: per kind, and "overall"."""
        return shares(self.requests, self.passed)


def as_arrays(pictures: Tensor) -> np.ndarray:
    """Pictures (N, 3, S, S) in [-1, 1] -> uint8 (N, S, S, 3), as the detector reads them."""
    return rearrange(to_uint8(pictures), "N C H W -> N H W C").cpu().numpy()


def evaluate(
    pipeline: TextToImagePipeline,
    decoder: str,
    *,
    per_kind: int,
    seed: int,
    held_out: bool = False,
    advance: Callable[[int], None] | None = None,
    **settings: Any,
) -> Evaluation:
    """Draw `per_kind` fresh prompts of each kind and judge the pictures; picture k is drawn from `seed` + k.

    `held_out` asks for combinations that training never drew. `advance` hears how many pictures were drawn; `settings`
    are fields of `SamplerSettings`.
    """
    if per_kind < 1:
        raise ValueError(f"each kind needs at least 1 prompt, got {per_kind}")
    kinds = HELD_OUT_KINDS if held_out else KINDS
    requests = [request for kind in kinds for request in prompts(kind, per_kind, seed, held_out)]
    batches: list[np.ndarray] = []
    seconds = 0.0
    for start in range(0, len(requests), BATCH):
        texts = [request.text for request in requests[start : start + BATCH]]
        generators = seeded(seed + start, len(texts))
        began = time.perf_counter()
        drawn = pipeline(texts, decoder=decoder, generator=generators, output_type="pt", **settings).images
        seconds += time.perf_counter() - began
        batches.append(as_arrays(drawn))
        if advance:
            advance(len(texts))
    pictures = np.concatenate(batches)
    chosen = settings_of(decoder, **settings)
    return Evaluation(
        decoder=decoder,
        settings=chosen,
        held_out=held_out,
        seed=seed,
        requests=requests,
        pictures=pictures,
        passed=[check(request, picture) for request, picture in zip(requests, pictures, strict=True)],
        seconds=seconds / len(requests),
        model_evaluations=model_evaluations(decoder, chosen, pipeline.transformer.config.num_positions),
    )


def score_pipeline(
    pipeline: TextToImagePipeline, decoder: str, *, per_kind: int, seed: int, held_out: bool = False, **settings: Any
) -> dict[str, float]:
    """The shares of `evaluate`: per kind, and "overall"."""
    return evaluate(pipeline, decoder, per_kind=per_kind, seed=seed, held_out=held_out, **settings).shares


@torch.no_grad()
def score_reconstructions(
    tokenizer: MediaTokenizer, per_kind: int, seed: int, size: int = 64, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """Share of drawn scenes that pass the detector after `tokenizer` encoded and decoded them: per kind, and "overall".

    The scenes are `size` x `size` pixels, `per_kind` of each kind, fresh ones for every `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    examples = [draw_example(generator, kind) for kind in KINDS for _ in range(per_kind)]
    pixels = torch.from_numpy(np.stack([render(scene, size) for _, scene in examples]))
    pictures = rearrange(pixels, "N H W C -> N C H W").float() / 127.5 - 1
    decoded = [tokenizer.decode(tokenizer.encode(part.to(device)), (size, size)) for part in pictures.split(64)]
    return score([request for request, _ in examples], list(as_arrays(torch.cat(decoded))))


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
        "pictures": sum(len(evaluation.passed) for evaluation in evaluations),
        "shares": {name: sum(s[name] for s in of_seeds) / len(of_seeds) for name in of_seeds[0]},
        "half_width_95": half_width(evaluations),
        "overall_of_seeds": [found["overall"] for found in of_seeds],
        "seconds_per_picture": sum(evaluation.seconds for evaluation in evaluations) / len(evaluations),
        "model_evaluations": first.model_evaluations,
    }


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Summaries as lines of text, one for each, under a line of names."""
    lines = [("decoder", "prompts", *KINDS, "overall", "+-95%", "evaluations", "s/picture", "settings")]
    for item in summaries:
        of_kinds = [f"{item['shares'][kind]:.3f}" if kind in item["shares"] else "-" for kind in (*KINDS, "overall")]
        cost = str(item["model_evaluations"]), f"{item['seconds_per_picture']:.3f}"
        settings = ", ".join(f"{name} {item['settings'][name]:g}" for name in USED_BY[item["decoder"]])
        lines.append((item["decoder"], item["prompts"], *of_kinds, f"{item['half_width_95']:.3f}", *cost, settings))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = (0, 1, len(widths) - 1)
    return "\n".join(
        "  ".join(word.ljust(widths[n]) if n in left else word.rjust(widths[n]) for n, word in enumerate(line)).rstrip()
        for line in lines
    )
