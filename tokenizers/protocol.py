"""What every tokenizer of pictures, clips and sounds offers, and how a tokenizer is identified.

Ids are int64: (B, h, w) for images, (B, t, h, w) for clips, (B, K, t) for sound with K codebooks. Text is its
own kind (strings to lists of ints, see text.py) and shares only `vocab_size` and `fingerprint`.

Whatever stores ids stores the fingerprint of the tokenizer that made them, and ids under another fingerprint
are refused: two tokenizers with the same fingerprint give the same ids and read them the same way.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class MediaTokenizer(Protocol):
    """Raw media <-> ids. `decode(encode(media), size)` has the shape of `media` when `size` is its size."""

    @property
    def vocab_size(self) -> int:
        """Number of ids: every id is in [0, vocab_size)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Sha256 (64 hex digits) of all that decides the ids: see `fingerprint_of`."""
        ...

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the ids of one example: media of `size`, (H, W) or (T, H, W) or (S,), give ids of `grid(size)`."""
        ...

    def encode(self, media: Tensor) -> Tensor:
        """Float32 media in [-1, 1], (B, 3, H, W) or (B, 3, T, H, W) or (B, C, S), to int64 ids (B, *grid)."""
        ...

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, *grid) to float32 media in [-1, 1], cropped to `size` if padding was added to encode it."""
        ...


def check_images(images: Tensor) -> Tensor:
    """The images themselves: float32 (B, 3, H, W) in [-1, 1], none of the four zero.

    Raises:
        ValueError: they are anything else. Nothing is clipped in silence.
    """
    _check_tensor(images, "pictures")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}; add a batch axis to one image")
    return _check_range(images, "images")


def check_clips(clips: Tensor) -> Tensor:
    """The clips themselves: float32 (B, 3, T, H, W) in [-1, 1], none of the five zero.

    Raises:
        ValueError: they are anything else. Nothing is clipped in silence.
    """
    _check_tensor(clips, "clips")
    if clips.ndim != 5 or clips.shape[1] != 3 or 0 in clips.shape:
        raise ValueError(f"clips must be (B, 3, T, H, W), got {tuple(clips.shape)}; add a batch axis to one clip")
    return _check_range(clips, "clips")


def check_sounds(sounds: Tensor) -> Tensor:
    """The sounds themselves: float32 (B, 1, S) in [-1, 1], none of the three zero.

    Raises:
        ValueError: they are anything else. Nothing is clipped in silence.
    """
    _check_tensor(sounds, "sounds")
    if sounds.ndim != 3 or sounds.shape[1] != 1 or 0 in sounds.shape:
        raise ValueError(f"sounds must be (B, 1, S), got {tuple(sounds.shape)}; mix channels to one, add a batch axis")
    return _check_range(sounds, "sounds")


def _check_tensor(media: object, name: str) -> None:
    if not isinstance(media, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(media).__name__}; see torch.as_tensor")


def _check_range(media: Tensor, name: str) -> Tensor:
    if not media.is_floating_point():
        mend = {torch.uint8: "divide by 127.5 and subtract 1", torch.int16: "divide by 32768"}
        raise ValueError(f"{name} must be floats in [-1, 1], got {media.dtype}; {mend.get(media.dtype, 'scale them')}")
    if media.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, got {media.dtype}; convert them with .float()")
    if not bool((media.abs() <= 1).all()):  # NaN fails too
        raise ValueError(f"{name} must lie in [-1, 1], got a peak of {media.abs().max():.3g}; scale them first")
    return media


def check_clip_ids(ids: Tensor) -> Tensor:
    """The ids of clips themselves: (B, t, h, w)."""
    if ids.ndim != 4:
        raise ValueError(f"ids must be (B, t, h, w), got {tuple(ids.shape)}")
    return ids


def check_sound_ids(ids: Tensor) -> Tensor:
    """The ids of sounds themselves: (B, K, t)."""
    if ids.ndim != 3:
        raise ValueError(f"ids must be (B, K, t), got {tuple(ids.shape)}")
    return ids


def check_in_codebook(ids: Tensor, num_codes: int) -> Tensor:
    """The ids themselves: int64 (...) in [0, num_codes).

    Raises:
        ValueError: they are anything else.
    """
    if ids.dtype != torch.int64:
        raise ValueError(f"ids must be int64, got {ids.dtype}; convert them with .long()")
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_codes:
        raise ValueError(f"ids must lie in [0, {num_codes}), got {int(ids.min())} to {int(ids.max())}")
    return ids


def check_size(size: tuple[int, ...], grid: tuple[int, ...], ids: Tensor) -> None:
    """Refuse to crop what `ids` (B, *grid) give to a `size` whose grid is another."""
    if grid != tuple(ids.shape[1:]):
        raise ValueError(f"size {size} has a grid of {grid}, but the ids are {tuple(ids.shape[1:])}")


def crop(media: Tensor, size: tuple[int, ...] | None) -> Tensor:
    """Media (B, 3, ...) without what was padded behind `size`, (H, W) or (T, H, W); None: as they are."""
    return media if size is None else media[(slice(None), slice(None), *(slice(side) for side in size))]


def fingerprint_of(
    class_name: str,
    format_version: int,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    storage_dtype: torch.dtype | None = None,
) -> str:
    """Sha256 (64 hex digits) over class, format version, canonical JSON of `config` and the tensors as shipped.

    Tensors enter in the order of their names, each with its dtype, shape and little-endian bytes. With
    `storage_dtype` the floating ones are cast to it first, so weights that ship as float16 have one fingerprint
    before they are saved and after they are loaded into float32. `config` holds what JSON holds; tuples count as lists.
    """
    digest = hashlib.sha256(_canonical([class_name, format_version, dict(config)]))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        if storage_dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(storage_dtype)
        digest.update(_canonical([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    # A line of its own: JSON escapes newlines, so no two sequences of entries give the same bytes.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
