"""TextToImagePipeline: a prompt in, a picture out, by whichever decoder is asked for.

Keeps the habits of `diffusers.DiffusionPipeline` without importing it; `diffusers_bridge.py` gives a true one. All chance
is drawn on the CPU from one generator per picture, so a picture depends on its own seed and not on its batch.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor

from ..data.media import to_pil
from ..models import autoregressive, diffusion, masked
from ..models.attention import KVCache
from ..models.guidance import image_predictor
from ..models.schedules import falling_times
from ..models.transformer import Role, SharedTransformer
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.pretrained import find_pretrained
from ..tokenizers.sequence import media_positions, prompt_batch
from ..tokenizers.text import TextTokenizer

MAX_PROMPT_TOKENS = 192
BATCH = 16  # pictures at once
Generators = torch.Generator | Sequence[torch.Generator] | None
Progress = Callable[[int, int], None]  # model evaluations done, and in all


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How a decoder samples. Settings that a decoder does not know are ignored by it."""

    guidance_scale: float = 3.0
    num_inference_steps: int = 16  # of `masked` and `diffusion`; `ar` takes one step per code
    temperature: float = 1.0  # of `ar` and `masked`; 0 takes the likeliest code
    top_k: int = 0  # of `ar`; 0 keeps all
    top_p: float = 1.0  # of `ar`
    choice_temperature: float = 2.0  # of `masked`

    def __post_init__(self) -> None:
        if self.num_inference_steps < 1 or self.num_inference_steps > 1000:
            raise ValueError(f"num_inference_steps must be 1 to 1000, got {self.num_inference_steps}")
        if not 0 <= self.guidance_scale <= 100:
            raise ValueError(f"guidance_scale must be 0 to 100, got {self.guidance_scale}")


DEFAULTS = {
    "ar": SamplerSettings(guidance_scale=3.0, temperature=0.8),
    "masked": SamplerSettings(guidance_scale=3.0, num_inference_steps=24),
    "diffusion": SamplerSettings(guidance_scale=3.0, num_inference_steps=24),
}
DECODERS = tuple(DEFAULTS)


@dataclass
class ImagePipelineOutput:
    """`images`: PIL pictures, or a float32 tensor (B, 3, H, W) in [-1, 1] with output_type="pt". `ids`: (B, h, w)."""

    images: Any
    ids: Tensor


def words_of(text: str) -> set[str]:
    """The words of a text, lower-cased: what the training lexicon is made of."""
    return set(re.findall(r"[^\W_]+", text.lower()))


