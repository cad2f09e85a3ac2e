"""In which order the frames of a clip are drawn, and which of those that are known a new one looks at.

First the first, then the last, then the middle of the widest gap, again and again: a low frame rate first, which tells
what happens, and then what lies between (as in the cascades of Imagen Video, arXiv:2210.02303). So drawing between a
first and a last frame that are given is what happens anyway, and small faults do not add up along the clip.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

MAX_CONTEXT = 4  # known frames that a new one looks at
NUM_SEEN = 5  # frames of a clip from which its caption is written
USUAL = 0.75  # share of training examples whose known frames are those of a clip drawn from its first frame on
NUM_KNOWN = (0.12, 0.2, 0.22, 0.16, 0.3)  # share of training batches in which a frame looks at 0, 1, 2, 3, 4 others


def drawing_order(num_frames: int, known: Collection[int] = ()) -> list[int]:
    """Numbers of the frames that are not known, in the order in which they are drawn."""
    there, order = set(known), []
    for edge in (0, num_frames - 1):
        if edge not in there:
            there.add(edge)
            order.append(edge)
    while len(there) < num_frames:
        marks = sorted(there)
        gaps = [(right - left, -left) for left, right in zip(marks[:-1], marks[1:], strict=True)]
        width, left = max(gaps)
        there.add(middle := width // 2 - left)
        order.append(middle)
    return order


def nearest(frame: int, known: Collection[int], count: int = MAX_CONTEXT) -> list[int]:
    """At most `count` of the known frames, those nearest in time, in the order of time."""
    return sorted(sorted(known, key=lambda other: (abs(other - frame), other))[:count])


def seen_frames(num_frames: int) -> list[int]:
    """Which frames of a clip are seen to tell what happens in it: at most `NUM_SEEN`, evenly from first to last."""
    count = min(NUM_SEEN, num_frames)
    return [round(number * (num_frames - 1) / max(1, count - 1)) for number in range(count)]


def known_shares(num_frames: int) -> list[float]:
    """The share of training batches in which a frame looks at 0, 1, 2, ... others of its clip, which sum to 1."""
    shares = NUM_KNOWN[: min(len(NUM_KNOWN), num_frames)]
    return [share / sum(shares) for share in shares]


def training_frames(num_frames: int, count: int, generator: torch.Generator) -> Tensor:
    """Which frames `count` training examples look at, and which they learn: int64 (count, m + 1), the last is learned.

    Most come from the order above. The others have any frames, or an unbroken beginning, so that what is given may be
    anything. m is the same for all of them, and changes from batch to batch.
    """
    m = int(torch.multinomial(torch.tensor(known_shares(num_frames)), 1, generator=generator))
    usual = [0, *drawing_order(num_frames, [0])]
    return torch.tensor([_training_example(num_frames, m, usual, generator) for _ in range(count)])


def _training_example(num_frames: int, m: int, usual: Sequence[int], generator: torch.Generator) -> list[int]:
    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    kind = float(torch.rand((), generator=generator))
    if kind < USUAL or m == 0:
        place = m if m < MAX_CONTEXT else whole(m, num_frames)
        known, frame = usual[:place], usual[place]
    elif kind < (1 + USUAL) / 2:
        known = list(range(whole(m, num_frames)))
        frame = whole(len(known), num_frames)
    else:
        *known, frame = torch.randperm(num_frames, generator=generator)[: m + 1].tolist()
    return [*nearest(frame, known, m), frame]
