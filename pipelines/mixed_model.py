"""One transformer that knows pictures, clips and sounds: as a model of pictures, and as one of speech, over it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from ..models.transformer import SharedTransformer, TransformerConfig
from ..tokenizers.text import TextTokenizer
from .open_models import open_models
from .open_tokenizer import PictureTokenizer
from .speech_model import SoundTokenizer, SpeechModel, sound_levels
from .text_to_image import TextToImagePipeline


@dataclass(frozen=True)
class MixedModel:
    pictures: TextToImagePipeline
    speech: SpeechModel

    def __post_init__(self) -> None:
        if self.pictures.transformer is not self.speech.transformer:
            raise ValueError("pictures and speech must share one transformer, got two; give both the same")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a folder that `save_pretrained` wrote.

        Raises:
            ValueError: the folder lacks one of the two, or a part is missing or broken.
        """
        parts = open_models(folder)
        pictures = next((part for part in parts if isinstance(part, TextToImagePipeline)), None)
        speech = next((part for part in parts if isinstance(part, SpeechModel)), None)
        if pictures is None or speech is None:
            raise ValueError(
                f"{folder} must hold a model of pictures and of speech, as train-mixed makes it; name another"
            )
        return cls(pictures, speech)

    def save_pretrained(self, folder: str | Path) -> None:
        self.speech.save_pretrained(folder)
        self.pictures.save_pretrained(folder)

    def to(self, device: str | torch.device) -> Self:
        self.pictures.to(device)
        self.speech.to(device)
        return self

    @property
    def transformer(self) -> SharedTransformer:
        return self.pictures.transformer

    def knowing(
        self,
        transformer: SharedTransformer,
        *,
        words: Iterable[str] = (),
        voices: Iterable[str] = (),
        tasks: Iterable[str] = (),
        writes: bool = False,
    ) -> "MixedModel":
        """The same parts around `transformer`, which knows more: see `TextToImagePipeline` and `SpeechModel`."""
        pictures, speech, words = self.pictures, self.speech, set(words)
        images, sounds, text = pictures.image_tokenizer, speech.audio_tokenizer, pictures.text_tokenizer
        return MixedModel(
            TextToImagePipeline(transformer, images, text, pictures.lexicon | words, writes=pictures.writes or writes),
            SpeechModel(
                transformer,
                sounds,
                text,
                voices={*speech.voices, *voices},
                lexicon=speech.lexicon | words,
                tasks={*speech.tasks, *tasks},
                sound_codes=speech.sound_codes,
            ),
        )


def new_mixed_model(
    images: PictureTokenizer,
    sounds: SoundTokenizer,
    texts: TextTokenizer,
    *,
    codebooks: int,
    seconds: float,
    seed: int,
    sound_codes: str = "",
    **shape: Any,
) -> MixedModel:
    """An untrained model of these tokenizers, for sounds of up to so many seconds, told by the first `codebooks`.

    `shape` are fields of `TransformerConfig`; `sound_codes` as in `SpeechModel`.

    Raises:
        ValueError: the sound tokenizer has fewer codebooks.
    """
    if not 1 <= codebooks <= sounds.num_codebooks:
        raise ValueError(f"the sound tokenizer has 1 to {sounds.num_codebooks} codebooks, got {codebooks}")
    config = TransformerConfig(
        text_vocab_size=texts.vocab_size,
        image_levels=images.config.levels,
        sound_levels=sound_levels(sounds)[:codebooks],
        sound_steps=sounds.grid((round(seconds * sounds.sample_rate),))[1],
        **shape,
    )
    torch.manual_seed(seed)  # only the initial weights come from here
    transformer = SharedTransformer(config)
    return MixedModel(
        TextToImagePipeline(transformer, images, texts),
        SpeechModel(transformer, sounds, texts, sound_codes=sound_codes),
    )
