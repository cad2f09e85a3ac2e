"""Pictures <-> small files: an image tokenizer whose codes an entropy model foretells, so that a file spends its bits
where a picture needs them.

A file is 4 bytes of mark, 8 of the fingerprint of both models, width and height of the picture in pixels (uint32, as
all numbers the least byte first), and the packed codes (see tokenizers/code_packer.py).
"""

import hashlib
import struct
from pathlib import Path

import torch
from PIL import Image

from ..data.media import MAX_PIXELS, to_pil, to_tensor
from ..tokenizers.code_packer import CodePacker
from ..tokenizers.entropy_model import EntropyModel
from ..tokenizers.image import ImageTokenizer
from ..tokenizers.pretrained import SHIPPED
from .open_tokenizer import open_any_image_tokenizer, tokenizer_folder

MARK = b"TLP1"
HEADER = struct.Struct("<4s8sII")
SUFFIX = ".tlp"
ENTROPY_MODEL = "entropy_model"  # its folder in that of the tokenizer


def read_header(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """By which models a file was made, and its picture's (H, W).

    Raises:
        ValueError: it is no file of a picture codec, or of no picture that there could be.
    """
    if len(data) < HEADER.size or not data.startswith(MARK):
        raise ValueError(f"a compressed picture must begin with {MARK.decode()}, and this does not")
    _, fingerprint, width, height = HEADER.unpack_from(data)
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"a picture must have 1 to {MAX_PIXELS:,} pixels, got {width} x {height}; the file is damaged")
    return fingerprint, (height, width)


class PictureCodec:
    """`compress` a picture, `decompress` a file. On one machine a file always gives the same picture; on another the
    codes are the same, and the picture up to the last bit of its decoder's floats."""

    def __init__(self, tokenizer: ImageTokenizer, entropy_model: EntropyModel):
        if tokenizer.config.levels != entropy_model.config.levels:
            raise ValueError(
                f"an entropy model must have the levels of its tokenizer, {tokenizer.config.levels}, "
                f"got {entropy_model.config.levels}; take the two that were trained together"
            )
        self.tokenizer, self.entropy_model = tokenizer, entropy_model
        self.packer = CodePacker(entropy_model)
        of_both = f"{tokenizer.fingerprint} {self.packer.fingerprint}"
        self.fingerprint = hashlib.sha256(of_both.encode()).digest()[:8]

    def compress(self, image: Image.Image) -> bytes:
        """An RGB picture -> a file.

        Raises:
            ValueError: the picture is too large.
        """
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"a picture may have {MAX_PIXELS:,} pixels, got {image.width} x {image.height}; shrink it")
        device = next(self.tokenizer.parameters()).device
        cells = self.tokenizer.encode_cells(to_tensor(image).unsqueeze(0).to(device))  # (1, h, w, D)
        return HEADER.pack(MARK, self.fingerprint, *image.size) + self.packer.pack(cells[0])

    @torch.no_grad()
    def decompress(self, data: bytes) -> Image.Image:
        """A file that `compress` made -> the picture.

        Raises:
            ValueError: it is no such file, damaged, or of other models.
        """
        fingerprint, size = read_header(data)
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"compressed by other models ({fingerprint.hex()}, these are {self.fingerprint.hex()}); name them"
            )
        grid = self.tokenizer.grid(size)
        cells = self.packer.unpack(data[HEADER.size :], (grid[0], grid[1]))
        device = next(self.tokenizer.parameters()).device
        return to_pil(self.tokenizer.decode_cells(cells.unsqueeze(0).to(device), size)[0].cpu())


def open_picture_codec(name: str | Path, device: torch.device | str = "cpu") -> PictureCodec:
    """The codec of an image tokenizer that has an entropy model in its folder.

    Raises:
        ValueError: not found, without one, or its files are damaged.
    """
    try:
        folder = tokenizer_folder("image", name)
    except ValueError:
        raise ValueError(
            f"no tokenizer of pictures called {str(name)!r}: neither a folder nor one that makes small files and ships "
            f"({', '.join(shipped_codecs())})"
        ) from None
    tokenizer = open_any_image_tokenizer(folder)
    if not isinstance(tokenizer, ImageTokenizer) or not has_entropy_model(name):
        raise ValueError(
            f"{name} has no {ENTROPY_MODEL}, which says how likely codes are; "
            "take tokenloom-photo-half or tokenloom-photo-quarter, or train one with train-tokenizer image --bits"
        )
    return PictureCodec(tokenizer.to(device), EntropyModel.from_pretrained(folder / ENTROPY_MODEL).to(device))


def shipped_codecs() -> list[str]:
    """The names of all that ship."""
    return sorted(path.parent.parent.name for path in SHIPPED.glob(f"*/{ENTROPY_MODEL}/config.json"))


def has_entropy_model(name: str | Path) -> bool:
    """Whether the image tokenizer of this name has one."""
    return (tokenizer_folder("image", name) / ENTROPY_MODEL / "config.json").is_file()
