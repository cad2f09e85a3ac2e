"""What a prompt for AnyToAnyPipeline may hold: texts, pictures, clips, sounds, and files of them; as models take them.

T frames, H W pixels, C channels, S samples.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.find_files import SUFFIXES_OF, modality_of
from ..data.media import MediaError, fit, from_uint8, read_bytes, to_pil, to_tensor
from ..data.resample import resample
from ..tokenizers.protocol import check_clips, check_images, check_sounds
from .describe_files import clip_of, picture_of
from .draw_clips import read_clip
from .hear_files import hear_file
from .speech_model import SpeechModel
from .text_to_image import TextToImagePipeline

KINDS = tuple(SUFFIXES_OF)  # "text", "image", "video", "audio"
MAX_TEXT_BYTES = 2**20  # of a file of text


@dataclass(frozen=True, eq=False)
class Sound:
    samples: Tensor  # float32 (1, S) in [-1, 1]
    sample_rate: int  # Hz


Medium = str | Tensor | Sound  # a Tensor is a picture float32 (3, H, W) or a clip (3, T, H, W), in [-1, 1]
Item = Medium | Path
Items = dict[str, list[Any]]  # kind -> what there is of it


def kind_of(item: object) -> str:
    """Which of `KINDS` an item is; of a file, which it holds.

    Raises:
        ValueError: it is no item, or the suffix of a file says nothing.
    """
    if isinstance(item, Path):
        kind = modality_of(item)
        if kind is None:
            raise ValueError(f"{item}: its suffix does not tell what it holds; let it end in .txt, .png, .mp4 or .wav")
        return kind
    if isinstance(item, str):
        return "text"
    if isinstance(item, Sound):
        return "audio"
    if isinstance(item, Tensor) and item.ndim in (3, 4) and len(item) == 3:
        return "image" if item.ndim == 3 else "video"
    got = f"a tensor {tuple(item.shape)}" if isinstance(item, Tensor) else type(item).__name__
    raise ValueError(
        f"a prompt may hold texts, pictures (3, H, W), clips (3, T, H, W), Sounds and Paths of files, got {got}; "
        "give one of these"
    )


def sorted_items(items: Iterable[Item]) -> Items:
    """The items of each kind that there is, in their order; kinds in the order of `KINDS`.

    Raises:
        ValueError: as `kind_of`.
    """
    kinds = [(kind_of(item), item) for item in items]
    found = {kind: [item for other, item in kinds if other == kind] for kind in KINDS}
    return {kind: same for kind, same in found.items() if same}


def as_text(item: str | Path) -> str:
    """A text, or what a file of text says.

    Raises:
        MediaError: the file cannot be read, is too large or is no UTF-8.
    """
    if not isinstance(item, Path):
        return item
    try:
        return read_bytes(item, MAX_TEXT_BYTES).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise MediaError(str(item), f"must be UTF-8 text ({error.reason} at byte {error.start})") from None


def as_picture(item: Tensor | Path, model: TextToImagePipeline) -> Tensor:
    """The middle square of a picture in the model's size: (1, 3, H, W).

    Raises:
        ValueError: the file cannot be read, or a value lies outside [-1, 1].
    """
    if isinstance(item, Path):
        return picture_of(item, model)
    return _fitted(check_images(_as_float32(item[None])), model)


def as_clip(item: Tensor | Path, model: TextToImagePipeline) -> Tensor:
    """A clip in the model's size: (1, 3, T, H, W). A file is read at the model's rate, and a tensor has it already.

    Frames of a tensor are fitted as pictures are.

    Raises:
        ValueError: the file cannot be read, or is too long to be continued; a value lies outside [-1, 1].
    """
    if isinstance(item, Path):
        return from_uint8(read_clip(item, model.image_size))[None]
    frames = check_clips(_as_float32(item[None]))[0].unbind(1)
    return torch.stack([_fitted(frame[None], model) for frame in frames], dim=2)


def as_beginning(item: Tensor | Path, model: TextToImagePipeline) -> Tensor:
    """The beginning of a clip, as many frames as the model knows: as `as_clip` otherwise."""
    if isinstance(item, Path):
        return clip_of(item, model)
    return as_clip(item[:, : model.transformer.config.num_frames], model)


def as_sound(item: Sound | Path, model: SpeechModel) -> Tensor:
    """A sound at the model's rate: (1, S).

    Raises:
        ValueError: the file cannot be read, or is longer than the model knows; a value lies outside [-1, 1].
    """
    if isinstance(item, Path):
        return hear_file(item, model)
    heard = resample(check_sounds(item.samples[None])[0], item.sample_rate, model.audio_tokenizer.sample_rate)
    return heard.clamp(-1, 1)  # a filter overshoots


def _as_float32(media: Tensor) -> Tensor:
    """Floats of any size in that of the models; whole numbers, which have another range, stay to be refused."""
    return media.float() if media.is_floating_point() else media


def _fitted(picture: Tensor, model: TextToImagePipeline) -> Tensor:
    """(1, 3, H, W) -> the same in the model's size."""
    if tuple(picture.shape[2:]) == model.image_size:
        return picture
    return to_tensor(fit(to_pil(picture[0]), model.image_size[0]))[None]
