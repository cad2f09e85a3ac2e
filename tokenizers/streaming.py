"""Exact streaming: media of any length through a network that always runs on the same fixed block.

t steps of time, C channels. Two parts, which know neither pictures nor sound. `CausalConv` is a convolution over time
alone that carries its past from block to block in a cache. `BlockStream` cuts whatever a caller pushes into the same
blocks in the same order; where whole-clip encoding is that same loop, the results are bit-identical for every way of
cutting the input (one machine, torch, type and number of threads), and memory does not grow with length.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Cache = dict[str, Tensor]  # name of a layer -> the steps before the next block; empty where a medium begins


def with_past(x: Tensor, past: int, name: str, cache: Cache) -> Tensor:
    """Steps (B, t, ..., C) behind the `past` steps before them: (B, past + t, ..., C). The cache keeps the last ones.

    Before the beginning there are zeros. One call with a whole clip and calls with its pieces give the same steps.
    """
    before = cache[name] if name in cache else x.new_zeros(len(x), past, *x.shape[2:])
    steps = torch.cat([before, x], dim=1)
    cache[name] = steps[:, steps.shape[1] - past :]
    return steps


def windows(x: Tensor, window: int, name: str, cache: Cache) -> Tensor:
    """Each step behind the `window` - 1 before it: (B, t, ..., C) -> (B, t, ..., window C), the oldest first."""
    steps = with_past(x, window - 1, name, cache)
    return torch.cat([steps[:, start : start + x.shape[1]] for start in range(window)], dim=-1)


class CausalConv(nn.Module):
    """A convolution over time alone: y_i = W [x_{i-n+1}, ..., x_i] + b, with n = `window` steps.

    Works on (B, t, ..., C), channels last, as one matrix product at every place between time and channels: sound has
    none there, clips have rows and columns. `name` is the layer's key in the cache; `name_layers` sets it.
    """

    def __init__(self, fan_in: int, fan_out: int, window: int):
        super().__init__()
        self.linear = nn.Linear(window * fan_in, fan_out)
        self.window = window
        self.name = ""

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        """Steps (B, t, ..., fan_in) -> (B, t, ..., fan_out), from each step and the `window` - 1 before it."""
        return self.linear(self.windows(x, cache))

    def windows(self, x: Tensor, cache: Cache) -> Tensor:
        """What the product is taken of: (B, t, ..., window fan_in), the oldest step first."""
        return windows(x, self.window, self.name, cache)


def name_layers(module: nn.Module) -> None:
    """Give every `CausalConv` inside `module` its own name there, by which it keeps its past."""
    for name, layer in module.named_modules():
        if isinstance(layer, CausalConv):
            layer.name = name


class BlockStream:
    """Chunks of any length in, results out as soon as they are complete.

    `run` gets the first `first` steps and then `block` steps at a time, always as a fresh contiguous tensor, and keeps
    its own caches. `time` is the axis of the steps in the input, `time_out` in what `run` returns. `nothing` is what a
    push without a complete block returns, given the chunk: a result without steps. `check` refuses bad chunks.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        nothing: Callable[[Tensor], Tensor],
        check: Callable[[Tensor], Tensor],
        *,
        first: int,
        block: int,
        time: int,
        time_out: int,
    ):
        self.run, self.nothing, self.check = run, nothing, check
        self.next, self.block, self.time, self.time_out = first, block, time, time_out
        self.pending: Tensor | None = None  # steps of a block that is not complete
        self.finished = False

    def push(self, chunk: Tensor) -> Tensor:
        """The results that `chunk` completes, in order, possibly none.

        Raises:
            ValueError: the chunk is refused or of another size than those before, or the stream is finished.
        """
        if self.finished:
            raise ValueError("a finished stream takes no more chunks; open another with stream()")
        chunk = self.check(chunk)
        if self.pending is None:
            self.pending = chunk.narrow(self.time, 0, 0)
        if self._size(chunk) != self._size(self.pending):
            raise ValueError(
                f"chunks of a stream must be of one size, got {self._size(chunk)} after {self._size(self.pending)} "
                "(without time); open a stream for each"
            )
        results: list[Tensor] = []
        steps, start = torch.cat([self.pending, chunk], dim=self.time), 0
        while steps.shape[self.time] - start >= self.next:
            block = steps.narrow(self.time, start, self.next)
            results.append(self.run(block.clone(memory_format=torch.contiguous_format)))
            start, self.next = start + self.next, self.block
        self.pending = steps.narrow(self.time, start, steps.shape[self.time] - start).clone()
        return torch.cat(results, dim=self.time_out) if results else self.nothing(chunk)

    def finish(self) -> Tensor:
        """The rest: a block that is not complete is filled by repeating its last step. The stream is over.

        Raises:
            ValueError: nothing was pushed, or the stream is finished.
        """
        if self.finished or self.pending is None:
            raise ValueError("finish() must come once, after at least one push(); open another stream with stream()")
        steps, left = self.pending, self.pending.shape[self.time]
        if left:
            last = steps.narrow(self.time, left - 1, 1)
            steps = last.repeat_interleave(self.next - left, dim=self.time)
        result = self.push(steps) if left else self.nothing(steps)
        self.finished = True
        return result

    def whole(self, media: Tensor) -> Tensor:
        """All results of a medium that is there at once. As `push` and `finish`, on a fresh stream."""
        return torch.cat([self.push(media), self.finish()], dim=self.time_out)

    def _size(self, chunk: Tensor) -> tuple[int, ...]:
        return (*chunk.shape[: self.time], *chunk.shape[self.time + 1 :])


class TrimmedStream:
    """A `BlockStream` of which only those results count that are due to what was pushed.

    `due` tells how many steps of results so many pushed steps have in all. At the end the last step is repeated
    `flush` times, for results that reach beyond it, and until the block is full.
    """

    def __init__(self, stream: BlockStream, due: Callable[[int], int], *, flush: int = 0):
        self.stream, self.due, self.flush = stream, due, flush
        self.pushed = self.given = 0  # steps
        self.last: Tensor | None = None  # step

    def push(self, chunk: Tensor) -> Tensor:
        """The results that `chunk` completes, in order, possibly none. Refuses what `BlockStream.push` refuses."""
        results = self.stream.push(chunk)
        time = self.stream.time
        if chunk.shape[time]:
            self.last = chunk.narrow(time, chunk.shape[time] - 1, 1).clone()
        self.pushed += chunk.shape[time]
        self.given += results.shape[self.stream.time_out]
        return results

    def finish(self) -> Tensor:
        """The rest of what is due. The stream is over.

        Raises:
            ValueError: nothing was pushed, or the stream is finished.
        """
        time_out = self.stream.time_out
        if self.last is None or self.stream.finished:
            return self.stream.finish()  # which refuses
        tail = [self.stream.push(self.last.repeat_interleave(self.flush, self.stream.time))] if self.flush else []
        results = torch.cat([*tail, self.stream.finish()], dim=time_out)
        return results.narrow(time_out, 0, self.due(self.pushed) - self.given)

    def whole(self, media: Tensor) -> Tensor:
        """All results of a medium that is there at once. As `push` and `finish`, on a fresh stream."""
        return torch.cat([self.push(media), self.finish()], dim=self.stream.time_out)
