"""Pictures on one sheet, in labelled groups: green around those that show what was asked, red around the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .evaluate import Evaluation

GREEN, RED = (40, 155, 70), (215, 38, 38)
SCALE = 2  # pixels of the sheet per pixel of a picture
BORDER, GAP, LABEL = 4, 6, 22  # pixels of the sheet


@dataclass(frozen=True)
class Group:
    label: str
    pictures: np.ndarray  # uint8 (N, S, S, 3)
    passed: Sequence[bool]


def contact_sheet(groups: Sequence[Group], columns: int = 12, rows: int = 2) -> Image.Image:
    """The first `columns` x `rows` pictures of each group under its label."""
    if not groups or any(not len(group.pictures) for group in groups):
        raise ValueError("a sheet needs groups of at least one picture, got an empty one")
    side = SCALE * groups[0].pictures.shape[1] + 2 * BORDER
    shown = [min(len(group.pictures), columns * rows) for group in groups]
    heights = [LABEL + -(-count // columns) * (side + GAP) + GAP for count in shown]
    width = GAP + min(columns, max(shown)) * (side + GAP)
    sheet = Image.new("RGB", (max(width, 320), sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for group, count, height in zip(groups, shown, heights, strict=True):
        draw.text((GAP, top), group.label, fill=(60, 60, 60))
        for n in range(count):
            row, column = divmod(n, columns)
            x, y = GAP + column * (side + GAP), top + LABEL + row * (side + GAP)
            draw.rectangle((x, y, x + side - 1, y + side - 1), fill=GREEN if group.passed[n] else RED)
            picture = Image.fromarray(group.pictures[n])
            size = (side - 2 * BORDER, side - 2 * BORDER)
            sheet.paste(picture.resize(size, Image.Resampling.NEAREST), (x + BORDER, y + BORDER))
        top += height
    return sheet


def evaluation_sheet(evaluation: Evaluation) -> Image.Image:
    """The first pictures of each kind, with how many of the kind passed."""
    groups = []
    for kind in dict.fromkeys(request.kind for request in evaluation.requests):
        chosen = [number for number, request in enumerate(evaluation.requests) if request.kind == kind]
        passed = [evaluation.passed[number] for number in chosen]
        groups.append(Group(f"{kind}: {sum(passed)} of {len(passed)}", evaluation.pictures[chosen], passed))
    return contact_sheet(groups)
