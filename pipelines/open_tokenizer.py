"""A tokenizer by modality and name: one that ships, a folder on disk, or the part of a whole model.

Names never lead to the network here, because they may come from the manifest of a stranger's shards.
"""

import json
from pathlib import Path
from typing import NamedTuple

from ..tokenizers.image import ImageTokenizer
from ..tokenizers.patches import PaletteTokenizer
from ..tokenizers.pretrained import SHIPPED
from ..tokenizers.text import TextTokenizer


class Kind(NamedTuple):
    default: str  # shipped name
    part: str  # folder of this tokenizer inside a model
    file: str  # by which its folder is known


KINDS = {
    "image": Kind(default="tokenloom-photo", part="image_tokenizer", file="config.json"),
    "text": Kind(default="tokenloom-mini", part="text_tokenizer", file="tokenizer.json"),
}


def tokenizer_folder(modality: str, name: str | Path) -> Path:
    """Where the tokenizer of this name lies: the folder itself, or its part in a model.

    Raises:
        ValueError: nothing of this name ships or lies on disk.
    """
    kind = KINDS[modality]
    for folder in (Path(name), SHIPPED / name):
        for part in (folder / kind.part, folder):
            if (part / kind.file).is_file():
                return part
    shipped = sorted(
        path.name for path in SHIPPED.glob("*/") if (path / kind.part).is_dir() or path.name == kind.default
    )
    known = f"shipped are {', '.join(shipped)}" if shipped else "none ships"
    raise ValueError(
        f"no {modality} tokenizer called {str(name)!r}: neither a folder with {kind.file} nor shipped ({known})"
    )


def open_image_tokenizer(name: str | Path) -> ImageTokenizer | PaletteTokenizer:
    """The learned or the palette tokenizer of this name.

    Raises:
        ValueError: not found, or its files are damaged.
    """
    folder = tokenizer_folder("image", name)
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = PaletteTokenizer if "num_colors" in config else ImageTokenizer
        return kind.from_pretrained(folder)
    except (TypeError, KeyError) as error:  # JSON of something else
        raise ValueError(f"{folder}: config.json is not that of an image tokenizer ({error}); name another") from error


def open_text_tokenizer(name: str | Path) -> TextTokenizer:
    """The text tokenizer of this name.

    Raises:
        ValueError: not found, or its file is damaged.
    """
    return TextTokenizer.from_pretrained(tokenizer_folder("text", name))