def check_prompt(prompt: object) -> str:
    """`prompt` itself.

    Raises:
        ValueError: it is not text, or empty.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt must be text, got {type(prompt).__name__}; give a str or a list of str")
    if not prompt.strip():
        raise ValueError("a prompt must say something, got an empty one; name what the picture shows")
    return prompt


def picture_generators(generator: Generators, count: int) -> list[torch.Generator]:
    """One CPU generator per picture: those given, or new ones seeded from the one given (or from fresh entropy)."""
    if generator is not None and not isinstance(generator, torch.Generator):
        if len(generator) != count:
            raise ValueError(f"one generator per picture is needed, got {len(generator)} for {count} pictures")
        return list(generator)
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    seeds = torch.randint(1 << 62, (count,), generator=generator).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def seeded(seed: int, count: int) -> list[torch.Generator]:
    """The generators of pictures 0, 1, ...: seeds `seed`, `seed` + 1, ..."""
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


class TextToImagePipeline:
    def __init__(
        self,
        transformer: SharedTransformer,
        image_tokenizer: ImageTokenizer,
        text_tokenizer: TextTokenizer,
        lexicon: Iterable[str] = (),
    ):
        self.transformer = transformer.eval()
        self.image_tokenizer = image_tokenizer.eval()
        self.text_tokenizer = text_tokenizer
        self.lexicon = frozenset(lexicon)  # words of the training captions; empty: unknown
        if image_tokenizer.vocab_size != transformer.config.num_codes:
            raise ValueError(
                f"the image tokenizer has {image_tokenizer.vocab_size} codes and the transformer was built for "
                f"{transformer.config.num_codes}; take the tokenizer it was trained with"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name ("tokenloom-mini") or a folder that `save_pretrained` wrote.

        Raises:
            ValueError: a part is missing or broken, or the tokenizers are not those of the transformer.
        """
        parts = {
            name: find_pretrained(name_or_path, name) for name in ("transformer", "image_tokenizer", "text_tokenizer")
        }
        folder = Path(parts["transformer"]).parent
        if not (folder / "pipeline.json").is_file():
            raise ValueError(f"{name_or_path} is not a text-to-image model: pipeline.json is missing; name its folder")
        saved = json.loads((folder / "pipeline.json").read_text())
        pipeline = cls(
            SharedTransformer.from_pretrained(parts["transformer"]),
            ImageTokenizer.from_pretrained(parts["image_tokenizer"]),
            TextTokenizer.from_pretrained(parts["text_tokenizer"]),
            saved["lexicon"],
        )
        for name, fingerprint in saved["fingerprints"].items():
            if getattr(pipeline, name).fingerprint != fingerprint:
                raise ValueError(f"the {name} in {folder} is not the one this model was trained with; restore it")
        return pipeline

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.transformer.save_pretrained(folder / "transformer")
        self.image_tokenizer.save_pretrained(folder / "image_tokenizer")
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")
        fingerprints = {name: getattr(self, name).fingerprint for name in ("image_tokenizer", "text_tokenizer")}
        saved = {"fingerprints": fingerprints, "lexicon": sorted(self.lexicon)}
        (folder / "pipeline.json").write_text(json.dumps(saved, indent=1, ensure_ascii=False))

    def to(self, device: str | torch.device) -> Self:
        self.transformer.to(device)
        self.image_tokenizer.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.transformer.embedding.weight.device

    @property
    def image_size(self) -> tuple[int, int]:
        """Pixels (H, W) of what is drawn."""
        h, w = self.transformer.config.image_grid
        return h * self.image_tokenizer.config.stride, w * self.image_tokenizer.config.stride

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that no training caption held, sorted; none if the lexicon is unknown."""
        return sorted(words_of(prompt) - self.lexicon) if self.lexicon else []

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        decoder: str = "ar",
        generator: Generators = None,
        num_images_per_prompt: int = 1,
        image: Tensor | None = None,
        mask_image: Tensor | None = None,
        output_type: str = "pil",
        callback: Progress | None = None,
        **settings: Any,
    ) -> ImagePipelineOutput:
        """Draw pictures, `num_images_per_prompt` of each prompt, in the order of the prompts.

        Args:
            decoder: "ar", "masked" or "diffusion".
            generator: one for all, from which each picture's own is seeded, or a list with one per picture.
            image, mask_image: to inpaint: pictures (1 or B, 3, H, W) in [-1, 1] and mask (1 or B, 1, H, W), above 0.5 where
                to draw anew; the code grid decides, so a code that touches the mask is redrawn. Not with `ar`.
            output_type: "pil" or "pt".
            settings: fields of `SamplerSettings`; None or left out takes the decoder's own default.

        Raises:
            ValueError: a prompt that is empty, too long or not text; an unknown decoder; settings out of range.
        """
        if decoder not in DEFAULTS:
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
        if output_type not in ("pil", "pt"):
            raise ValueError(f'output_type must be "pil" or "pt", got {output_type!r}')
        chosen = replace(DEFAULTS[decoder], **{k: v for k, v in settings.items() if v is not None})
        prompts = [check_prompt(p) for p in ([prompt] if isinstance(prompt, str) else prompt)]
        for strange in sorted({word for p in prompts for word in self.unknown_words(p)}):
            warnings.warn(f"the training captions never held the word {strange!r}; expect little of it", stacklevel=2)
        tokens = [self._tokens(p) for p in prompts for _ in range(num_images_per_prompt)]
        known, fixed = self._known_codes(image, mask_image, len(tokens))
        if decoder == "ar" and bool(fixed.any()):
            raise ValueError("inpainting needs a decoder that sees the whole picture, got ar; take masked or diffusion")
        generators = picture_generators(generator, len(tokens))
        ids = [
            self._draw(
                decoder,
                chosen,
                tokens[s : s + BATCH],
                generators[s : s + BATCH],
                known[s : s + BATCH],
                fixed[s : s + BATCH],
                callback,
            )
            for s in range(0, len(tokens), BATCH)
        ]
        grid_ids = rearrange(torch.cat(ids), "B (h w) -> B h w", h=self.transformer.config.image_grid[0])
        pictures = self.image_tokenizer.decode(grid_ids, self.image_size)
        if image is not None and mask_image is not None:
            pictures = torch.where(mask_image > 0.5, pictures, image)
        images = [to_pil(p) for p in pictures.cpu()] if output_type == "pil" else pictures
        return ImagePipelineOutput(images, grid_ids)

    def _tokens(self, prompt: str) -> list[int]:
        tokens = self.text_tokenizer.encode(prompt)
        if len(tokens) > MAX_PROMPT_TOKENS:
            raise ValueError(f"a prompt may have {MAX_PROMPT_TOKENS} tokens, got {len(tokens)}; shorten it")
        return tokens

    def _known_codes(self, image: Tensor | None, mask: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Codes int64 (count, N) and bool (count, N), true where they must stay."""
        positions = self.transformer.config.num_positions
        if image is None or mask is None:
            if image is not mask:
                raise ValueError("inpainting needs image and mask_image, got only one of them; give both")
            nothing = torch.zeros(count, positions, dtype=torch.long, device=self.device)
            return nothing, nothing.bool()
        if tuple(image.shape[-2:]) != self.image_size or tuple(mask.shape[-2:]) != self.image_size:
            raise ValueError(
                f"image and mask_image must be {self.image_size}, got {image.shape[-2:]} and {mask.shape[-2:]}"
            )
        h, w = self.transformer.config.image_grid
        codes = rearrange(self.image_tokenizer.encode(image), "B h w -> B (h w)")
        redraw = rearrange(mask > 0.5, "B 1 (h p) (w q) -> B (h w) (p q)", h=h, w=w).any(-1)
        return codes.expand(count, -1), ~redraw.expand(count, -1)

    def _prompt(self, tokens: list[list[int]], guided: bool) -> tuple[KVCache, Tensor]:
        """Cache of the prompts (with guidance also of as many empty ones, after them) and the positions of their pictures."""
        model = self.transformer
        ids, real = prompt_batch(tokens + [[]] * (len(tokens) if guided else 0), model.vocabulary)
        ids, real = ids.to(self.device), real.to(self.device)
        steps = torch.arange(ids.shape[1], device=self.device).unsqueeze(1).repeat(1, 3)
        start = real.sum(1)[:, None, None]
        return model.prefill(ids, steps, real), media_positions(model.config.image_grid).to(self.device) + start

    def _draw(
        self,
        decoder: str,
        settings: SamplerSettings,
        tokens: list[list[int]],
        generators: list[torch.Generator],
        known: Tensor,
        fixed: Tensor,
        callback: Progress | None,
    ) -> Tensor:
        """Codes int64 (B, N) of one batch."""
        model, scale, steps = self.transformer, settings.guidance_scale, settings.num_inference_steps
        prompt, positions = self._prompt(tokens, guided=scale != 1)
        count = known.shape[1]

        def draws(draw: Callable[..., Tensor], *shape: int) -> Tensor:
            return torch.stack([draw(*shape, generator=g) for g in generators], dim=-2).to(self.device)

        if decoder == "ar":
            uniforms = torch.stack([torch.rand(count, generator=g) for g in generators]).to(self.device)
            return autoregressive.generate(
                model,
                prompt,
                positions,
                uniforms,
                guidance_scale=scale,
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                callback=callback and (lambda step: callback(step + 1, count)),
            )
        if decoder == "masked":
            predict = image_predictor(model, prompt, positions, Role.MASKED, scale)
            first, mask_id = model.vocabulary.range("image").start, model.vocabulary.special("mask")

            def predict_ids(ids: Tensor, hidden: Tensor, time: float) -> Tensor:
                return predict(model.embedding((ids + first).masked_fill(hidden, mask_id)), 0.0)

            return masked.unmask(
                predict_ids,
                known,
                fixed,
                draws(torch.rand, steps, 2, count),
                temperature=settings.temperature,
                choice_temperature=settings.choice_temperature,
                callback=callback and (lambda step: callback(step + 1, steps)),
            )
        predict = image_predictor(model, prompt, positions, Role.DIFFUSION, scale)
        noise = torch.stack([torch.randn(count, model.latent_mean.numel(), generator=g) for g in generators]).to(
            self.device
        )
        codebook = model.standardized_codebook()
        times = falling_times(steps)

        def keep(step: int, x: Tensor) -> Tensor:
            if callback:
                callback(step + 1, steps)
            t = float(times[step + 1])
            return torch.where(fixed.unsqueeze(-1), torch.lerp(codebook[known], noise, t), x)

        velocity = diffusion.velocity_field(lambda x, t: predict(model.latent_in(x), float(t[0])), codebook)
        return model.snap(diffusion.euler(velocity, noise, times, keep))
