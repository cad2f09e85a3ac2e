"""Connected regions of a mask (H, W), for pictures small enough that no image library is needed."""

import numpy as np
from numpy.typing import NDArray


def label_regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Connected regions (8 neighbors) of a mask (H, W): labels 1 to n in reading order, 0 outside; and n.

    Runs of each row are joined with those that they touch in the row above (union-find).
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    edges = np.diff(padded, axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    row_list, start_list, stop_list = rows.tolist(), starts.tolist(), stops.tolist()
    above = 0  # first run that may still touch the current one
    for run, row in enumerate(row_list):
        while row_list[above] < row - 1 or (row_list[above] == row - 1 and stop_list[above] < start_list[run]):
            above += 1
        other = above
        while row_list[other] == row - 1 and start_list[other] <= stop_list[run]:
            one, two = root(run), root(other)
            parents[max(one, two)] = min(one, two)
            other += 1
    names: dict[int, int] = {}
    labels = np.zeros((height, width), np.int32)
    for run, row in enumerate(row_list):
        labels[row, start_list[run] : stop_list[run]] = names.setdefault(root(run), len(names) + 1)
    return labels, len(names)


def grow(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels spread by one pixel (8 neighbors) into what has none; on a tie the higher label wins."""
    padded = np.pad(labels, 1)
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    spread = np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])
    return np.where(labels == 0, spread, labels)
