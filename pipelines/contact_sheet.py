"""Pictures, or strips of clips, on one sheet, in labelled groups: green around what shows what was asked, else red."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw

from .evaluate import Evaluation

GREEN, RED = (40, 155, 70), (215, 38, 38)
BORDER, GAP, LABEL = 4, 6, 22  # pixels of the sheet
SEAM = 2  # pixels between the frames of a strip


@dataclass(frozen=True)
class Group:
    label: str
    pictures: np.ndarray  # uint8 (N, H, W, 3)
    passed: Sequence[bool]


def contact_sheet(groups: Sequence[Group], columns: int = 12, rows: int = 2, scale: int = 2) -> Image.Image:
    """The first `columns` x `rows` pictures of each group under its label, `scale` times as large."""
    if not groups or any(not len(group.pictures) for group in groups):
        raise ValueError("a sheet needs groups of at least one picture, got an empty one")
    height, width = (scale * side + 2 * BORDER for side in groups[0].pictures.shape[1:3])
    shown = [min(len(group.pictures), columns * rows) for group in groups]
    heights = [LABEL + -(-count // columns) * (height + GAP) + GAP for count in shown]
    sheet_width = GAP + min(columns, max(shown)) * (width + GAP)
    sheet = Image.new("RGB", (max(sheet_width, 320), sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for group, count, group_height in zip(groups, shown, heights, strict=True):
        draw.text((GAP, top), group.label, fill=(60, 60, 60))
        for n in range(count):
            row, column = divmod(n, columns)
            x, y = GAP + column * (width + GAP), top + LABEL + row * (height + GAP)
            draw.rectangle((x, y, x + width - 1, y + height - 1), fill=GREEN if group.passed[n] else RED)
            picture = Image.fromarray(group.pictures[n])
            size = (width - 2 * BORDER, height - 2 * BORDER)
            sheet.paste(picture.resize(size, Image.Resampling.NEAREST), (x + BORDER, y + BORDER))
        top += group_height
    return sheet


def strips(clips: np.ndarray) -> np.ndarray:
    """Clips uint8 (N, T, H, W, 3) -> every second frame, from the first on, side by side: (N, H, W', 3)."""
    seam = np.full_like(clips[:, ::2, :, :SEAM], 128)
    return rearrange(np.concatenate([clips[:, ::2], seam], axis=3), "N T H W C -> N H (T W) C")[:, :, :-SEAM]


def evaluation_sheet(evaluation: Evaluation) -> Image.Image:
    """The first of each kind, with how many of the kind passed; of a clip, the frames that the detector looks at."""
    groups, clips = [], False
    for kind, drawings in evaluation.shown.items():
        passed = [p for request, p in zip(evaluation.requests, evaluation.passed, strict=True) if request.kind == kind]
        clips = drawings.ndim == 5
        groups.append(Group(f"{kind}: {sum(passed)} of {len(passed)}", strips(drawings) if clips else drawings, passed))
    return contact_sheet(groups, columns=2, rows=6, scale=1) if clips else contact_sheet(groups)
