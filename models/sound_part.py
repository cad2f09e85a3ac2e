"""What the shared transformer has for sounds beside its trunk: K codes a step in, K codes a step out.

B sounds, t steps, K codebooks of V codes each, D width, d latent dimensions. Every codebook has its embeddings, in the
one table of the model, and its head. A slot reads the sum of K embeddings (MusicGen, arXiv:2306.05284), or for
`diffusion` the latent, which the K codes add up to, by one linear map.
"""

import math

import torch
from torch import Tensor, nn

from ..tokenizers.residual_quantizer import ResidualQuantizer

SMALLEST_STD = 1e-3  # of a latent dimension: those that no codebook tells of are 0 always


def fourier_features(points: Tensor, width: int) -> Tensor:
    """Smooth functions of points (V, d): random Fourier features (V, width) in [-1, 1]."""
    frequencies = torch.randn(points.shape[1], width) * 1.5
    phases = torch.rand(width) * 2 * math.pi
    return torch.cos(points @ frequencies + phases)


class SoundPart(nn.Module):
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, levels: tuple[tuple[int, ...], ...], max_steps: int, width: int):
        super().__init__()
        self.quantizer = ResidualQuantizer(levels)
        self.max_steps = max_steps
        dims = len(levels[0])
        self.heads = nn.Parameter(torch.empty(len(levels), self.num_codes + 1, width))  # the last code is END
        self.latent_in = nn.Linear(dims, width, bias=False)
        self.latent_out = nn.Linear(width, dims)
        self.length = nn.Linear(width, max_steps)  # says how many steps a sound will have, less one
        self.register_buffer("latent_mean", torch.zeros(dims))
        self.register_buffer("latent_std", torch.ones(dims))
        with torch.no_grad():
            self.heads.normal_(std=0.5)
            for head, codes in zip(self.heads, self.parts_of_latents(), strict=True):
                head[:-1].add_(fourier_features(codes, width))
            self.heads.mul_(0.5 / width**0.5)

    @property
    def num_codebooks(self) -> int:
        return self.quantizer.num_codebooks

    @property
    def num_codes(self) -> int:
        return self.quantizer.num_codes

    @property
    def end(self) -> int:
        """The local id after those of the codes, which the first codebook says one step after the last."""
        return self.num_codes

    def parts_of_latents(self) -> Tensor:
        """What each code of each codebook adds to the latent: float32 (K, V, d), scaled to the size of the first."""
        codes = torch.arange(self.num_codes)
        parts = []
        for level in range(self.num_codebooks):
            ids = torch.zeros(self.num_codes, level + 1, dtype=torch.long)
            ids[:, level] = codes
            latents = self.quantizer.ids_to_latents(ids)
            around = latents - latents.mean(0)
            parts.append(around / around.std().clamp(min=1e-6))
        return torch.stack(parts)

    @torch.no_grad()
    def start_embedding(self, rows: Tensor) -> None:
        """Set the embeddings (K V, D) of all codes in place: half chance, half a smooth function of the latent."""
        features = [fourier_features(codes, rows.shape[1]) for codes in self.parts_of_latents()]
        rows.mul_(0.5).add_(0.5 * torch.cat(features))

    @torch.no_grad()
    def standardize(self, codes: Tensor) -> None:
        """Set the statistics of latents to those of codes (N, K): `diffusion` lives where they have mean 0, std 1."""
        latents = self.quantizer.ids_to_latents(codes)
        self.latent_mean.copy_(latents.mean(0))
        self.latent_std.copy_(latents.std(0).clamp(min=SMALLEST_STD))

    def to_latents(self, codes: Tensor) -> Tensor:
        """Codes (..., K) -> standardized latents (..., d)."""
        return (self.quantizer.ids_to_latents(codes) - self.latent_mean) / self.latent_std

    def snap(self, x: Tensor) -> Tensor:
        """Standardized latents (..., d), on the codebook or near it -> int64 codes (..., K)."""
        return self.quantizer.latents_to_ids(x * self.latent_std + self.latent_mean)
