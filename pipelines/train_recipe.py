"""What a run that trains the shared transformer is asked to do, and what it will cost."""

from dataclasses import dataclass

from ..models.transformer import SharedTransformer
from .clip_order import known_shares, seen_frames
from .training_cost import Cost, of_kinds, trunk_cost, work


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe:
    decoders: tuple[str, ...] = ("ar", "masked", "diffusion")
    data: tuple[str, ...] = ()  # where the examples come from, in words: a resumed run must have the same
    clip_data: tuple[str, ...] = ()  # the same, of clips
    clip_share: float = 0.5  # of the steps that learn clips, where there are any
    text_share: float = 0.0  # of the steps that learn to write the caption of what they see
    steps: int = 3000
    batch_size: int = 32  # pictures, each learned by every decoder
    muon_lr: float = 2e-3
    adamw_lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.5  # share of the steps over which the rate falls to zero
    ema_decay: float = 0.998
    drop_caption: float = 0.1
    prompt_length: int = 64  # tokens that every prompt is padded or cut to: one shape, so that compiling happens once
    bfloat16: bool = False  # products in bfloat16, the rest in float32; pays where the processor has units for it
    compile: bool = False  # fuse the blocks with torch.compile; some minutes at the start, then faster steps
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps} and {self.batch_size}")
        if not 0 < self.clip_share < 1:
            raise ValueError(f"clip_share must be between 0 and 1, got {self.clip_share}; leave out clips to have none")
        if not 0 <= self.text_share < 1:
            raise ValueError(f"text_share must be at least 0 and less than 1, got {self.text_share}")


def plan(model: SharedTransformer, recipe: TransformerRecipe, *, gigaflops: float = 150.0) -> str:
    """What is about to happen: parameters, arithmetic, memory, and hours at `gigaflops` a second."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    trunk = counts["blocks"] + counts["norm"]
    inputs = counts["embedding"] + counts["latent_in"] + counts["place"]
    parameters = sum(counts.values())
    return (
        f"transformer: {parameters / 1e6:.2f} M parameters (trunk {trunk / 1e6:.2f}, inputs "
        f"{inputs / 1e6:.2f}, head {counts['head'] / 1e6:.2f}, modulation "
        f"{counts['modulation'] / 1e6:.2f}); decoders {', '.join(recipe.decoders)}\n"
        + work(recipe, cost(model, recipe), parameters, "pictures", gigaflops=gigaflops)
    )


def cost(model: SharedTransformer, recipe: TransformerRecipe) -> Cost:
    """Of a picture or frame of a clip that is learned by every decoder, or whose caption is learned."""
    config, frame, prompt = model.config, 1 + model.config.num_positions, recipe.prompt_length
    moving = recipe.clip_share if recipe.clip_data else 0.0

    def trunk(*segments: tuple[int, int]) -> Cost:
        return trunk_cost(config, *segments, bfloat16=recipe.bfloat16)

    def drawn(known: int) -> Cost:
        given = known * frame
        heads = Cost(6.0 * model.head.weight.numel() * config.num_positions * len(recipe.decoders), 0)
        return trunk((prompt, 0), (given, prompt), *[(frame, prompt + given)] * len(recipe.decoders)) + heads

    def described(seen: int) -> Cost:
        return trunk((seen * frame, 1), (prompt, 1 + seen * frame)) + Cost(6.0 * prompt * model.text_head().numel(), 0)

    texts = recipe.text_share
    clips = [(moving * share, drawn(known)) for known, share in enumerate(known_shares(config.num_frames))]
    kinds = [(1 - moving, drawn(0)), *clips]
    seen = len(seen_frames(config.num_frames))
    return of_kinds(
        [((1 - texts) * share, each) for share, each in kinds]
        + [(texts * (1 - moving), described(1)), (texts * moving, described(seen))]
    )
