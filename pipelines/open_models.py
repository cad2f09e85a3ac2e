"""Models by shipped name or folder, whatever they know: the files beside their parts tell."""

from pathlib import Path

from ..tokenizers.pretrained import SHIPPED
from . import speech_model, text_to_image
from .speech_model import SpeechModel
from .text_to_image import TextToImagePipeline

Model = TextToImagePipeline | SpeechModel
INDICES: dict[str, type[Model]] = {text_to_image.INDEX: TextToImagePipeline, speech_model.INDEX: SpeechModel}


def model_folder(name_or_path: str | Path) -> Path:
    """The folder of a model on disk, or of one that is shipped under this name.

    Raises:
        ValueError: neither is there.
    """
    for folder in (Path(name_or_path), SHIPPED / name_or_path):
        if any((folder / index).is_file() for index in INDICES):
            return folder
    raise ValueError(
        f"a model is a folder with {' or '.join(INDICES)}, or one of {', '.join(shipped())}, and "
        f"{str(name_or_path)!r} is neither; train one, or name its folder"
    )


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted({path.parent.name for index in INDICES for path in SHIPPED.glob(f"*/{index}")})


def open_models(name_or_path: str | Path) -> list[Model]:
    """What a folder or a shipped name holds: a model of pictures, one of speech, or both over one transformer.

    Raises:
        ValueError: it is no model, or a part is missing or broken.
    """
    folder = model_folder(name_or_path)
    models = [kind.from_pretrained(folder) for index, kind in INDICES.items() if (folder / index).is_file()]
    for model in models:
        model.transformer = models[0].transformer
    return models
