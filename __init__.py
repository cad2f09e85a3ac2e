"""Tokenloom: tokenizers for your own media, one transformer, three decoders.

The public names are loaded on first use: `import tokenloom` costs nothing, and `tokenloom --help` waits for no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # tells type checkers and editors what _HOMES tells Python
    from .models.transformer import SharedTransformer
    from .pipelines.any_to_any import AnyToAnyPipeline
    from .pipelines.embed import EmbeddingPipeline
    from .pipelines.media_to_text import MediaToTextPipeline
    from .pipelines.prompt_items import Sound
    from .pipelines.text_to_image import TextToImagePipeline
    from .pipelines.text_to_speech import SpeechToSpeechPipeline, SpeechToTextPipeline, TextToSpeechPipeline
    from .pipelines.text_to_text import TextToTextPipeline
    from .pipelines.text_to_video import TextToVideoPipeline
    from .tokenizers.audio import AudioTokenizer
    from .tokenizers.frames import FramesTokenizer
    from .tokenizers.image import ImageTokenizer
    from .tokenizers.mulaw import MuLawTokenizer
    from .tokenizers.patches import PaletteTokenizer, PatchTokenizer
    from .tokenizers.text import TextTokenizer
    from .tokenizers.units import UnitsTokenizer
    from .tokenizers.video import VideoTokenizer

__version__ = "0.1.0"
__all__ = [
    "AnyToAnyPipeline",
    "AudioTokenizer",
    "EmbeddingPipeline",
    "FramesTokenizer",
    "ImageTokenizer",
    "MediaToTextPipeline",
    "MuLawTokenizer",
    "PaletteTokenizer",
    "PatchTokenizer",
    "SharedTransformer",
    "Sound",
    "SpeechToSpeechPipeline",
    "SpeechToTextPipeline",
    "TextToImagePipeline",
    "TextToSpeechPipeline",
    "TextToTextPipeline",
    "TextToVideoPipeline",
    "TextTokenizer",
    "UnitsTokenizer",
    "VideoTokenizer",
    "__version__",
]

_HOMES = {
    "AnyToAnyPipeline": "pipelines.any_to_any",
    "AudioTokenizer": "tokenizers.audio",
    "EmbeddingPipeline": "pipelines.embed",
    "FramesTokenizer": "tokenizers.frames",
    "ImageTokenizer": "tokenizers.image",
    "MediaToTextPipeline": "pipelines.media_to_text",
    "MuLawTokenizer": "tokenizers.mulaw",
    "PaletteTokenizer": "tokenizers.patches",
    "PatchTokenizer": "tokenizers.patches",
    "SharedTransformer": "models.transformer",
    "Sound": "pipelines.prompt_items",
    "SpeechToSpeechPipeline": "pipelines.text_to_speech",
    "SpeechToTextPipeline": "pipelines.text_to_speech",
    "TextToImagePipeline": "pipelines.text_to_image",
    "TextToSpeechPipeline": "pipelines.text_to_speech",
    "TextToTextPipeline": "pipelines.text_to_text",
    "TextToVideoPipeline": "pipelines.text_to_video",
    "TextTokenizer": "tokenizers.text",
    "UnitsTokenizer": "tokenizers.units",
    "VideoTokenizer": "tokenizers.video",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tokenloom' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
