"""Pictures without end that have the edges, sizes and textures of photographs, and show nothing: dead leaves.

Leaves of all sizes fall on each other until nothing of the ground is left, which gives pictures the statistics of
natural ones (Lee, Mumford & Huang 2001, "Occlusion models for natural images"). Who has few photographs trains on them
beside these: networks learn much from leaves of what they learn from photographs (arXiv:2106.05963).

S is the side of a picture in pixels, n the number of its leaves, h w the box of one. Colors are luma and two chromas of
JPEG (ITU-T T.871), in levels of 0 to 255; lengths are in pixels.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LEAVES = (60, 220)  # of a picture: more make it finer
RADII = (0.012, 0.6)  # of a leaf, as shares of S; their logarithms are uniform
STRETCH = 0.5  # standard deviation of the logarithm of a leaf's length over its width
MAX_SIDES = 7  # of a leaf with corners
ROUND = 0.4  # share of leaves without
NUM_TEXTURES = 3  # of a picture
ROUGHNESS = (0.3, 1.6)  # exponents of their spectra: the larger, the smoother
TEXTURE = 14.0  # mean deviation from a leaf's color by its texture
SHADE = 10.0  # standard deviation of its gradient over a radius
LUMA = (15.0, 80.0)  # standard deviation of the brightness of a picture's leaves: some are flat, some full of contrast
CHROMA = (3.0, 28.0)  # of their colors: some are gray, some colorful
STRIPED = 0.12  # share of leaves with stripes for a texture
WAVE = (3.0, 20.0)  # length of a stripe
SOFT = 0.15  # share of leaves out of focus
BLURRED, MAX_BLUR = 0.3, 1.3  # share of pictures out of focus, and the most
NOISY, MAX_NOISE = 0.3, 5.0
PLAIN, PLAIN_LEAVES = 0.2, 12  # share of pictures as people draw them: few leaves, each of one color, of any color

AMPLITUDE, SHADES = 7, slice(1, 3)  # of a leaf's random numbers, those of its texture and of its gradient
TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], dtype=np.float32)


def dead_leaves(generator: torch.Generator, size: int) -> NDArray[np.uint8]:
    """One picture: uint8 (S, S, 3), from the generator alone."""
    count, bright, contrast, colorful, out_of_focus, noisy = torch.rand(6, generator=generator).tolist()
    draws = torch.rand(LEAVES[0] + int(count * (LEAVES[1] - LEAVES[0] + 1)), 11, generator=generator).numpy()
    normals = torch.randn(len(draws), 8, generator=generator).numpy()
    corners = torch.rand(len(draws), MAX_SIDES, generator=generator).numpy()
    fields = _textures(generator, size)
    luma, chroma = LUMA[0] + contrast * (LUMA[1] - LUMA[0]), CHROMA[0] + colorful * (CHROMA[1] - CHROMA[0])
    colors = normals[:, 5:] * np.array([luma, chroma, chroma], dtype=np.float32)
    colors[:, 0] += 255 * (0.15 + 0.7 * bright)
    if noisy >= 1 - PLAIN:
        draws, normals = draws[:PLAIN_LEAVES], normals[:PLAIN_LEAVES]
        draws[:, AMPLITUDE] = normals[:, SHADES] = 0
        even = torch.special.ndtr(torch.from_numpy(normals[:, 5:])).numpy()  # normal numbers made uniform
        colors = 255 * even @ np.linalg.inv(TO_RGB).T

    picture = np.empty((size, size, 3), dtype=np.float32)
    picture[:] = colors[0]
    order = np.argsort(-draws[:, 0] * (draws[:, 1] < 0.5))  # half of the large leaves lie below, so that some are whole
    for number in order:
        _leaf(picture, fields, colors[number], draws[number], normals[number], corners[number])
    if out_of_focus < BLURRED:
        picture = _blurred(picture, MAX_BLUR * out_of_focus / BLURRED)
    if noisy < NOISY:
        noise = torch.randn(size, size, 3, generator=generator).numpy()
        picture += MAX_NOISE * noisy / NOISY * noise * np.array([1, 0.5, 0.5], dtype=np.float32)
    return np.clip(np.rint(picture @ TO_RGB.T), 0, 255).astype(np.uint8)


def _leaf(picture: Floats, fields: list[Floats], color: Floats, draw: Floats, normal: Floats, corner: Floats) -> None:
    """Let one leaf fall on a picture (S, S, 3)."""
    size = len(picture)
    place, _, x, y, angle, sides, texture, amplitude, soft, stripe, wave = map(float, draw)
    radius = size * RADII[0] * (RADII[1] / RADII[0]) ** place
    stretch = math.exp(STRETCH * float(normal[0]) / 2)
    reach = 1.5 * radius * max(stretch, 1 / stretch)
    left, right = max(0, int(x * size - reach)), min(size, int(x * size + reach) + 2)
    top, bottom = max(0, int(y * size - reach)), min(size, int(y * size + reach) + 2)
    along = (np.arange(left, right, dtype=np.float32) + 0.5 - x * size)[None]  # (1, w)
    down = (np.arange(top, bottom, dtype=np.float32) + 0.5 - y * size)[:, None]  # (h, 1)
    cosine, sine = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
    u = (cosine * along + sine * down) / (radius * stretch)  # (h, w); the leaf is about 1 long and wide
    v = (cosine * down - sine * along) * stretch / radius
    inside = 1 - np.hypot(u, v) if sides < ROUND else _within_sides(u, v, sides, corner)
    edge = radius * 0.3 * soft / SOFT if soft < SOFT else 0.0
    cover = np.clip(inside * radius / max(1.0, edge) + 0.5, 0, 1)[..., None]  # an edge is a pixel wide, or out of focus

    number = min(NUM_TEXTURES - 1, int(texture * NUM_TEXTURES))
    pattern = fields[number][top:bottom, left:right]
    if stripe < STRIPED:
        length = WAVE[0] * (WAVE[1] / WAVE[0]) ** wave
        pattern = 1.2 * np.sin(2 * math.pi * radius / length * u).astype(np.float32)
    strength = -TEXTURE * math.log(1 - min(amplitude, 0.999))  # exponential
    shade = SHADE * (float(normal[1]) * u + float(normal[2]) * v)
    tint = np.array([1, 0.15 * normal[3], 0.15 * normal[4]], dtype=np.float32)
    filled = color + strength * pattern[..., None] * tint + shade[..., None] * np.array([1, 0, 0], dtype=np.float32)
    below = picture[top:bottom, left:right]
    below += cover * (filled - below)


def _within_sides(u: Floats, v: Floats, sides: float, corner: Floats) -> Floats:
    """How far inside a convex shape points lie, (h, w): 1 in the middle, 0 on its straight sides."""
    count = 3 + min(MAX_SIDES - 3, int((sides - ROUND) / (1 - ROUND) * (MAX_SIDES - 2)))
    nearest = np.full(np.broadcast_shapes(u.shape, v.shape), np.inf, dtype=np.float32)
    for number in range(count):
        turn = 2 * math.pi * (number + 0.8 * float(corner[number])) / count
        nearest = np.minimum(nearest, 1 - (math.cos(turn) * u + math.sin(turn) * v))
    return nearest


def _textures(generator: torch.Generator, size: int) -> list[Floats]:
    """Fractal noise, (S, S) each, of mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf  # no mean
    fields = []
    for roughness in torch.rand(NUM_TEXTURES, generator=generator).tolist():
        noise = np.fft.rfft2(torch.randn(size, size, generator=generator).numpy())
        exponent = ROUGHNESS[0] + roughness * (ROUGHNESS[1] - ROUGHNESS[0])
        field = np.fft.irfft2(noise / frequency**exponent, (size, size))
        fields.append((field / field.std()).astype(np.float32))
    return fields


def _blurred(picture: Floats, deviation: float) -> Floats:
    """A picture (S, S, 3) through a Gaussian of so many pixels, mirrored at its borders."""
    wide = np.pad(picture, ((4, 4), (4, 4), (0, 0)), mode="symmetric")
    taps = np.exp(-0.5 * (np.arange(-4, 5) / max(deviation, 1e-3)) ** 2).astype(np.float32)
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(wide, 9, axis=axis)
        wide = windows @ (taps / taps.sum())
    return wide
