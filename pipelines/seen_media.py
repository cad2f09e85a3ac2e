"""Pictures and clips as the transformer sees them when it tells about them: the codes of some frames.

B pictures or clips, T frames, m of which are seen, N codes each; H W pixels.
"""

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from ..tokenizers.vocabulary import Vocabulary
from .clip_order import seen_frames

if TYPE_CHECKING:
    from .text_to_image import TextToImagePipeline


def as_clips(pipeline: "TextToImagePipeline", media: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) or clips (B, 3, T, H, W) -> clips (B, 3, T, H, W); a picture has one frame.

    Raises:
        ValueError: they are not of the size that the model knows, or of more frames than it knows.
    """
    clips = media.unsqueeze(2) if media.ndim == 4 else media
    height, width = pipeline.image_size
    num_frames = pipeline.transformer.config.num_frames
    times = clips.shape[2] if clips.ndim == 5 else 0
    if tuple(clips.shape) != (len(clips), 3, times, height, width) or not 1 <= times <= num_frames:
        raise ValueError(
            f"pictures must be (B, 3, {height}, {width}), and clips (B, 3, T, {height}, {width}) of at most "
            f"{num_frames} frames, got {tuple(media.shape)}; scale or cut them"
        )
    return clips


def begun_frames(vocabulary: Vocabulary, codes: Tensor) -> Tensor:
    """Codes int64 (B, m, h, w) of frames -> shared ids (B, m, 1 + N), BEGIN first."""
    ids = vocabulary.to_shared(rearrange(codes, "B m h w -> B m (h w)"), "image")
    return torch.cat([torch.full_like(ids[:, :, :1], vocabulary.special("begin_image")), ids], dim=2)


def frames_seen(pipeline: "TextToImagePipeline", clips: Tensor) -> tuple[Tensor, Tensor]:
    """What is seen of clips (B, 3, T, H, W) in [-1, 1]: at most some frames, evenly from the first to the last.

    Returns shared ids int64 (B, m, 1 + N), BEGIN first, and int64 (B, m), which frames of their clips they are.
    """
    numbers = torch.tensor(seen_frames(clips.shape[2]))
    chosen = rearrange(clips[:, :, numbers].to(pipeline.device), "B C m H W -> (B m) C H W")
    codes = rearrange(pipeline.image_tokenizer.encode(chosen), "(B m) h w -> B m h w", B=len(clips))
    return begun_frames(pipeline.transformer.vocabulary, codes), numbers.to(pipeline.device).repeat(len(clips), 1)
