"""Laws of tokenizers/code_packer.py: unpack undoes pack, at the bits that the model counts, by exact arithmetic."""

import hashlib

import numpy as np
import pytest
import torch
from einops import rearrange

from tests.doubles import toy_entropy_model
from tokenloom.tokenizers.ans import PRECISION
from tokenloom.tokenizers.code_packer import (
    EXACT,
    FINE,
    MOST,
    REACH,
    SLANT,
    STEPS_PER_OCTAVE,
    WEIGHT,
    CodePacker,
    _applied,
    _inverses,
    _lines,
    _logistic,
)
from tokenloom.tokenizers.entropy_model import ABOVE, LEFT, EntropyModel, EntropyModelConfig

MANY = (127, 31, 11, 7, 5, 3, 3, 2)


def random_codes(model, *grid: int, seed: int = 0) -> torch.Tensor:
    """Cells (h, w, D)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(level, grid, generator=generator) for level in model.config.levels], dim=-1)


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (7, 1), (2, 3), (6, 11), (13, 4)], ids=str)
@pytest.mark.parametrize(("levels", "groups"), [((3,), 1), ((9, 5, 3, 2), 2), (MANY, 4)], ids=str)
def test_unpacking_undoes_packing(grid, levels, groups):
    model = toy_entropy_model(1, levels=levels, num_groups=groups)
    packer, codes = CodePacker(model), random_codes(model, *grid)
    assert torch.equal(packer.unpack(packer.pack(codes), grid), codes)


def test_the_bytes_are_as_many_as_the_model_counts():
    """What rounding costs, and the fineness of scales, is far below a percent."""
    model = toy_entropy_model(2, levels=MANY, num_groups=4)
    codes = random_codes(model, 24, 30)
    latents = rearrange(model.quantizer.midpoints(codes), "h w D -> 1 D h w")
    counted = float(model(latents).detach().sum()) / 8
    assert len(CodePacker(model).pack(codes)) == pytest.approx(counted, rel=0.004, abs=12)


def test_a_model_that_was_saved_reads_what_it_packed_before(tmp_path):
    """Its weights are stored in a smaller type than it was trained in."""
    model = toy_entropy_model(6, levels=MANY, num_groups=4, storage_dtype="float16")
    model.save_pretrained(tmp_path)
    loaded = EntropyModel.from_pretrained(tmp_path)
    assert not torch.equal(loaded.mix.weight, model.mix.weight)
    codes = random_codes(model, 9, 14)
    data = CodePacker(model).pack(codes)
    assert CodePacker(loaded).fingerprint == CodePacker(model).fingerprint
    assert torch.equal(CodePacker(loaded).unpack(data, (9, 14)), codes)


@pytest.mark.parametrize(("height", "width"), [(5, 8), (40, 1), (40, 2), (1, 9), (30, 7), (1, 1)])
def test_every_code_is_told_after_those_that_it_is_foretold_by(height, width):
    told = np.zeros((height, width), bool)
    for rows, columns in _lines(height, width):
        assert len(rows) <= min(height, -(-width // SLANT))  # of a tall picture, no line costs its height
        for row, column in zip(rows, columns, strict=True):
            assert told[max(0, row - ABOVE) : row, max(0, column - ABOVE) : column + ABOVE + 1].all()
            assert told[row, max(0, column - LEFT) : column].all()
        assert not told[rows, columns].any()
        told[rows, columns] = True
    assert told.all()


def test_layers_are_exact_at_their_limits():
    """Beside Python's whole numbers, which have no limit, and in another order of the sums."""
    random = np.random.default_rng(0)
    x = random.integers(-MOST, MOST + 1, (7, 300)).astype(np.float64)
    largest = EXACT // MOST // 301  # with the bias as one more input
    weight = random.integers(-largest, largest + 1, (300, 5)).astype(np.float64)
    bias = random.integers(-largest, largest + 1, 5).astype(np.float64) * MOST
    x[0], weight[:, 0] = MOST, largest  # and none may be larger
    expected = [
        [
            (sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) + int(c)) // WEIGHT
            for column, c in zip(weight.T, bias, strict=True)
        ]
        for row in x
    ]
    assert _applied(x, (weight, bias)).astype(np.int64).tolist() == expected
    order = random.permutation(300)
    assert np.array_equal(_applied(x[:, order], (weight[order], bias)), _applied(x, (weight, bias)))


