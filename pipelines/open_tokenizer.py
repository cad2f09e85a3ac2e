"""A tokenizer by modality and name: one that ships, a folder on disk, the part of a whole model, or one untrained.

Names never lead to the network here, because they may come from the manifest of a stranger's shards.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..data.files import read_json
from ..tokenizers.audio import AudioTokenizer
from ..tokenizers.frames import FramesTokenizer
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.mulaw import MuLawConfig, MuLawTokenizer
from ..tokenizers.patches import PaletteTokenizer
from ..tokenizers.pretrained import SHIPPED
from ..tokenizers.text import TextTokenizer
from ..tokenizers.units import UnitsTokenizer
from ..tokenizers.video import VideoTokenizer


class Kind(NamedTuple):
    default: str  # shipped name
    part: str  # folder of this tokenizer inside a model
    file: str  # by which its folder is known


KINDS = {
    "image": Kind(default="tokenloom-photo", part="image_tokenizer", file="config.json"),
    "video": Kind(default="tokenloom-footage", part="video_tokenizer", file="config.json"),
    "text": Kind(default="tokenloom-mini", part="text_tokenizer", file="tokenizer.json"),
    "audio": Kind(default="tokenloom-voice", part="audio_tokenizer", file="config.json"),
}
PictureTokenizer = ImageTokenizer | PaletteTokenizer
UNTRAINED_PICTURES = {"palette": PaletteTokenizer.uniform}  # by name alone, as the sounds that follow
UNTRAINED_SOUND = {"mulaw": MuLawConfig(), "mulaw-8000": MuLawConfig(sample_rate=8_000)}  # known by name alone


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


def refuse_other_media(name: str | Path, config: Mapping[str, Any], wanted: str) -> None:
    """
    Raises:
        ValueError: `config`, a tokenizer's config.json, is of a tokenizer of other media than `wanted`.
    """
    telling = {"fine_width": "sounds", "group": "clips", "num_colors": "pictures", "stride": "pictures"}
    found = next((media for key, media in telling.items() if key in config), wanted)
    if found != wanted:
        raise ValueError(f"{name} is a tokenizer of {found}, and one of {wanted} is needed; name another")


def open_tokenizer(
    modality: str, name: str | Path, device: torch.device | str
) -> (
    TextTokenizer
    | ImageTokenizer
    | PaletteTokenizer
    | VideoTokenizer
    | FramesTokenizer
    | MuLawTokenizer
    | AudioTokenizer
    | UnitsTokenizer
):
    """The tokenizer of a key of `KINDS` and this name; of texts it stays on the CPU.

    Raises:
        ValueError: not found, or its files are damaged.
    """
    if modality == "text":
        return open_text_tokenizer(name)
    if modality == "audio":
        return open_audio_tokenizer(name, device)
    return open_image_tokenizer(name).to(device) if modality == "image" else open_video_tokenizer(name, device)


def open_image_tokenizer(name: str | Path) -> PictureTokenizer:
    """The learned or the palette tokenizer of this name, which makes ids.

    Raises:
        ValueError: not found, its files are damaged, or its codes have no ids.
    """
    found = open_any_image_tokenizer(name)
    if isinstance(found, ImageTokenizer) and not found.quantizer.has_ids:
        raise ValueError(f"{name}: its codes are too many to have ids; it is for compress, not for models and shards")
    return found


def open_any_image_tokenizer(name: str | Path) -> PictureTokenizer:
    """As `open_image_tokenizer`, also one whose codes have no ids."""
    if str(name) in UNTRAINED_PICTURES:
        return UNTRAINED_PICTURES[str(name)]()
    folder = tokenizer_folder("image", name)
    config = read_json(folder / "config.json")
    refuse_other_media(name, config, "pictures")
    try:
        return load_picture_tokenizer(folder)
    except (TypeError, KeyError) as error:  # JSON of something else
        raise ValueError(f"{folder}: config.json is not that of an image tokenizer ({error}); name another") from error


def load_picture_tokenizer(folder: Path) -> PictureTokenizer:
    """What lies in a folder; errors as those of the classes."""
    config = folder / "config.json"
    kind = PaletteTokenizer if config.is_file() and "num_colors" in read_json(config) else ImageTokenizer
    return kind.from_pretrained(folder)


def open_video_tokenizer(name: str | Path, device: torch.device | str = "cpu") -> VideoTokenizer | FramesTokenizer:
    """The video tokenizer of this name; or the image tokenizer of this name, which takes clips frame by frame.

    Raises:
        ValueError: not found, or its files are damaged.
    """
    try:
        folder = tokenizer_folder("video", name)
    except ValueError as unknown:
        try:
            folder = tokenizer_folder("image", name)
        except ValueError:
            raise unknown from None
    config = read_json(folder / "config.json")
    try:
        if "group" not in config:
            refuse_other_media(name, config, "pictures")
            return FramesTokenizer(open_image_tokenizer(folder).to(device))
        return VideoTokenizer.from_pretrained(folder).to(device)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder}: config.json is not that of a video tokenizer ({error}); name another") from error


def open_audio_tokenizer(
    name: str | Path, device: torch.device | str = "cpu"
) -> MuLawTokenizer | AudioTokenizer | UnitsTokenizer:
    """The sound tokenizer of this name: one that needs no training, a learned one, or one of speech units.

    Raises:
        ValueError: not found, or its files are damaged.
    """
    config = UNTRAINED_SOUND.get(str(name))
    if config is not None:
        return MuLawTokenizer(config)
    try:
        folder = tokenizer_folder("audio", name)
    except ValueError as unknown:
        raise ValueError(f"{unknown}; untrained are {', '.join(UNTRAINED_SOUND)}") from None
    found = read_json(folder / "config.json")
    refuse_other_media(name, found, "sounds")
    try:
        kind = UnitsTokenizer if "num_units" in found else AudioTokenizer
        return kind.from_pretrained(folder).to(device)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder}: config.json is not that of a sound tokenizer ({error}); name another") from error


def open_text_tokenizer(name: str | Path) -> TextTokenizer:
    """The text tokenizer of this name.

    Raises:
        ValueError: not found, or its file is damaged.
    """
    return TextTokenizer.from_pretrained(tokenizer_folder("text", name))
