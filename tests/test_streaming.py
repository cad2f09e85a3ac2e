"""Laws of tokenizers/streaming.py: however the input is cut, the same blocks, the same past, the same results."""

import pytest
import torch
from torch import Tensor, nn

from tokenloom.tokenizers.streaming import BlockStream, CausalConv, TrimmedStream, name_layers, with_past


def steps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conv(window: int, width: int = 5) -> CausalConv:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(window)
        return CausalConv(width, width, window)


# ------------------------------------------------------------------------------------------------- convolution in time


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("between", [(), (3,), (2, 3)], ids=str)
def test_a_causal_convolution_is_torchs_with_zeros_before_the_beginning(window, between):
    """For sound (B, t, C) and for clips (B, t, h, w, C) alike."""
    layer, x = conv(window), steps(2, 7, *between, 5)
    result = layer(x, {})
    weight = layer.linear.weight.unflatten(1, (window, 5)).movedim(1, 2)  # (out, in, window)
    lines = x.reshape(2, 7, -1, 5).permute(0, 2, 3, 1).flatten(0, 1)  # (lines, C, t)
    expected = nn.functional.conv1d(nn.functional.pad(lines, (window - 1, 0)), weight, layer.linear.bias)
    expected = expected.unflatten(0, (2, -1)).permute(0, 3, 1, 2).reshape(x.shape)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("sizes", [[1] * 7, [2, 5], [5, 2], [3, 1, 3]], ids=str)
def test_pieces_with_a_cache_give_what_the_whole_gives(sizes):
    layer, x = conv(4), steps(2, 7, 3, 5)
    cache: dict[str, Tensor] = {}
    pieces = [layer(piece, cache) for piece in x.split(sizes, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), layer(x, {}))
    assert cache.keys() == {layer.name} and cache[layer.name].shape == (2, 3, 3, 5)


def test_a_later_step_changes_nothing_before_it():
    layer, x = conv(3), steps(1, 6, 5)
    changed = x.clone()
    changed[:, 4] += 1
    one, other = layer(x, {}), layer(changed, {})
    assert torch.equal(one[:, :4], other[:, :4]) and not torch.equal(one[:, 4:], other[:, 4:])


def test_the_past_is_what_came_before_and_zeros_before_that():
    cache: dict[str, Tensor] = {}
    x = steps(1, 5, 2)
    assert torch.equal(with_past(x[:, :1], 2, "layer", cache), torch.cat([torch.zeros(1, 2, 2), x[:, :1]], dim=1))
    assert torch.equal(with_past(x[:, 1:4], 2, "layer", cache)[:, 1:], x[:, :4])
    assert torch.equal(cache["layer"], x[:, 2:4])


def test_layers_of_one_network_keep_their_pasts_apart():
    network = nn.ModuleDict({"a": conv(2), "b": nn.Sequential(nn.Identity(), conv(2))})
    name_layers(network)
    assert [layer.name for layer in network.modules() if isinstance(layer, CausalConv)] == ["a", "b.1"]


# -------------------------------------------------------------------------------------------------------------- blocks


def watched(first: int, block: int) -> tuple[BlockStream, list[Tensor]]:
    """A stream over (B, t, 2) that gives each block's sum as one step, and the blocks that it ran on."""
    blocks: list[Tensor] = []

    def run(x: Tensor) -> Tensor:
        assert x.is_contiguous()
        blocks.append(x)
        return x.sum(1, keepdim=True)

    return BlockStream(run, lambda x: x[:, :0], lambda x: x, first=first, block=block, time=1, time_out=1), blocks


@pytest.mark.parametrize(("first", "block"), [(1, 4), (1, 1), (3, 3), (1, 8)])
@pytest.mark.parametrize("length", [1, 2, 9, 13])
@pytest.mark.parametrize("size", [1, 2, 5, 7, 13])
def test_every_cut_runs_on_the_same_blocks(first, block, length, size):
    x = steps(2, length, 2)
    stream, blocks = watched(first, block)
    results = torch.cat([*(stream.push(chunk) for chunk in x.split(size, dim=1)), stream.finish()], dim=1)
    missing = first - length if length <= first else -(length - first) % block
    padded = torch.cat([x, x[:, -1:].expand(-1, missing, -1)], dim=1)
    assert torch.equal(torch.cat(blocks, dim=1), padded)
    assert [b.shape[1] for b in blocks] == [first, *[block] * (len(blocks) - 1)]
    assert torch.equal(results, torch.stack([b.sum(1) for b in blocks], dim=1))


def test_results_come_as_soon_as_they_are_complete_and_not_before():
    stream, _ = watched(1, 4)
    counts = [stream.push(steps(1, n, 2)).shape[1] for n in (1, 3, 1, 2, 9)]
    assert counts == [1, 0, 1, 0, 2]
    assert stream.finish().shape == (1, 1, 2)


def test_what_is_kept_does_not_grow():
    stream, _ = watched(1, 4)
    for _ in range(50):
        stream.push(steps(1, 7, 2))
        assert stream.pending.shape[1] < 4 and stream.pending.untyped_storage().nbytes() < 4 * 2 * 4


def test_the_caller_may_reuse_a_buffer():
    x, (stream, blocks) = steps(1, 6, 2), watched(4, 4)
    buffer = x[:, :3].clone()
    stream.push(buffer)
    buffer.copy_(x[:, 3:])
    stream.push(buffer)
    buffer.zero_()
    assert torch.equal(blocks[0], x[:, :4])


def test_after_the_end_a_stream_takes_nothing():
    stream, _ = watched(1, 4)
    stream.push(steps(1, 3, 2))
    stream.finish()
    with pytest.raises(ValueError, match="a finished stream takes no more chunks"):
        stream.push(steps(1, 1, 2))
    with pytest.raises(ValueError, match=r"finish\(\) must come once"):
        stream.finish()


def test_a_stream_of_nothing_has_no_end():
    with pytest.raises(ValueError, match="after at least one push"):
        watched(1, 4)[0].finish()


def test_chunks_of_another_size_are_refused():
    stream, _ = watched(1, 4)
    stream.push(steps(2, 3, 2))
    with pytest.raises(ValueError, match=r"of one size, got \(1, 2\) after \(2, 2\)"):
        stream.push(steps(1, 3, 2))


# ---------------------------------------------------------------------------------------------------------- what is due


@pytest.mark.parametrize("cuts", [[7], [1] * 7, [4, 3], [2, 5]], ids=str)
def test_what_fills_up_the_last_block_gives_no_results(cuts):
    """Blocks of four steps, a result of each step two steps later: seven steps have nine, two of them of the flush."""
    late = 2

    def open_stream() -> TrimmedStream:
        before = torch.zeros(1, late)

        def run(block: Tensor) -> Tensor:
            nonlocal before
            both = torch.cat([before, block], dim=1)
            before = both[:, -late:]
            return both[:, :-late]

        blocks = BlockStream(run, lambda x: x[:, :0], lambda x: x, first=4, block=4, time=1, time_out=1)
        return TrimmedStream(blocks, lambda pushed: pushed + late, flush=late)

    x = torch.arange(1.0, 8.0)[None]
    stream = open_stream()
    pieces = [*(stream.push(piece) for piece in x.split(cuts, dim=1)), stream.finish()]
    assert torch.cat(pieces, dim=1).tolist() == [[0, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert torch.equal(open_stream().whole(x), torch.cat(pieces, dim=1))
    with pytest.raises(ValueError, match="finish"):
        stream.finish()
