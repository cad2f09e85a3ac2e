"""TextToImagePipeline: a prompt in, a picture out, by whichever decoder is asked for.

Keeps the habits of `diffusers.DiffusionPipeline` without importing it; `diffusers_bridge.py` gives a true one. This
file joins the parts; the loops are in `draw_codes.py`. B pictures, N codes each, on a grid of h x w.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor

from ..data.files import read_json, write_json
from ..data.media import to_pil
from ..models.transformer import SharedTransformer
from ..tokenizers.pretrained import SHIPPED
from ..tokenizers.text import TextTokenizer
from .best_of import best_of, candidates
from .draw_codes import DRAW, CodeBatch, Progress, Solver, draw_diffusion, in_parts
from .open_tokenizer import PictureTokenizer, load_picture_tokenizer
from .sampler_settings import settings_of

MAX_PROMPT_TOKENS = 192
MAX_PROMPT_LETTERS = 100 * MAX_PROMPT_TOKENS  # longer texts are refused unread
MAX_SEED = 2**63 - 1
BATCH = 16  # pictures at once
INDEX = "pipeline.json"  # lexicon and fingerprints, beside the folders of the parts
Generators = torch.Generator | Sequence[torch.Generator] | None


class UnknownWordWarning(UserWarning):
    """A prompt holds words that the training captions never did."""


@dataclass
class ImagePipelineOutput:
    """`images`: PIL pictures, or a float32 tensor (B, 3, H, W) in [-1, 1] with output_type="pt". `ids`: (B, h, w)."""

    images: Any
    ids: Tensor


def words_of_text(text: str) -> list[str]:
    """The words of a text in their order, lower-cased."""
    return re.findall(r"[^\W_]+", text.lower())


def words_of(text: str) -> set[str]:
    """The words of a text: what the training lexicon is made of."""
    return set(words_of_text(text))


def check_prompt(prompt: object) -> str:
    """`prompt` itself.

    Raises:
        ValueError: it is not text, or empty.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt must be text, got {type(prompt).__name__}; give a str or a list of str")
    if not prompt.strip():
        raise ValueError("a prompt must say something, got an empty one; say what is wanted")
    return prompt


