"""Laws of data/resample.py: what both rates can hold stays, what the lower one cannot hold goes, any cut is the same."""

import math
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.data.resample import Resampler, resample

PAIRS = [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (22_050, 16_000), (16_000, 44_100), (96_000, 8_000)]
PAIRS += [(11_025, 48_000), (44_101, 4_000), (4_000, 4_001)]
each_pair = pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)


def tone(frequency: float, rate: int, seconds: float = 0.5) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(int(rate * seconds)).double() / rate).float()[None]


def middle(sound: torch.Tensor, rate: int) -> torch.Tensor:
    return sound[:, rate // 10 : -(rate // 10)]


def noise(samples: int, channels: int = 1) -> torch.Tensor:
    return torch.rand(channels, samples, generator=torch.Generator().manual_seed(3)) * 2 - 1


@each_pair
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.89])
def test_a_tone_that_both_rates_hold_is_the_same_tone(rate_in, rate_out, share):
    frequency = share * min(rate_in, rate_out) / 2
    made, expected = resample(tone(frequency, rate_in), rate_in, rate_out), tone(frequency, rate_out)
    length = min(made.shape[1], expected.shape[1])
    error = middle(made[:, :length] - expected[:, :length], rate_out).abs().max()
    assert error < 3e-5  # -90 dB


@pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] > pair[1]])
@pytest.mark.parametrize("share", [1.01, 1.2, 1.7])
def test_a_tone_that_the_lower_rate_cannot_hold_does_not_fold_back(rate_in, rate_out, share):
    if share * rate_out < rate_in * 0.99:
        made = resample(tone(share * rate_out / 2, rate_in), rate_in, rate_out)
        assert middle(made, rate_out).abs().max() < 3e-5


@each_pair
def test_a_constant_stays_what_it_is(rate_in, rate_out):
    made = resample(torch.full((1, rate_in // 2), 0.7), rate_in, rate_out)
    torch.testing.assert_close(middle(made, rate_out), torch.full_like(middle(made, rate_out), 0.7), atol=1e-6, rtol=0)


@each_pair
def test_every_output_within_the_sound_comes_and_no_other(rate_in, rate_out):
    for samples in (1, 2, 441, 12_345):
        assert resample(noise(samples), rate_in, rate_out).shape == (
            1,
            math.ceil(Fraction(samples * rate_out, rate_in)),
        )


@settings(max_examples=30, deadline=None)
@given(pair=st.sampled_from([*PAIRS[:7], (16_000, 16_000)]), cuts=st.lists(st.integers(0, 9_000), max_size=6))
def test_any_cut_gives_the_same_bits(pair, cuts):
    sound = noise(9_000, channels=2)
    edges = [0, *sorted(cuts), 9_000]
    resampler = Resampler(*pair)
    pieces = [resampler.push(sound[:, begin:end]) for begin, end in zip(edges, edges[1:], strict=False)]
    assert torch.equal(torch.cat([*pieces, resampler.finish().expand(2, -1)], dim=1), resample(sound, *pair))


@settings(max_examples=30, deadline=None)
@given(pair=st.sampled_from([*PAIRS[:7], (16_000, 16_000)]), share=st.floats(0, 1))
def test_starting_late_gives_the_same_bits(pair, share):
    sound = noise(40_000)
    whole = resample(sound, *pair)
    first = int(share * (whole.shape[1] - 1))
    resampler = Resampler(*pair, first_output=first)
    made = torch.cat([resampler.push(sound[:, resampler.first_input :]), resampler.finish()], dim=1)
    assert torch.equal(made, whole[:, first:])
    reach = pair[0] / min(pair) * 200 + 4096 * max(1, pair[0] / pair[1]) * 10
    assert resampler.first_input >= first * pair[0] / pair[1] - reach  # little is read for nothing


def swr(sound: torch.Tensor, rate_in: int, rate_out: int) -> torch.Tensor:
    """FFmpeg's own resampler, with a filter about as long as ours."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate_in, format="flt", layout="mono", time_base=Fraction(1, rate_in))
    turn = graph.add("aresample", f"{rate_out}:filter_size=128:phase_shift=12:cutoff=0.95:filter_type=kaiser")
    sink = graph.add("abuffersink")
    source.link_to(turn)
    turn.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(sound.numpy(), format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_in, 0, Fraction(1, rate_in)
    source.push(frame)
    source.push(None)
    made = []
    while True:
        try:
            made.append(sink.pull().to_ndarray().reshape(1, -1))
        except (av.EOFError, av.BlockingIOError):
            return torch.from_numpy(np.concatenate(made, axis=1))


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS[:6])
def test_ffmpeg_resamples_to_the_same(rate_in, rate_out):
    """On sound below 0.8 of what both rates hold, where its filter and ours both pass everything."""
    steps = torch.linspace(0.02, 0.8, 23) * min(rate_in, rate_out) / 2
    sound = sum(tone(float(frequency) + 0.3, rate_in) for frequency in steps) / 23
    ours, theirs = resample(sound, rate_in, rate_out), swr(sound, rate_in, rate_out)
    length = min(ours.shape[1], theirs.shape[1])
    assert length > 0.49 * rate_out
    assert middle(ours[:, :length] - theirs[:, :length], rate_out).abs().max() < 1e-3


@pytest.mark.parametrize("rates", [(3_999, 16_000), (16_000, 192_001), (0, 1)])
def test_rates_beyond_the_limits_are_refused(rates):
    with pytest.raises(ValueError, match="from 4,000 to 192,000 Hz"):
        Resampler(*rates)
