"""Sound at another sample rate: a polyphase sinc filter under a Kaiser window, exact for every way of cutting.

Output n is the sound at input position n M / L, where the rates are as L to M (Crochiere & Rabiner 1983, ch. 2). The
filter keeps what lies below 0.9 of the lower rate's Nyquist frequency and is 100 dB down from that frequency on
(Kaiser's formulas for the window), so nothing audible folds back. Before the beginning and behind the end is silence.

C channels, S samples. Whatever the chunks, the same matrix products run on the same fixed blocks, counted from the
first sample of the sound, so the samples are the same bits.
"""

import math
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor

MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz; the filters of all pairs between them fit into 150 MB
NAME = "kaiser sinc 100 dB"  # of the filter; to be changed with it
ATTENUATION = 100.0  # dB
TRANSITION = 0.1  # of the lower rate's Nyquist frequency: where the filter goes from 1 to 0
BLOCK = 4096  # outputs that are computed at once; more where a period of the phases is longer
GROUP = 32  # outputs that share one window of inputs, which makes a matrix product of them


class Resampler:
    """Chunks (C, S) at `rate_in` -> chunks at `rate_out` (Hz), float32, as they become complete.

    The outputs from number `first_output` on; the inputs to be pushed are those from number `first_input` on.
    """

    def __init__(self, rate_in: int, rate_out: int, first_output: int = 0):
        for rate in (rate_in, rate_out):
            if not MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(f"sample rates must be from {MIN_RATE:,} to {MAX_RATE:,} Hz, got {rate:,}")
        self.rate_in, self.rate_out = rate_in, rate_out
        self.outputs, self.inputs, self.group, self.reach = _period(rate_in, rate_out)  # of a period of phases
        self.periods = max(1, BLOCK // self.outputs)  # of a block
        block, skipped = divmod(first_output, self.periods * self.outputs)
        begin = block * self.periods * self.inputs - self.reach  # of the block's window
        self.first_input = max(0, begin)
        self.skip = skipped  # outputs of the first block that nobody asked for
        self.silence = self.first_input - begin  # before the beginning
        if rate_in == rate_out:
            self.first_input, self.skip = first_output, 0
        self.pushed, self.given = self.first_input, first_output
        self.pending: Tensor | None = None

    def push(self, chunk: Tensor) -> Tensor:
        """The outputs (C, S), possibly none, that the next inputs (C, S) complete."""
        self.pushed += chunk.shape[1]
        if self.rate_in == self.rate_out:
            return chunk.float()
        if self.pending is None:
            self.pending = chunk.new_zeros(len(chunk), self.silence)
        steps = torch.cat([self.pending, chunk], dim=1)
        hop = self.periods * self.inputs
        window = hop + 2 * self.reach + 1
        made, start = [chunk[:, :0]], 0
        while steps.shape[1] - start >= window:
            outputs = self._block(steps[:, start : start + window])
            made.append(outputs[:, self.skip :])
            self.skip, start = 0, start + hop
        self.pending = steps[:, start:].clone()
        result = torch.cat(made, dim=1)
        self.given += result.shape[1]
        return result

    def finish(self) -> Tensor:
        """The rest, up to the last output that lies within the sound. Nothing can be pushed after it."""
        if self.pending is None:  # one rate, or nothing was pushed
            return torch.zeros(1, 0)
        end = -(-self.pushed * self.rate_out // self.rate_in)  # outputs in all
        left, silence = end - self.given, self.pending.new_zeros(len(self.pending), self.periods * self.inputs)
        made = [self.pending[:, :0]]
        while (missing := left - sum(chunk.shape[1] for chunk in made)) > 0:
            made.append(self.push(silence)[:, :missing])
        return torch.cat(made, dim=1)

    def _block(self, window: Tensor) -> Tensor:
        """Inputs (C, periods M + 2 reach + 1) -> outputs (C, periods L)."""
        weights, starts = _filter(self.rate_in, self.rate_out)
        taps = weights.shape[1]
        windows = torch.stack([window[:, start:].unfold(1, taps, self.inputs)[:, : self.periods] for start in starts])
        outputs = torch.bmm(rearrange(windows, "g C p k -> g (C p) k"), weights)
        return rearrange(outputs, "g (C p) i -> C (p g i)", C=len(window))


def resample(sound: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Sound (C, S) at `rate_in` -> (C, ceil(S rate_out / rate_in)) at `rate_out`, float32."""
    resampler = Resampler(rate_in, rate_out)
    return torch.cat([resampler.push(sound.float()), resampler.finish().expand(len(sound), -1)], dim=1)


def _period(rate_in: int, rate_out: int) -> tuple[int, int, int, int]:
    """Outputs and inputs of one period of phases, outputs in a group, and inputs on each side of an output."""
    common = math.gcd(rate_in, rate_out)
    few = -(-GROUP * common // rate_out)  # periods, that there be a group of them
    outputs, inputs = few * rate_out // common, few * rate_in // common
    group = max(size for size in range(1, GROUP + 1) if outputs % size == 0)
    taps = (ATTENUATION - 7.95) / (14.36 * TRANSITION / 2) * max(1, rate_in / rate_out)  # Kaiser's, at the input's rate
    return outputs, inputs, group, math.ceil(taps / 2)


@lru_cache(maxsize=4)
def _filter(rate_in: int, rate_out: int) -> tuple[Tensor, list[int]]:
    """Weights (g, k, i) of the k inputs of group g for its outputs i, and where in the block each group's inputs begin.

    The weights of an output sum to 1, so that a constant stays what it is.
    """
    outputs, inputs, group, reach = _period(rate_in, rate_out)
    cutoff = min(1.0, rate_out / rate_in) * (1 - TRANSITION / 2)  # of the input's Nyquist frequency
    beta = 0.1102 * (ATTENUATION - 8.7)
    first = torch.arange(0, outputs, group) * inputs // outputs  # the input at or before the first output of each group
    taps = torch.arange(-((1 - group) * inputs // outputs) + 1 + 2 * reach) - reach
    positions = torch.arange(outputs).double().view(-1, 1, group) * inputs / outputs - first.view(-1, 1, 1)
    weights = torch.empty(len(first), len(taps), group)
    for part in torch.arange(len(first)).split(64):  # a few at a time: many numbers are made for each
        distance = taps[:, None] - positions[part]  # (g, k, i)
        window = torch.i0(beta * (1 - (distance / reach) ** 2).clamp(min=0).sqrt()) * (distance.abs() <= reach)
        sinc = torch.sinc(cutoff * distance) * window
        weights[part] = (sinc / sinc.sum(dim=1, keepdim=True)).float()
    return weights, first.tolist()
