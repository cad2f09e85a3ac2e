"""Codes of a picture <-> bytes, by the probabilities of an entropy model, with no bit lost on any machine.

A decoder must find exactly the probabilities that the encoder had, or everything after the first difference is lost;
and products of floats differ between processors. So the network runs on whole numbers (Ballé, Johnston and Minnen, ICLR
2019, for why, by simpler means): weights and what is between the layers are rounded to multiples of 2^-12 and 2^-14 and
held as float64, in which every sum stays exact, whatever its order.

Codes are told along slanted lines, on which the codes two to the left and three above are told already, a whole line at
a time. h w grid of codes, D latent dimensions, L levels of one, n codes of a line.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .ans import PRECISION, Decoder, Encoder
from .entropy_model import ABOVE, LEFT, SCALES, EntropyModel
from .protocol import fingerprint_of

FORMAT_VERSION = 1
UNIT = 1 << 14  # 1.0 between the layers
WEIGHT = 1 << 12  # 1.0 of a weight
MOST = 1 << 24  # of what is between two layers
EXACT = 1 << 53  # below it float64 holds every whole number
SLANT = ABOVE + 1  # codes that a line falls behind with each row
NEAR = [(-row, column) for row in range(ABOVE, 0, -1) for column in range(-ABOVE, ABOVE + 1)]
NEAR += [(0, column) for column in range(-LEFT, 0)]
STEPS_PER_OCTAVE = 8  # of scales
FINE = 1 << 10  # steps of a scale, in which a logistic distribution is listed
REACH = 16  # scales to either side of the mean, beyond which it is taken to be over

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]  # that hold whole numbers
Layer = tuple[Floats, Floats]  # weight (in, out), bias (out,)


def _logistic() -> Ints:
    """Its distribution function from -REACH to REACH in steps of 1 / FINE, in 2^PRECISION."""
    x = np.arange(-REACH * FINE, REACH * FINE + 1) / FINE
    return np.rint((1 << PRECISION) / (1 + np.exp(-x))).astype(np.int64)


def _inverses() -> Ints:
    """Of the scales, in multiples of 2^-12."""
    octaves = np.arange(int((SCALES[1] - SCALES[0]) * STEPS_PER_OCTAVE) + 1) / STEPS_PER_OCTAVE
    return np.rint(WEIGHT * 2 ** (-SCALES[0] - octaves)).astype(np.int64)


class CodePacker:
    """Codes of a tokenizer with the levels of `entropy_model` <-> bytes."""

    def __init__(self, entropy_model: EntropyModel):
        config = entropy_model.config
        self.config, self.levels = config, [*config.levels]
        stored = getattr(torch, config.storage_dtype)  # a model packs before it is saved what it unpacks when loaded
        weights = {name: tensor.detach().cpu().to(stored) for name, tensor in entropy_model.state_dict().items()}
        self.fingerprint = fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(config), weights)
        above, left = weights["above.weight"], weights["left.weight"]
        cells = [above[:, :, row, column] for row in range(ABOVE) for column in range(2 * ABOVE + 1)]
        cells += [left[:, :, 0, column] for column in range(LEFT)]
        self.near = _whole(torch.cat(cells, dim=1), weights["above.bias"])
        numbers = range(len(config.groups))
        self.mix = _whole(weights["mix.weight"].flatten(1), weights["mix.bias"])
        self.inner = [_whole(weights[f"inner.{n}.weight"].flatten(1), weights[f"inner.{n}.bias"]) for n in numbers]
        self.heads = [_whole(weights[f"heads.{n}.weight"].flatten(1), weights[f"heads.{n}.bias"]) for n in numbers]
        self.logistic, self.inverses = _logistic(), _inverses()

    def pack(self, codes: Tensor) -> bytes:
        """Codes as int64 cells (h, w, D) -> bytes.

        Raises:
            ValueError: they are no grid of codes, or outside the levels.
        """
        if codes.ndim != 3 or codes.shape[2] != len(self.levels) or not codes.numel():
            raise ValueError(f"codes to pack must be (h, w, {len(self.levels)}), got {tuple(codes.shape)}")
        cells: Ints = codes.cpu().numpy()
        if (cells < 0).any() or (cells >= np.array(self.levels)).any():
            raise ValueError(f"cells must lie in [0, level), got {cells.min()} to {cells.max()} for {self.levels}")
        grid = cells.shape[0], cells.shape[1]
        canvas = self._canvas(*grid)
        symbols: list[Ints] = []  # of each line and dimension: start and end of what was there, (2, n)
        for rows, columns in _lines(*grid):
            told = cells[rows, columns]  # (n, D)
            values = _units(told, np.array(self.levels))
            for dimension, borders in self._borders(canvas, rows, columns, values):
                at = np.arange(len(rows)), told[:, dimension]
                symbols.append(np.stack([borders[at], borders[at[0], at[1] + 1]]))
            self._paint(canvas, rows, columns, values)
        encoder = Encoder()
        for told in reversed(symbols):
            for start, end in told.T[::-1].tolist():
                encoder.put(start, end - start)
        return encoder.finish()

    def unpack(self, data: bytes, grid: tuple[int, int]) -> Tensor:
        """What `pack` made of codes of this grid, (h, w) -> the codes, int64 (h, w, D).

        Raises:
            ValueError: the bytes are damaged, or of another grid or model.
        """
        decoder = Decoder(data)
        canvas = self._canvas(*grid)
        cells = np.zeros((*grid, len(self.levels)), np.int64)
        for rows, columns in _lines(*grid):
            told = np.zeros((len(rows), len(self.levels)), np.int64)
            values = np.zeros(told.shape)
            for dimension, borders in self._borders(canvas, rows, columns, values):
                for number, row in enumerate(borders.tolist()):
                    cell = bisect_right(row, decoder.slot()) - 1
                    decoder.take(row[cell], row[cell + 1] - row[cell])
                    told[number, dimension] = cell
                values[:, dimension] = _units(told[:, dimension], self.levels[dimension])
            cells[rows, columns] = told
            self._paint(canvas, rows, columns, values)
        decoder.finish()
        return torch.from_numpy(cells)

    def _canvas(self, height: int, width: int) -> Floats:
        """Room for the latents of a picture and for the nothing around it: the last channel tells them apart."""
        canvas = np.zeros((height + ABOVE, width + 2 * ABOVE, len(self.levels) + 1))
        canvas[ABOVE:, ABOVE:-ABOVE, -1] = UNIT
        return canvas

    def _paint(self, canvas: Floats, rows: Ints, columns: Ints, values: Floats) -> None:
        canvas[rows + ABOVE, columns + ABOVE, :-1] = values

    def _borders(self, canvas: Floats, rows: Ints, columns: Ints, values: Floats) -> Iterator[tuple[int, Ints]]:
        """Each dimension, and where its cells begin and end in 2^PRECISION: (n, L + 1).

        `values` (n, D) are looked at where they are told already: before a group is asked for, those before it are.
        """
        seen = [canvas[rows + ABOVE + down, columns + ABOVE + right] for down, right in NEAR]
        hidden = _rectified(_rectified(np.concatenate(seen, axis=1), self.near), self.mix)
        for group, inner, head in zip(self.config.groups, self.inner, self.heads, strict=True):
            found = _applied(_rectified(np.concatenate([hidden, values[:, : group.start]], axis=1), inner), head)
            means, scales = np.split(found.astype(np.int64), 2, axis=1)  # (n, dimensions of the group)
            low, high = (int(scale * UNIT) for scale in SCALES)
            octaves = ((scales.clip(low, high) - low) * STEPS_PER_OCTAVE + UNIT // 2) // UNIT
            for levels, alike in groupby(group, self.levels.__getitem__):  # at once, as far as they have as many levels
                dimensions = [*alike]
                told = slice(dimensions[0] - group.start, dimensions[-1] + 1 - group.start)
                borders = self._cut(levels, means[:, told], self.inverses[octaves[:, told]])
                yield from ((dimension, borders[:, number]) for number, dimension in enumerate(dimensions))

    def _cut(self, levels: int, means: Ints, inverses: Ints) -> Ints:
        """Logistic distributions (...) cut at the borders of cells, each of which gets some of it: (..., L + 1)."""
        inner = (2 * np.arange(1, levels) - levels) * UNIT // levels
        x = (inner - means.clip(-MOST, MOST)[..., None]) * inverses[..., None] // (WEIGHT * UNIT // FINE)
        shares = self.logistic[x.clip(-REACH * FINE, REACH * FINE) + REACH * FINE]
        total = 1 << PRECISION
        ends = np.zeros((*means.shape, 1), np.int64)
        shares = np.concatenate([ends, shares, ends + total], axis=-1)
        return np.arange(levels + 1) + shares * (total - levels) // total


def _lines(height: int, width: int) -> Iterator[tuple[Ints, Ints]]:
    """Rows and columns of the codes of each slanted line."""
    for line in range(width + SLANT * (height - 1)):
        first = max(0, -((width - 1 - line) // SLANT))
        rows = np.arange(first, min(height - 1, line // SLANT) + 1)
        yield rows, line - SLANT * rows


def _units(cells: Ints, levels: Ints | int) -> Floats:
    """Cells -> their latents, in units."""
    return ((2 * cells + 1 - levels) * UNIT // levels).astype(np.float64)


def _whole(weight: Tensor, bias: Tensor) -> Layer:
    """Weight (out, in) and bias (out,), rounded to whole numbers."""
    weight, bias = (weight.double() * WEIGHT).round(), (bias.double() * WEIGHT).round() * UNIT
    largest = float((weight.abs().sum(1) * MOST + bias.abs()).max())
    if not largest < EXACT:
        raise ValueError(
            f"sums of an entropy model must stay below 2^53, got {largest:.3g}; train it again, to smaller weights"
        )
    return weight.T.contiguous().numpy(), bias.numpy()


def _applied(x: Floats, layer: Layer) -> Floats:
    """Whole numbers (n, in) in units -> (n, out) in units."""
    weight, bias = layer
    return np.floor((x @ weight + bias) / WEIGHT)


def _rectified(x: Floats, layer: Layer) -> Floats:
    return _applied(x, layer).clip(0, MOST)
