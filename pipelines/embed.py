"""Texts, pictures, clips and sounds in, a vector each out: EmbeddingPipeline. Vectors of what tells the same are alike.

B of them, E the size of a vector, T frames, H W pixels, S samples. The shared transformer reads, and a small head that
was trained on its hidden tokens (`tokenloom train-embed`) makes the vectors. The head is a part of a model's folder and
fits the transformer that it was trained on and no other. What it knows beside texts is what the model does: pictures
and clips, or sounds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from ..data.files import read_json, write_json
from ..models.contrastive import ContrastiveHead
from ..models.features import Features, frame_features, sound_features, text_features
from ..models.sound_objectives import Sounds
from ..models.transformer import SharedTransformer
from ..tokenizers.protocol import check_clips, check_images, fingerprint_of
from ..tokenizers.sequence import prompt_batch
from .open_models import Model, model_folder, open_models
from .seen_media import as_clips, frames_seen
from .speech_model import SpeechModel
from .text_to_image import TextToImagePipeline

HEAD = "contrastive_head"  # its folder in a model's
TRAINED_ON = "trained_on.json"  # fingerprints, in the folder of the head
FORMAT_VERSION = 1
BATCH = 64  # texts, pictures, clips or sounds at once


def fingerprint(transformer: SharedTransformer) -> str:
    """Sha256 (64 hex digits) over all that decides hidden tokens: see `fingerprint_of`."""
    config = transformer.config
    told = {"num_heads": config.num_heads, "factorized": config.factorized}  # the tensors tell the rest
    dtype = getattr(torch, config.storage_dtype)
    return fingerprint_of(type(transformer).__name__, FORMAT_VERSION, told, transformer.state_dict(), dtype)


class EmbeddingPipeline:
    def __init__(self, model: Model, head: ContrastiveHead):
        self.model = model  # the parts that read are those that draw, or speak
        self.head = head.eval()
        trunk, config = model.transformer.config, head.config
        if config.trunk_width != trunk.width or max(config.layers) > trunk.num_layers:
            raise ValueError(
                f"the head reads layers {config.layers} of width {config.trunk_width}, and the transformer has "
                f"{trunk.num_layers} of width {trunk.width}; train a head for it: tokenloom train-embed"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Load a shipped name or a folder that `save_pretrained` wrote; of a folder with two models, that of pictures.

        Raises:
            ValueError: a part is missing or broken, or the head was trained on another transformer.
        """
        folder = model_folder(name_or_path) / HEAD
        if not folder.is_dir():
            raise ValueError(f"{name_or_path} has no {HEAD}; train one for it: tokenloom train-embed --init MODEL")
        try:
            trained_on = read_json(folder / TRAINED_ON)
        except OSError as error:
            raise ValueError(f"{folder / TRAINED_ON} cannot be read ({error.strerror}); restore it") from error
        pipeline = cls(open_models(name_or_path)[0], ContrastiveHead.from_pretrained(folder))
        for name, found in pipeline.fingerprints.items():
            if trained_on.get(name) != found:
                raise ValueError(f"{folder} was trained on another {name}; train one for this: tokenloom train-embed")
        return pipeline

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the whole model with its head."""
        self.model.save_pretrained(folder)
        self.head.save_pretrained(Path(folder) / HEAD)
        write_json(Path(folder) / HEAD / TRAINED_ON, self.fingerprints)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What the head was trained on."""
        return {"transformer": fingerprint(self.model.transformer), **self.model.fingerprints}

    @property
    def pictures(self) -> TextToImagePipeline:
        """The model, which must be one of pictures.

        Raises:
            ValueError: it is one of speech.
        """
        if not isinstance(self.model, TextToImagePipeline):
            raise ValueError("a model of speech makes vectors of texts and sounds, not of pictures or clips")
        return self.model

    @property
    def speech(self) -> SpeechModel:
        """The model, which must be one of speech.

        Raises:
            ValueError: it is one of pictures.
        """
        if not isinstance(self.model, SpeechModel):
            raise ValueError("a model of pictures makes vectors of texts, pictures and clips, not of sounds")
        return self.model

    def to(self, device: str | torch.device) -> Self:
        self.model.to(device)
        self.head.to(device)
        return self

    @torch.no_grad()
    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """A text or several -> float32 vectors (B, E) of length 1. To a model of speech it is what is said.

        Raises:
            ValueError: a text is empty or longer than a prompt may be.
        """
        tokens = [self.model.tokens(text) for text in ([texts] if isinstance(texts, str) else texts)]
        return self._vectors(len(tokens), lambda part: self.head.text(self.text_features(tokens[part])))

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], of the model's size -> float32 vectors (B, E) of length 1.

        Raises:
            ValueError: another shape, or values outside [-1, 1]; or the model is none of pictures.
        """
        return self._embed_frames(check_images(pictures))

    def embed_clips(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) in [-1, 1] -> float32 vectors (B, E) of length 1.

        `H` and `W` are those of the model's pictures, and `T` is at most the number of frames of its clips; some frames
        are looked at, evenly from the first to the last.

        Raises:
            ValueError: another shape, or values outside [-1, 1]; or the model is none of pictures.
        """
        return self._embed_frames(check_clips(clips))

    @torch.no_grad()
    def embed_sounds(self, sounds: Sequence[Tensor]) -> Tensor:
        """Sounds, float32 (1, S) in [-1, 1] each, at the tokenizer's rate -> float32 vectors (B, E) of length 1.

        Raises:
            ValueError: another shape, or longer than the model knows; or it is none of speech.
        """
        speech = self.speech
        return self._vectors(
            len(sounds), lambda part: self.head.media(self.sound_features(speech.encode(sounds[part])))
        )

    @torch.no_grad()
    def _embed_frames(self, media: Tensor) -> Tensor:
        clips = as_clips(self.pictures, media)
        return self._vectors(
            len(clips), lambda part: self.head.media(self.frame_features(*frames_seen(self.pictures, clips[part])))
        )

    def scores(self, text: Tensor, media: Tensor) -> Tensor:
        """Vectors (B, E) and (B', E) -> cosines (B, B'), 1 where a text and a medium could not be more alike."""
        return text @ media.T

    @torch.no_grad()
    def probabilities(self, text: Tensor, media: Tensor) -> Tensor:
        """Vectors (B, E) and (B', E) -> (B, B'): of each medium (column) which text tells of it; sums to 1."""
        return self.head.scores(text, media).softmax(0)

    def text_features(self, tokens: Sequence[Sequence[int]]) -> Features:
        """Hidden tokens of texts, as token ids."""
        model = self.model.transformer
        prompts, real = (part.to(self.model.device) for part in prompt_batch(tokens, model.vocabulary))
        return text_features(model, prompts, real, self.head.config.layers)

    def frame_features(self, frames: Tensor, numbers: Tensor) -> Features:
        """Hidden tokens of pictures or frames of clips, as `frames_seen` gives them."""
        return frame_features(self.pictures.transformer, frames, numbers, self.head.config.layers)

    def sound_features(self, sounds: Sounds) -> Features:
        """Hidden tokens of sounds, as codes."""
        return sound_features(self.speech.transformer, sounds.codes, sounds.real, self.head.config.layers)

    def _vectors(self, count: int, embed: Callable[[slice], Tensor]) -> Tensor:
        parts = [embed(slice(start, start + BATCH)) for start in range(0, count, BATCH)]
        return torch.cat(parts) if parts else torch.empty(0, self.head.config.embedding_size)
