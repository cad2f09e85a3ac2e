"""Laws of pipelines/clip_distortion.py: each way is judged on the whole clip, and spends the codes that it says."""

import json
import math
from dataclasses import astuple

import pytest
import torch

from tests.doubles import toy_image_tokenizer, toy_video_tokenizer
from tokenloom.data.media import from_uint8
from tokenloom.data.write_video import write_video
from tokenloom.pipelines.clip_distortion import ClipRate, compare_ways, judged, mean, smaller, through
from tokenloom.scripts import clip_distortion
from tokenloom.tokenizers.frames import FramesTokenizer

GROUP = 4


def clip_of(frames: int = 1 + 2 * GROUP, side: int = 24) -> torch.Tensor:
    pixels = torch.randint(0, 256, (1, 3, frames, side, side), generator=torch.Generator().manual_seed(0))
    return from_uint8(pixels.to(torch.uint8))


def test_a_clip_that_comes_back_is_perfect_and_one_that_stands_still_flickers_as_much_as_it_should_move():
    clip = clip_of()
    rate = judged(clip, clip, codes=90, vocab_size=256)
    assert rate.psnr == 100 and rate.ssim == pytest.approx(1) and rate.flicker == 0
    assert rate.bits_per_pixel == pytest.approx(90 * 8 / (9 * 24 * 24))
    still = judged(clip, clip[:, :, :1].expand_as(clip), codes=1, vocab_size=2)
    moved = (clip[:, :, 1:] - clip[:, :, :-1]).abs().mean() * 127.5
    assert still.flicker == pytest.approx(float(moved), rel=1e-4) and still.psnr < 100


def test_the_ways_spend_equally_many_codes_but_for_the_first_frame():
    video, pictures = toy_video_tokenizer(levels=(8, 8)), toy_image_tokenizer(levels=(8, 8))
    rates, decoded = compare_ways(video, pictures, clip_of(frames=1 + 8 * GROUP, side=32))
    of_video, of_frames, of_pixels = (rate.codes for rate in rates.values())
    assert of_video == 9 * 64 and of_frames == 9 * 64 and of_pixels == 33 * 16
    assert all(back.shape == (1, 3, 33, 32, 32) for back in decoded.values())
    for rate in rates.values():
        assert rate.bits_per_pixel == pytest.approx(rate.codes * 6 / (33 * 32 * 32))


def test_at_full_size_every_frame_is_what_the_image_tokenizer_makes_of_it():
    pictures, clip = toy_image_tokenizer(levels=(8, 8)), clip_of()
    whole, _ = smaller(pictures, clip, 1.0)
    assert astuple(whole) == pytest.approx(astuple(through(FramesTokenizer(pictures), clip)[0]))
    assert smaller(pictures, clip, 2.0)[0].codes * 4 == whole.codes


def test_a_mean_is_that_of_each_figure():
    assert mean([ClipRate(1, 2, 3, 4, 5), ClipRate(3, 4, 5, 6, 7)]) == ClipRate(2, 3, 4, 5, 6)


def test_the_script_judges_each_clip_skips_what_it_cannot_read_and_draws_strips(tmp_path, capsys):
    for name, tokenizer in (("video", toy_video_tokenizer()), ("image", toy_image_tokenizer())):
        tokenizer.save_pretrained(tmp_path / name)
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "noise.mp4", clip_of(side=32)[0], 8)
    (clips / "broken.mp4").write_bytes(b"no clip")
    options = ["--fps", "8", "--size", "16", "--out", str(tmp_path / "out"), "--data", str(clips)]
    arguments = ["--tokenizer", str(tmp_path / "video"), "--pictures", str(tmp_path / "image"), *options]
    assert clip_distortion.run(clip_distortion.build_parser().parse_args(arguments)) == 1
    said = capsys.readouterr()
    assert "mean of 1" in said.out and "broken.mp4" in said.err
    report = json.loads((tmp_path / "out" / "clip_distortion.json").read_text())
    assert list(report["clips"]) == ["noise.mp4"] and len(report["mean"]) == 3
    assert all(math.isfinite(rate["psnr"]) for rate in report["mean"].values())
    assert (tmp_path / "out" / "001.png").stat().st_size > 0


def test_a_tokenizer_of_pictures_is_no_video_tokenizer(tmp_path):
    toy_image_tokenizer().save_pretrained(tmp_path / "image")
    arguments = ["--tokenizer", str(tmp_path / "image"), "--pictures", str(tmp_path / "image"), "--data", str(tmp_path)]
    with pytest.raises(ValueError, match="must be a learned video tokenizer"):
        clip_distortion.run(clip_distortion.build_parser().parse_args(arguments))