def picture_generators(generator: Generators, count: int) -> list[torch.Generator]:
    """One CPU generator per picture: those given, or new ones seeded from the one given (or from fresh entropy)."""
    if generator is not None and not isinstance(generator, torch.Generator):
        if not isinstance(generator, Sequence) or not all(isinstance(one, torch.Generator) for one in generator):
            raise ValueError(f"generator must be one or several torch.Generators, got {generator!r}; seed one of them")
        if len(generator) != count:
            raise ValueError(f"one generator per picture is needed, got {len(generator)} for {count} pictures")
        return list(generator)
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    seeds = torch.randint(1 << 62, (count,), generator=generator).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def seeded(seed: int, count: int) -> list[torch.Generator]:
    """The generators of pictures 0, 1, ...: seeds `seed`, `seed` + 1, ...

    Raises:
        ValueError: a seed would be negative, or too large for a generator.
    """
    if not 0 <= seed <= MAX_SEED - count:
        raise ValueError(f"a seed must be 0 to {MAX_SEED - count}, got {seed}")
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def slices(count: int, batch_size: int) -> list[slice]:
    """What `count` things are cut into, `batch_size` each.

    Raises:
        ValueError: a batch would be empty.
    """
    if batch_size < 1:
        raise ValueError(f"a batch must hold at least 1, got {batch_size}")
    return [slice(start, start + batch_size) for start in range(0, count, batch_size)]


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model on disk, or of one that is shipped under this name.

    Raises:
        ValueError: neither is there.
    """
    for folder in (Path(name_or_path), SHIPPED / name_or_path):
        if (folder / INDEX).is_file():
            return folder
    shipped = sorted(index.parent.name for index in SHIPPED.glob(f"*/{INDEX}"))
    raise ValueError(
        f"a text-to-image model is a folder with {INDEX}"
        + (f" or one of {', '.join(shipped)}" if shipped else "")
        + f", and {str(name_or_path)!r} is neither; train one, or name its folder"
    )


class TextToImagePipeline:
    def __init__(
        self,
        transformer: SharedTransformer,
        image_tokenizer: PictureTokenizer,
        text_tokenizer: TextTokenizer,
        lexicon: Iterable[str] = (),
        *,
        writes: bool = False,
    ):
        self.transformer = transformer.eval()
        self.image_tokenizer = image_tokenizer.eval()
        self.text_tokenizer = text_tokenizer
        self.lexicon = frozenset(lexicon)  # words of the training captions; empty: unknown
        self.writes = writes  # whether it was trained to write captions, too
        if image_tokenizer.config.levels != transformer.config.image_levels:
            raise ValueError(
                f"the image tokenizer has levels {image_tokenizer.config.levels} and the transformer was built for "
                f"{transformer.config.image_levels}; take the tokenizer it was trained with"
            )
        if text_tokenizer.vocab_size > transformer.config.text_vocab_size:
            raise ValueError(
                f"the text tokenizer has {text_tokenizer.vocab_size} tokens and the transformer was built for "
                f"{transformer.config.text_vocab_size}; take the tokenizer it was trained with"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name ("tokenloom-mini") or a folder that `save_pretrained` wrote.

        Raises:
            ValueError: a part is missing or broken, or the tokenizers are not those of the transformer.
        """
        folder = find_model(name_or_path)
        saved = read_json(folder / INDEX)
        try:
            lexicon, fingerprints = list(map(str, saved["lexicon"])), dict(saved["fingerprints"])
            writes = bool(saved.get("writes", False))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / INDEX} is broken ({type(error).__name__}: {error}); save it again") from error
        pipeline = cls(
            SharedTransformer.from_pretrained(folder / "transformer"),
            load_picture_tokenizer(folder / "image_tokenizer"),
            TextTokenizer.from_pretrained(folder / "text_tokenizer"),
            lexicon,
            writes=writes,
        )
        for name, fingerprint in pipeline.fingerprints.items():
            if fingerprint != fingerprints.get(name):
                raise ValueError(f"the {name} in {folder} is not the one this model was trained with; restore it")
        return pipeline

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.transformer.save_pretrained(folder / "transformer")
        self.image_tokenizer.save_pretrained(folder / "image_tokenizer")
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")
        self.save_index(folder)

    def save_index(self, folder: Path) -> None:
        """Write what is known of the training beside the parts: tokenizers, words, and whether captions are written."""
        saved = {"fingerprints": self.fingerprints, "writes": self.writes, "lexicon": sorted(self.lexicon)}
        write_json(folder / INDEX, saved)

    @property
    def fingerprints(self) -> dict[str, str]:
        return {name: getattr(self, name).fingerprint for name in ("image_tokenizer", "text_tokenizer")}

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

    def check_best_of(self, count: int) -> None:
        """Refuse to choose among drawings with a model that cannot tell what it sees.

        Raises:
            ValueError: there are several, and it was not trained to write.
        """
        if count > 1 and not self.writes:
            raise ValueError(
                f"best_of must be 1 with a model that only draws, got {count}; train it to write, too "
                "(tokenloom train --text-share 0.2)"
            )

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that no training caption held, sorted; none if the lexicon is unknown."""
        return sorted(words_of(prompt) - self.lexicon) if self.lexicon else []

    def tokens(self, prompt: object) -> list[int]:
        """Token ids of a prompt.

        Raises:
            ValueError: it is not text, empty, or longer than a prompt may be.
        """
        prompt = check_prompt(prompt)
        if len(prompt) > MAX_PROMPT_LETTERS:
            raise ValueError(f"a prompt may have {MAX_PROMPT_LETTERS} letters, got {len(prompt)}; shorten it")
        tokens = self.text_tokenizer.encode(prompt)
        if len(tokens) > MAX_PROMPT_TOKENS:
            raise ValueError(f"a prompt may have {MAX_PROMPT_TOKENS} tokens, got {len(tokens)}; shorten it")
        return tokens

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        decoder: str = "ar",
        generator: Generators = None,
        num_images_per_prompt: int = 1,
        batch_size: int = BATCH,
        image: Tensor | None = None,
        mask_image: Tensor | None = None,
        output_type: str = "pil",
        callback: Progress | None = None,
        solver: Solver | None = None,
        **settings: Any,
    ) -> ImagePipelineOutput:
        """Draw pictures, `num_images_per_prompt` of each prompt, in the order of the prompts.

        Args:
            decoder: "ar", "masked" or "diffusion".
            generator: one for all, from which each picture's own is seeded, or a list with one per picture.
            batch_size: pictures at once.
            image, mask_image: to inpaint: pictures (1 or B, 3, H, W) in [-1, 1] and mask (1 or B, 1, H, W), above 0.5
                where to draw anew; the code grid decides, so a code that touches the mask is redrawn. Not with `ar`.
            output_type: "pil" or "pt".
            solver: how `diffusion` follows its field; left out: `diffusion.multistep`, evenly.
            settings: fields of `SamplerSettings`; None or left out takes the decoder's own default.

        Raises:
            ValueError: a prompt that is empty, too long or not text; an unknown decoder; settings out of range.
        """
        if output_type not in ("pil", "pt"):
            raise ValueError(f'output_type must be "pil" or "pt", got {output_type!r}')
        if solver is not None and decoder != "diffusion":
            raise ValueError(f"a solver is for diffusion, got {decoder}; leave it out")
        chosen = settings_of(decoder, **settings)
        if num_images_per_prompt < 1:
            raise ValueError(f"num_images_per_prompt must be at least 1, got {num_images_per_prompt}")
        prompts = list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, (str, bytes)) else [prompt]
        tokens = [ids for p in prompts for ids in [self.tokens(p)] * num_images_per_prompt]
        if not tokens:
            raise ValueError("a prompt is needed, got none; name what the picture shows")
        if strange := sorted({repr(word) for p in prompts for word in self.unknown_words(p)}):
            words = f"the training captions never held {', '.join(strange)}; expect little of it"
            warnings.warn(words, UnknownWordWarning, stacklevel=3)  # past the wrapper of no_grad
        for name, part in (("image", image), ("mask_image", mask_image)):
            if part is not None and not isinstance(part, Tensor):
                raise ValueError(f"{name} must be a torch.Tensor, got {type(part).__name__}; see torch.as_tensor")
        image, mask_image = (None if part is None else part.to(self.device) for part in (image, mask_image))
        self.check_best_of(chosen.best_of)
        asked, tokens = tokens, [ids for ids in tokens for _ in range(chosen.best_of)]
        known, fixed = self._known_codes(image, mask_image, len(asked))
        known, fixed = (part.repeat_interleave(chosen.best_of, 0) for part in (known, fixed))
        if decoder == "ar" and bool(fixed.any()):
            raise ValueError("inpainting needs a decoder that sees the whole picture, got ar; take masked or diffusion")
        generators = candidates(picture_generators(generator, len(asked)), chosen.best_of)
        parts = slices(len(tokens), batch_size)
        batches = [CodeBatch(tokens[s], generators[s], known[s], fixed[s]) for s in parts]
        draw = DRAW[decoder] if solver is None else partial(draw_diffusion, solver=solver)
        ids = [
            draw(self.transformer, batch, chosen, told)
            for batch, told in zip(batches, in_parts(callback, len(batches)), strict=True)
        ]
        grid_ids = rearrange(torch.cat(ids), "B (h w) -> B h w", h=self.transformer.config.image_grid[0])
        if chosen.best_of > 1:
            of_clips = grid_ids.unsqueeze(1)
            grid_ids = best_of(self.transformer, self.text_tokenizer, of_clips, asked, chosen.best_of).squeeze(1)
        pictures = self.image_tokenizer.decode(grid_ids, self.image_size)
        if image is not None and mask_image is not None:
            pictures = torch.where(mask_image > 0.5, pictures, image)
        images = [to_pil(p) for p in pictures.cpu()] if output_type == "pil" else pictures
        return ImagePipelineOutput(images, grid_ids)

    def _known_codes(self, image: Tensor | None, mask: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Codes int64 (count, N) and bool (count, N), true where they must stay."""
        positions = self.transformer.config.num_positions
        if image is None or mask is None:
            if image is not mask:
                raise ValueError("inpainting needs image and mask_image, got only one of them; give both")
            nothing = torch.zeros(count, positions, dtype=torch.long, device=self.device)
            return nothing, nothing.bool()
        for name, part, channels in (("image", image, 3), ("mask_image", mask, 1)):
            fits = [(pictures, channels, *self.image_size) for pictures in (1, count)]
            if tuple(part.shape) not in fits:
                raise ValueError(f"{name} must be {fits[0]} or {fits[1]} for {count} pictures, got {tuple(part.shape)}")
        h, w = self.transformer.config.image_grid
        codes = rearrange(self.image_tokenizer.encode(image), "B h w -> B (h w)")
        redraw = rearrange(mask > 0.5, "B 1 (h p) (w q) -> B (h w) (p q)", h=h, w=w).any(-1)
        return codes.expand(count, -1), ~redraw.expand(count, -1)
