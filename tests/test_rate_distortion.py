"""Laws of pipelines/rate_distortion.py: bits are counted whole, and other formats get exactly as many as we take."""

import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.doubles import toy_image_tokenizer, toy_photo
from tokenloom.pipelines.rate_distortion import (
    JPEG,
    OTHERS,
    Rate,
    by_codes,
    compare_with_formats,
    format_at,
    mean,
    rate,
)
from tokenloom.scripts import cli, rate_distortion
from tokenloom.tokenizers.patches import PaletteTokenizer

FORMATS = {**JPEG, **OTHERS}
each_format = pytest.mark.parametrize("name", FORMATS)


def rate_of(image: Image.Image, quality: int, name: str) -> Rate:
    stream = FORMATS[name](image, quality)
    return rate(image, Image.open(io.BytesIO(stream)).convert("RGB"), 8 * len(stream))


def test_figures_are_those_of_8_bit_pictures():
    black = Image.new("RGB", (16, 11))
    found = rate(black, Image.new("RGB", (16, 11), (5, 5, 5)), bits=88)
    assert found.psnr == pytest.approx(20 * math.log10(255 / 5), abs=1e-4) and found.bits_per_pixel == 0.5
    assert rate(black, black, 1).ssim == pytest.approx(1) and rate(black, black, 1).psnr == 100


@each_format
@pytest.mark.parametrize("quality", [2, 30, 77, 99])
def test_at_the_size_of_a_quality_a_format_has_the_figures_of_that_quality(quality, name):
    expected = rate_of(toy_photo(), quality, name)
    found, _ = format_at(toy_photo(), expected.bits_per_pixel, FORMATS[name])
    assert found.bits_per_pixel == expected.bits_per_pixel
    assert found.psnr == pytest.approx(expected.psnr, abs=0.35)  # neighbours may take the same number of bytes
    assert found.ssim == pytest.approx(expected.ssim, abs=0.02)


def test_between_two_qualities_figures_lie_between_theirs():
    image = toy_photo()
    low, high = rate_of(image, 50, "4:4:4"), rate_of(image, 60, "4:4:4")
    bits = (low.bits_per_pixel + high.bits_per_pixel) / 2
    found, _ = format_at(image, bits, JPEG["4:4:4"])
    assert low.psnr < found.psnr < high.psnr and found.bits_per_pixel == bits


@each_format
def test_beyond_its_range_a_format_is_taken_at_its_nearest(name):
    image = toy_photo()
    assert format_at(image, 1e-3, FORMATS[name])[0] == rate_of(image, 1, name)
    assert format_at(image, 1e3, FORMATS[name])[0] == rate_of(image, 100, name)


@each_format
def test_no_format_carries_metadata(name):
    image = toy_photo()
    image.info["icc_profile"] = b"x" * 5000
    image.getexif()[0x010E] = "y" * 5000
    assert FORMATS[name](image, 50) == FORMATS[name](toy_photo(), 50)


@pytest.mark.parametrize(("size", "codes"), [((16, 12), 12), ((17, 13), 20)])
def test_our_bits_are_those_of_every_code_and_the_padded_ones(size, codes):
    tokenizer = toy_image_tokenizer()
    bits, decoded = by_codes(tokenizer)(toy_photo(*size))
    assert bits == pytest.approx(codes * math.log2(tokenizer.vocab_size))
    assert decoded.size == size


def test_a_lossless_tokenizer_has_all_of_both_figures():
    colors = torch.tensor([[0, 0, 0], [200, 10, 90], [255, 255, 255]], dtype=torch.uint8)
    indices = np.random.default_rng(0).integers(0, 3, (16, 24))
    image = Image.fromarray(colors.numpy()[indices])
    found, sheet = compare_with_formats(by_codes(PaletteTokenizer.from_colors(colors)), image)
    assert found.ours.psnr == 100 and found.ours.bits_per_pixel == pytest.approx(math.log2(3))
    assert found.ours.ssim == pytest.approx(1) and found.jpeg.psnr < 100
    assert np.array_equal(np.asarray(sheet)[:, :24], np.asarray(image))
    assert np.array_equal(np.asarray(sheet)[:, 28:52], np.asarray(image))


def test_jpeg_keeps_color_where_that_is_better():
    """Fine stripes in colors of one brightness: 4:2:0 loses them."""
    stripes = np.zeros((64, 64, 3), np.uint8) + np.array([120, 60, 60], np.uint8)
    stripes[:, ::2] = (60, 92, 60)
    found, _ = compare_with_formats(by_codes(toy_image_tokenizer(levels=(250, 250, 250))), Image.fromarray(stripes))
    assert found.subsampling == "4:4:4"


def test_means_are_plain():
    assert mean([Rate(0.2, 20.0, 0.5), Rate(0.4, 30.0, 0.7)]) == Rate(*map(pytest.approx, (0.3, 25.0, 0.6)))


def test_the_command_compares_every_picture_and_names_those_it_cannot(tmp_path, capsys):
    toy_image_tokenizer().save_pretrained(tmp_path / "codes")
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        toy_photo(seed=number).save(tmp_path / "pictures" / f"{number}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "tiny.png")
    words = ["--tokenizer", tmp_path / "codes", "--data", tmp_path / "pictures", "--out", tmp_path / "out"]
    assert cli.main_of(rate_distortion.build_parser, rate_distortion.run, [*map(str, words)]) == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [text.split()[0] for text in lines[:4]] == ["picture", "0.png", "1.png", "mean"]
    assert "skipped tiny.png: SSIM needs sides of at least 11" in shown.err
    report = json.loads((tmp_path / "out" / "rate_distortion.json").read_text())
    psnrs = [report["pictures"][name]["ours"]["psnr"] for name in ("0.png", "1.png")]
    assert report["mean"]["ours"]["psnr"] == pytest.approx(sum(psnrs) / 2)
    assert {*report["mean"]["others"]} == {*OTHERS} >= {"WebP"} and all(f"{name} PSNR" in lines[0] for name in OTHERS)
    with Image.open(tmp_path / "out" / "00001.png") as sheet:
        assert sheet.size == (3 * 48 + 2 * 4, 32)
    words = [*words[:-1], tmp_path / "searched", "--search", 5]
    assert cli.main_of(rate_distortion.build_parser, rate_distortion.run, [*map(str, words)]) == 1
    searched = json.loads((tmp_path / "searched" / "rate_distortion.json").read_text())["pictures"]
    assert all(searched[f"{n}.png"]["ours"]["psnr"] > psnrs[n] for n in range(2))
