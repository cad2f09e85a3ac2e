"""Laws of pipelines/code_diagnostics.py: codes, levels and bits are counted as by hand."""

import math

import pytest
import torch

from tokenloom.pipelines.code_diagnostics import code_scores, entropy_cliff, level_histogram
from tokenloom.tokenizers.scalar_quantizer import ScalarQuantizer


@pytest.mark.parametrize("shape", [(8,), (2, 2, 2), (1, 2, 2, 2)], ids=str)
def test_codes_levels_and_bits_are_those_of_pictures_and_clips_alike(shape):
    cells = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1], [1, 1], [3, 2], [0, 0], [0, 0]]).view(*shape, 2)
    scores, levels = code_scores(cells, ScalarQuantizer((4, 3)))
    assert scores["codes_in_use"] == 3
    assert scores["bits_per_code"] == pytest.approx(0.5 * 1 + 0.375 * math.log2(8 / 3) + 0.125 * 3)
    torch.testing.assert_close(levels, torch.tensor([[0.5, 0.375, 0, 0.125], [0.5, 0.375, 0.125, 0]]))


def test_codes_without_ids_are_not_counted():
    assert code_scores(torch.zeros(4, 40, dtype=torch.long), ScalarQuantizer((9,) * 40))[0] == {}


@pytest.mark.parametrize(
    ("pictures", "codes", "expected"),
    [(60_000, 4096, 2), (4096, 4096, 1), (4097, 4096, 2), (1, 16, 1), (1 << 40, 2, 40)],
)
def test_the_entropy_cliff_is_the_number_of_codes_that_tell_the_pictures_apart(pictures, codes, expected):
    assert entropy_cliff(pictures, codes) == expected
    assert codes**expected >= pictures and (expected == 1 or codes ** (expected - 1) < pictures)


def test_the_histogram_has_a_bar_as_high_as_its_share():
    sheet = level_histogram(torch.tensor([[0.5, 0.25, 0.0, 0.25], [1.0, 0.0, 0.0, 0.0]]))
    blue = [sum(sheet.getpixel((14 * column + 14, y)) == (45, 80, 220) for y in range(8, 68)) for column in range(3)]
    assert blue[0] == pytest.approx(30, abs=1) and blue[1] == pytest.approx(15, abs=1) and blue[2] <= 1
