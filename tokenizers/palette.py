"""Few colors for many: median cut (Heckbert 1982) refined by k-means (Lloyd 1982), without randomness.

U different colors, each with the number of its pixels; V colors of the palette.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..data.media import to_uint8
from .protocol import check_images

BLOCK = 1 << 22  # distances computed at once: 16 MB in float32
LLOYD_STEPS = 10  # thirty more lower the error by one or two per cent


def pack(pixels: Tensor) -> Tensor:
    """Uint8 (B, 3, H, W) -> one int64 per pixel (B, H, W): red, green and blue as digits to base 256."""
    red, green, blue = pixels.long().unbind(1)
    return red << 16 | green << 8 | blue


def unpack(packed: Tensor) -> Tensor:
    """Int64 (U,) -> uint8 (U, 3)."""
    return torch.stack([packed >> 16, packed >> 8 & 255, packed & 255], dim=1).to(torch.uint8)


def nearest(colors: Tensor, palette: Tensor) -> Tensor:
    """Float colors (U, 3) and palette (V, 3) -> int64 (U,): the nearest one, the first of equally near ones.

    The squares are summed one by one: expanded into a matrix product they would be rounded, and ids depend on ties.
    """
    red, green, blue = palette.unbind(1)
    blocks = colors.split(max(1, BLOCK // len(palette)))
    return torch.cat(
        [((b[:, :1] - red) ** 2 + (b[:, 1:2] - green) ** 2 + (b[:, 2:] - blue) ** 2).argmin(1) for b in blocks]
    )


def count_colors(images: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, H, W) or (3, H, W), in [-1, 1] -> their 8-bit colors, packed, ascending (U,), and counts (U,)."""
    found = []
    for image in images:
        batch = check_images(image.unsqueeze(0) if image.ndim == 3 else image)
        found.append(torch.unique(pack(to_uint8(batch)).cpu(), return_counts=True))
    if not found:
        raise ValueError("a palette needs at least one picture to learn from, got none")
    packed, inverse = torch.unique(torch.cat([colors for colors, _ in found]), return_inverse=True)
    return packed, torch.zeros_like(packed).index_add_(0, inverse, torch.cat([counts for _, counts in found]))


def learn_palette(colors: Tensor, counts: Tensor, num_colors: int) -> Tensor:
    """Colors uint8 (U, 3) and counts (U,) -> palette uint8 (V, 3), ascending, V <= num_colors.

    All of the colors if there is room for them, otherwise those of least squared error that the two methods find.
    """
    if len(colors) <= num_colors:
        return colors
    points, weights = colors.double(), counts.double()
    cluster = _median_cut(points, weights, num_colors)
    for _ in range(LLOYD_STEPS):
        means = _means(points, weights, cluster, num_colors)
        moved = nearest(points.float(), means.float())
        if torch.equal(moved, cluster):
            break
        cluster = moved
    return torch.unique(_means(points, weights, cluster, num_colors).round().to(torch.uint8), dim=0)


def _median_cut(points: Tensor, weights: Tensor, num_colors: int) -> Tensor:
    """Box (U,) of every point: the box and axis of the largest squared error is cut at its mean, until V boxes."""
    box = torch.zeros(len(points), dtype=torch.long)
    errors = torch.zeros(num_colors, 3, dtype=torch.double)
    means = torch.zeros(num_colors, 3, dtype=torch.double)

    def measure(index: int) -> None:
        inside, weight = points[box == index], weights[box == index, None]
        means[index] = (inside * weight).sum(0) / weight.sum()
        errors[index] = ((inside - means[index]) ** 2 * weight).sum(0)

    measure(0)
    for new in range(1, num_colors):
        index, axis = divmod(int(errors.argmax()), 3)
        box[(box == index) & (points[:, axis] > means[index, axis])] = new
        measure(index)
        measure(new)
    return box


def _means(points: Tensor, weights: Tensor, cluster: Tensor, num_colors: int) -> Tensor:
    """Weighted means (V, 3) of the clusters that have points."""
    total = torch.zeros(num_colors, dtype=torch.double).index_add_(0, cluster, weights)
    sums = torch.zeros(num_colors, 3, dtype=torch.double).index_add_(0, cluster, points * weights[:, None])
    return (sums / total[:, None])[total > 0]
