"""Clips without end that show nothing, and move as what cameras film: dead leaves under a camera, pieces above them.

The ground is a picture of dead leaves (dead_leaves.py) that stands still or passes under the camera, which may turn and
come nearer. Above it pieces of another such picture go their own ways, and some come or go at once; some clips are cut,
some are as loud in color as graphics and test patterns are. Whoever has few clips trains on them beside these, as on
photographs beside leaves.

T frames of S x S pixels. Lengths are in sides of a frame, positions lie around its middle, in [-0.5, 0.5]; speeds are
per frame, angles in radians.
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor

from .dead_leaves import dead_leaves

GROUND = 1.5  # side of the ground
STILL = 0.45  # share of clips whose camera stands still
SPEEDS = (0.001, 0.06)  # of the camera and of pieces; their logarithms are uniform
TURN, ZOOM = 0.01, 0.01  # standard deviations of the camera's turn and of the logarithm of its approach
VIEW = (0.7, 1.0)  # side of what a frame shows of the ground at first
MAX_PIECES = 5
RADII = (0.08, 0.45)  # of pieces; their logarithms are uniform
STRETCH = 0.4  # standard deviation of the logarithm of a piece's length over its width
CORNERS = (1.0, 2.0, 8.0)  # exponents of their outlines: rhombs, ellipses, rectangles
SPIN = 0.06  # standard deviation of a piece's turn
STANDING = 0.3  # share of pieces that do not move
COMING = 0.25  # share of pieces that are not there from the first frame to the last
CUT = 0.1  # share of clips that are cut once
LOUD, MAX_CONTRAST, MAX_COLOR = 0.4, 4.0, 10.0  # share of clips of more contrast and color, and by how much at most
NOISY, MAX_NOISE = 0.3, 4.0  # share of clips with noise of its own in every frame, and its most, in levels of 255


def moving_leaves(generator: torch.Generator, size: int, num_frames: int) -> Tensor:
    """One clip: uint8 (3, T, S, S), from the generator alone."""
    cut, moment, loud, contrast, color, noisy = torch.rand(6, generator=generator).tolist()
    clip = _shot(generator, size, num_frames)
    if cut < CUT:
        start = 1 + int(moment * (num_frames - 1))
        clip = torch.cat([clip[:start], _shot(generator, size, num_frames)[start:]])
    if loud < LOUD:
        gray = reduce(clip, "T C H W -> T 1 H W", "mean")
        clip = 128 + MAX_CONTRAST**contrast * (gray - 128) + MAX_COLOR**color * (clip - gray)
    if noisy < NOISY:
        clip = clip + MAX_NOISE * noisy / NOISY * torch.randn(clip.shape, generator=generator)
    return rearrange(clip.round().clamp(0, 255).to(torch.uint8), "T C H W -> C T H W")


def _shot(generator: torch.Generator, size: int, num_frames: int) -> Tensor:
    """What a camera sees without a cut: float32 (T, 3, S, S) in [0, 255]."""
    ground, leaves = (
        rearrange(torch.from_numpy(dead_leaves(generator, round(side * size))).float(), "H W C -> 1 C H W")
        for side in (GROUND, 1)
    )
    still, near, angle = torch.rand(3, generator=generator).tolist()
    moves = float(still >= STILL)
    turn, approach = (moves * torch.randn(2, generator=generator)).tolist()
    time = torch.arange(num_frames, dtype=torch.float32)
    way = moves * _velocity(generator) * (time - num_frames / 2)[:, None]  # (T, 2), around the middle of the ground
    view = (VIEW[0] + near * (VIEW[1] - VIEW[0])) * torch.exp(-ZOOM * approach * time)
    points = _turned(_places(size), 2 * math.pi * angle + TURN * turn * time) * rearrange(view, "T -> T 1 1 1")
    frames = _sampled(ground, (points + rearrange(way, "T xy -> T 1 1 xy")) / GROUND)
    for _ in range(int(torch.randint(MAX_PIECES + 1, (), generator=generator))):
        cover, piece = _piece(generator, leaves, time)
        frames = frames + cover * (piece - frames)
    return frames


def _piece(generator: torch.Generator, leaves: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """One piece on its way: how much it covers of each pixel, (T, 1, S, S) in [0, 1], and its colors (T, 3, S, S).

    `leaves` (1, 3, S, S) is what pieces are cut from; they keep what is on them however they move and turn.
    """
    size = leaves.shape[-1]
    x, y, large, kind, angle, standing, coming, moment, x_cut, y_cut = torch.rand(10, generator=generator).tolist()
    stretched, turned = torch.randn(2, generator=generator).tolist()
    moves = float(standing >= STANDING)
    radius = RADII[0] * (RADII[1] / RADII[0]) ** large
    stretch = math.exp(STRETCH * stretched / 2)
    exponent = CORNERS[int(kind * len(CORNERS))]
    middle = torch.tensor([x - 0.5, y - 0.5]) + moves * _velocity(generator) * (time - len(time) / 2)[:, None]  # (T, 2)
    points = _places(size) - rearrange(middle, "T xy -> T 1 1 xy")
    points = _turned(points, -(2 * math.pi * angle + moves * SPIN * turned * time))  # as the piece has them
    outline = (points.abs() / radius * torch.tensor([1 / stretch, stretch])).pow(exponent).sum(-1).pow(1 / exponent)
    cover = ((1 - outline) * radius * size + 0.5).clamp(0, 1)  # an edge is about a pixel wide
    if coming < COMING:
        start = moment * len(time)
        cover = cover * rearrange(time >= start if coming < COMING / 2 else time < start, "T -> T 1 1")
    return cover[:, None], _sampled(leaves, points + torch.tensor([x_cut - 0.5, y_cut - 0.5]))


def _velocity(generator: torch.Generator) -> Tensor:
    """Float32 (2,), x and y: of any direction, and of a speed in `SPEEDS`."""
    fast, angle = torch.rand(2, generator=generator).tolist()
    speed = SPEEDS[0] * (SPEEDS[1] / SPEEDS[0]) ** fast
    return speed * torch.tensor([math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)])


def _places(size: int) -> Tensor:
    """Where the pixels of a frame lie: float32 (1, S, S, 2), x and y."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)[None]


def _turned(points: Tensor, angles: Tensor) -> Tensor:
    """Points (1 or T, S, S, 2), turned by an angle (T,) for each frame: (T, S, S, 2)."""
    cosine, sine = angles.cos(), angles.sin()
    rotations = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)  # (T, 2, 2)
    return einsum(points.expand(len(angles), -1, -1, -1), rotations, "T h w xy, T uv xy -> T h w uv")


def _sampled(picture: Tensor, points: Tensor) -> Tensor:
    """A picture (1, 3, h, w) at points (T, S, S, 2) around its middle, 1 its side; mirrored where it ends."""
    pictures = picture.expand(len(points), -1, -1, -1)
    return F.grid_sample(pictures, 2 * points, padding_mode="reflection", align_corners=False)