def test_no_processor_could_round_the_tables_otherwise():
    """What is rounded lies clear of the halves, by far more than exp and powers differ between libraries."""
    x = np.arange(-REACH * FINE, REACH * FINE + 1) / FINE
    scales = WEIGHT * 2 ** (8 - np.arange(81) / STEPS_PER_OCTAVE)
    for values, table in (((1 << PRECISION) / (1 + np.exp(-x)), _logistic()), (scales, _inverses())):
        inexact = values[np.abs(values % 1 - 0.5) < 0.5]  # powers of two are whole, whoever computes them
        assert np.abs(inexact % 1 - 0.5).min() > 1e-7 and np.abs(values - table).max() <= 0.5
    assert _logistic()[REACH * FINE] == 1 << PRECISION - 1 and (np.diff(_logistic()) >= 0).all()


def test_the_bytes_are_those_of_every_machine_and_every_version():
    """Weights and codes by a rule of whole numbers; a change of these bytes makes files unreadable: a new format."""
    model = EntropyModel(EntropyModelConfig(levels=(31, 9, 5), width=8, num_groups=2))
    with torch.no_grad():
        for salt, parameter in enumerate(model.parameters()):
            numbers = torch.arange(parameter.numel()).view(parameter.shape)
            parameter.copy_(((numbers * 7919 + salt * 104_729) % 127 - 63) / 128)  # exact in float16, too
    rows, columns = torch.arange(9)[:, None], torch.arange(14)[None]
    codes = torch.stack([(rows * a + columns * b) % level for a, b, level in ((3, 5, 31), (2, 7, 9), (1, 3, 5))], -1)
    data = CodePacker(model).pack(codes)
    assert len(data) == 196
    assert hashlib.sha256(data).hexdigest() == "e0d1fb910f31eef99069e2729a3e8cd02b85d6c6b9db574a3e2abcbb68e153f0"
    assert torch.equal(CodePacker(model).unpack(data, (9, 14)), codes)


def test_damage_is_refused_or_gives_other_codes_and_never_more():
    model = toy_entropy_model(3, levels=MANY, num_groups=4)
    packer, codes = CodePacker(model), random_codes(model, 6, 7)
    data = packer.pack(codes)
    refused = 0
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        try:
            assert not torch.equal(packer.unpack(broken, (6, 7)), codes)
        except ValueError:
            refused += 1
    assert refused > 0.9 * len(data)
    for end in range(0, len(data), 3):
        with pytest.raises(ValueError, match="cut off|damaged"):
            packer.unpack(data[:end], (6, 7))


def test_another_grid_or_model_is_refused():
    model = toy_entropy_model(4, levels=MANY, num_groups=4)
    packer, codes = CodePacker(model), random_codes(model, 6, 7)
    data = packer.pack(codes)
    for wrong in ((6, 8), (5, 7), (7, 6)):
        with pytest.raises(ValueError, match="damaged|cut off"):
            packer.unpack(data, wrong)
    other = CodePacker(toy_entropy_model(5, levels=MANY, num_groups=4))
    assert (
        other.fingerprint
        != packer.fingerprint
        == CodePacker(toy_entropy_model(4, levels=MANY, num_groups=4)).fingerprint
    )
    with pytest.raises(ValueError, match="damaged|cut off"):
        other.unpack(data, (6, 7))


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (torch.zeros(2, 2, dtype=torch.long), r"must be \(h, w, 4\)"),
        (torch.zeros(0, 3, 4, dtype=torch.long), r"must be \(h, w, 4\)"),
        (torch.zeros(2, 3, 5, dtype=torch.long), r"must be \(h, w, 4\)"),
        (torch.tensor([[[0, 0, 3, 0]]]), "must lie in"),
        (torch.tensor([[[0, -1, 0, 0]]]), "must lie in"),
    ],
)
def test_what_is_no_grid_of_codes_is_refused(codes, told):
    with pytest.raises(ValueError, match=told):
        CodePacker(toy_entropy_model()).pack(codes)


def test_weights_that_sums_could_not_hold_are_refused():
    model = toy_entropy_model()
    with torch.no_grad():
        model.mix.weight[0, 0] = 2.0**29 / WEIGHT
    with pytest.raises(ValueError, match="must stay below 2\\^53"):
        CodePacker(model)
