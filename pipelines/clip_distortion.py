"""A video tokenizer beside the picture-by-picture ways that spend equally many codes: PSNR, SSIM and flicker.

With groups of k frames, a video tokenizer takes the codes of one picture for k frames. An image tokenizer can spend
them on one frame in k, which is held for as long (FramesTokenizer), or on every frame at a k-th of its pixels. Frames
are judged as 8-bit RGB, each alone; flicker is the mean absolute error of the differences between neighbouring frames,
in steps of 255. No code is entropy-coded.

T frames, H W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..data.media import from_uint8, to_uint8
from ..models.image_metrics import psnr, ssim
from ..models.losses import motion_loss
from ..tokenizers.frames import FramesTokenizer
from ..tokenizers.protocol import MediaTokenizer
from ..tokenizers.video import VideoTokenizer

AT_ONCE = 16  # pictures through an image tokenizer


@dataclass(frozen=True)
class ClipRate:
    codes: float
    bits_per_pixel: float
    psnr: float  # dB, the mean over frames
    ssim: float
    flicker: float


def mean(rates: Sequence[ClipRate]) -> ClipRate:
    """The plain mean over clips, of decibels too."""
    return ClipRate(*torch.tensor([astuple(rate) for rate in rates], dtype=torch.float64).mean(0).tolist())


def judged(clip: Tensor, decoded: Tensor, codes: int, vocab_size: int) -> ClipRate:
    """What `decoded` is worth as `clip`, both (1, 3, T, H, W) in [-1, 1]."""
    decoded = from_uint8(to_uint8(decoded))
    found, target = (rearrange(x, "1 C T H W -> T C H W") for x in (decoded, clip))
    bits = codes * math.log2(vocab_size) / (clip.shape[2] * clip.shape[3] * clip.shape[4])
    flicker = 127.5 * float(motion_loss(decoded, clip)) if len(target) > 1 else 0.0
    return ClipRate(codes, bits, float(psnr(found, target).mean()), float(ssim(found, target).mean()), flicker)


@torch.no_grad()
def through(tokenizer: MediaTokenizer, clip: Tensor) -> tuple[ClipRate, Tensor]:
    """A clip (1, 3, T, H, W) through a tokenizer of clips: figures, and what comes back."""
    ids = tokenizer.encode(clip)
    decoded = tokenizer.decode(ids, tuple(clip.shape[2:]))
    return judged(clip, decoded, ids.numel(), tokenizer.vocab_size), decoded


@torch.no_grad()
def smaller(tokenizer: MediaTokenizer, clip: Tensor, factor: float) -> tuple[ClipRate, Tensor]:
    """As `through`: every frame through a tokenizer of pictures, at 1 / `factor` of its sides, and enlarged again."""
    frames = rearrange(clip, "1 C T H W -> T C H W")
    sides = tuple(max(1, round(side / factor)) for side in frames.shape[2:])
    small = F.interpolate(frames, sides, mode="bicubic", antialias=True).clamp(-1, 1)
    ids = [tokenizer.encode(part) for part in small.split(AT_ONCE)]
    back = torch.cat([tokenizer.decode(part, sides) for part in ids])
    decoded = F.interpolate(back, frames.shape[2:], mode="bicubic", antialias=True).clamp(-1, 1)
    decoded = rearrange(decoded, "T C H W -> 1 C T H W")
    return judged(clip, decoded, sum(part.numel() for part in ids), tokenizer.vocab_size), decoded


def compare_ways(
    tokenizer: VideoTokenizer, pictures: MediaTokenizer, clip: Tensor
) -> tuple[dict[str, ClipRate], dict[str, Tensor]]:
    """The figures of each way for one clip (1, 3, T, H, W) in [-1, 1], and what each gives back."""
    group = tokenizer.config.group
    ways = {
        "video": through(tokenizer, clip),
        f"one frame in {group}": through(FramesTokenizer(pictures, group), clip),
        f"a {group}th of the pixels": smaller(pictures, clip, math.sqrt(group)),
    }
    return {name: rate for name, (rate, _) in ways.items()}, {name: decoded for name, (_, decoded) in ways.items()}
