"""How near a video tokenizer comes to clips, beside an image tokenizer that spends equally many codes on them.

For each clip, PSNR (dB, the mean over frames), SSIM and flicker of three ways: the video tokenizer; the image tokenizer
on one frame in so many, held; and on all frames, made smaller. With --out also writes clip_distortion.json and, for
each clip, strips of some frames: the original, and below it each way.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tokenloom.scripts.cli import CommandParser, main_of, open_device

STRIP = 6  # frames of a strip


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--tokenizer", default="tokenloom-footage", metavar="NAME_OR_DIR", help="of clips; default: %(default)s")
    add("--pictures", default="tokenloom-photo", metavar="NAME_OR_DIR", help="of pictures; default: %(default)s")
    add("--data", nargs="+", required=True, type=Path, metavar="PATH", help="clips, or folders of them")
    add("--fps", type=float, default=12.0, help="at which clips are read; default: %(default)s")
    add("--size", type=int, default=128, metavar="PIXELS", help="side of the centre square; default: %(default)s")
    add("--seconds", type=float, default=4.0, help="of each clip, from its start; default: %(default)s")
    add("--device", default="cpu", help="of the tokenizers, such as cuda; default: %(default)s")
    add("--out", type=Path, metavar="DIR", help="folder of the figures and pictures")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    import torch

    from tokenloom.data.files import write_atomically
    from tokenloom.data.find_files import find_files
    from tokenloom.data.media import from_uint8, image_grid, write_png
    from tokenloom.data.video import read_video
    from tokenloom.pipelines.clip_distortion import ClipRate, compare_ways, mean
    from tokenloom.pipelines.open_tokenizer import open_image_tokenizer, open_video_tokenizer
    from tokenloom.tokenizers.video import VideoTokenizer

    device = open_device(arguments.device)
    tokenizer = open_video_tokenizer(arguments.tokenizer, device)
    if not isinstance(tokenizer, VideoTokenizer):
        raise ValueError(
            f"{arguments.tokenizer} must be a learned video tokenizer, got one of pictures; train one first"
        )
    pictures = open_image_tokenizer(arguments.pictures).to(device)
    results: dict[str, dict[str, ClipRate]] = {}
    files = find_files(arguments.data, "video")
    for name, path in files.items():
        try:
            blocks = read_video(path, fps=arguments.fps, size=arguments.size, stop=arguments.seconds)
            clip = from_uint8(torch.cat(list(blocks), dim=1)[None].to(device))
        except ValueError as error:
            print(f"skipped {error}", file=sys.stderr)
            continue
        rates, decoded = compare_ways(tokenizer, pictures, clip)
        results[name] = rates
        print_rates(name, rates)
        if arguments.out:
            shown = torch.linspace(0, clip.shape[2] - 1, min(STRIP, clip.shape[2])).round().long()
            rows = torch.cat([part[0, :, shown].transpose(0, 1) for part in (clip, *decoded.values())])
            write_png(arguments.out / f"{len(results):03}.png", image_grid(rows.cpu(), len(shown)))
    if not results:
        raise ValueError(f"none of {len(files)} files can be compared")
    ways = list(next(iter(results.values())))
    means = {way: mean([rates[way] for rates in results.values()]) for way in ways}
    print_rates(f"mean of {len(results)}", means)
    if arguments.out:
        report = {
            "tokenizer": str(arguments.tokenizer),
            "fingerprint": tokenizer.fingerprint,
            "mean": {way: asdict(rate) for way, rate in means.items()},
            "clips": {name: {way: asdict(rate) for way, rate in rates.items()} for name, rates in results.items()},
        }
        path = arguments.out / "clip_distortion.json"
        write_atomically(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
        print(path)
    return 1 if len(results) < len(files) else 0


def print_rates(name: str, rates: dict[str, Any]) -> None:
    for number, (way, rate) in enumerate(rates.items()):
        figures = f"{rate.codes:9.0f} codes {rate.bits_per_pixel:.4f} bits/px {rate.psnr:6.2f} dB {rate.ssim:.3f}"
        print(f"{name if number == 0 else '':28} {way:24}{figures} flicker {rate.flicker:.2f}")


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
