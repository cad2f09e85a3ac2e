"""Pictures of sounds: log-mel spectrograms, time to the right and pitch upwards, the originals above what came back."""

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..data.media import image_grid
from ..models.spectral_loss import log_mel

N_FFT, NUM_MELS = 512, 64
PIXELS = 3  # of a frame and of a band, to each side
DARKEST, BRIGHTEST = -9.0, -3.0  # logarithm of the mean magnitude of a band
COLORS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # from silent to loud


def spectrogram(sounds: Tensor, sample_rate: int) -> Tensor:
    """Sounds (B, 1, S) in [-1, 1] -> pictures (B, 3, H, W) in [-1, 1], one color scale for all.

    S must be at least `N_FFT`.
    """
    loudness = (log_mel(sounds, N_FFT, NUM_MELS, sample_rate) - DARKEST) / (BRIGHTEST - DARKEST)
    place = loudness.clamp(0, 1) * (len(COLORS) - 1)
    low = place.floor().long().clamp(max=len(COLORS) - 2)
    colors = torch.tensor(COLORS, dtype=torch.float32) / 127.5 - 1
    pixels = torch.lerp(colors[low], colors[low + 1], (place - low).unsqueeze(-1))  # (B, frames, bands, 3)
    return F.interpolate(rearrange(pixels, "B t m C -> B C m t").flip(2), scale_factor=PIXELS)


def side_by_side(sounds: Tensor, others: Tensor, sample_rate: int, columns: int = 4) -> Image.Image:
    """One picture of sounds (B, 1, S), each above the same number of `others`, what became of it."""
    pairs = torch.cat([spectrogram(sounds, sample_rate), spectrogram(others, sample_rate)], dim=2)
    return image_grid(pairs, columns)
