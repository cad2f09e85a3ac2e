"""How near a sound is to another, sample by sample: SI-SDR, in decibels (Le Roux et al. 2019, arXiv:1811.02508)."""

import torch
from torch import Tensor


def si_sdr(sounds: Tensor, targets: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB of each sound: (B, C, S) twice -> (B,), from -100 to 100.

    The target, scaled to come nearest to the sound, over what the sound has beside it; a mean is no signal, so both are
    taken about theirs. Vocoders, which choose their own phases, score low however good they sound.
    """
    sounds, targets = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (sounds, targets))
    scale = (sounds * targets).sum(1, keepdim=True) / targets.square().sum(1, keepdim=True).clamp(min=1e-12)
    signal = (scale * targets).square().sum(1)
    distortion = (sounds - scale * targets).square().sum(1)
    return 10 * torch.log10((signal / distortion.clamp(min=1e-12)).clamp(min=1e-10, max=1e10))
