"""How near a video tokenizer comes to clips, beside an image tokenizer that spends equally many codes on them.

For each clip, PSNR (dB, the mean over frames), SSIM and flicker of three ways: the video tokenizer; the image tokenizer
on one frame in so many, held; and on all frames, made smaller. --data takes "scenes", too, which are 20 fresh clips of
each kind of the built-in world: then the detector also says how many still show what they should. With --out also
writes clip_distortion.json and, for each clip, strips of some frames: the original, and below it each way.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import HERTZ, POSITIVE, SECONDS, out_folder

if TYPE_CHECKING:
    from torch import Tensor

STRIP = 6  # frames of a strip
SCENES, SCENES_SIZE, SCENES_SEED, OF_EACH_KIND = Path("scenes"), 64, 12345, 20  # what --data scenes gives


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--tokenizer", default="tokenloom-footage", metavar="NAME_OR_DIR", help="of clips; default: %(default)s")
    add("--pictures", default="tokenloom-photo", metavar="NAME_OR_DIR", help="of pictures; default: %(default)s")
    add("--data", nargs="+", required=True, type=Path, metavar="PATH", help="clips, folders of them, scenes")
    add("--fps", type=HERTZ, default=12.0, help="at which clips are read; default: %(default)s")
    add("--size", type=POSITIVE, default=128, metavar="PIXELS", help="side of the centre square; default: %(default)s")
    add("--seconds", type=SECONDS, default=4.0, help="of each clip, from its start; default: %(default)s")
    add("--device", default="cpu", help="of the tokenizers, such as cuda; default: %(default)s")
    add("--out", type=out_folder, metavar="DIR", help="folder of the figures and pictures")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    import torch

    from tokenloom.data.files import write_json
    from tokenloom.data.find_files import find_files
    from tokenloom.data.media import image_grid, write_png
    from tokenloom.pipelines.clip_distortion import ClipRate, compare_ways, mean
    from tokenloom.pipelines.open_tokenizer import open_image_tokenizer, open_video_tokenizer
    from tokenloom.pipelines.worlds import CLIPS, as_arrays
    from tokenloom.tokenizers.video import VideoTokenizer

    device = open_device(arguments.device)
    tokenizer = open_video_tokenizer(arguments.tokenizer, device)
    if not isinstance(tokenizer, VideoTokenizer):
        raise ValueError(
            f"{arguments.tokenizer} must be a learned video tokenizer, got one of pictures; train one first"
        )
    pictures = open_image_tokenizer(arguments.pictures).to(device)
    results: dict[str, dict[str, ClipRate]] = {}
    passed: dict[str, list[bool]] = defaultdict(list)
    given = [path for path in arguments.data if path != SCENES]
    files = find_files(given, "video") if given else {}
    scenes = fresh_scenes() if SCENES in arguments.data else ()
    for name, request, clip in chain(scenes, clips_of(files, arguments)):
        rates, decoded = compare_ways(tokenizer, pictures, clip.to(device))
        results[name] = rates
        print_rates(name, rates)
        for way, frames in decoded.items() if request else ():
            passed[way].append(CLIPS.check(request, as_arrays(frames)[0]))
        if arguments.out:
            shown = torch.linspace(0, clip.shape[2] - 1, min(STRIP, clip.shape[2])).round().long()
            rows = torch.cat([part[0, :, shown].transpose(0, 1).cpu() for part in (clip, *decoded.values())])
            write_png(arguments.out / f"{len(results):03}.png", image_grid(rows, len(shown)))
    if not results:
        raise ValueError(f"none of {len(files)} files can be compared")
    ways = list(next(iter(results.values())))
    means = {way: mean([rates[way] for rates in results.values()]) for way in ways}
    print_rates(f"mean of {len(results)}", means)
    shares = {way: sum(verdicts) / len(verdicts) for way, verdicts in passed.items()}
    if shares:
        print("still show what they should: " + "  ".join(f"{way} {share:.3f}" for way, share in shares.items()))
    if arguments.out:
        report = {
            "tokenizer": str(arguments.tokenizer),
            "fingerprint": tokenizer.fingerprint,
            "mean": {way: asdict(rate) for way, rate in means.items()},
            "show_what_they_should": shares,
            "clips": {name: {way: asdict(rate) for way, rate in rates.items()} for name, rates in results.items()},
        }
        path = arguments.out / "clip_distortion.json"
        write_json(path, report)
        print(path)
    return 1 if not results.keys() >= files.keys() else 0


def fresh_scenes() -> Iterator[tuple[str, Any, "Tensor"]]:
    """Clips (1, 3, T, 64, 64) in [-1, 1] of each kind of the built-in world, with what they should show."""
    import torch
    from einops import rearrange

    from tokenloom.data.media import from_uint8
    from tokenloom.pipelines.worlds import CLIPS

    generator = torch.Generator().manual_seed(SCENES_SEED)
    for kind in CLIPS.kinds:
        for number in range(OF_EACH_KIND):
            request, frames = CLIPS.example(generator, kind, SCENES_SIZE)
            yield f"{kind} {number}", request, from_uint8(rearrange(torch.from_numpy(frames), "T H W C -> 1 C T H W"))


def clips_of(files: Mapping[str, Path], arguments: argparse.Namespace) -> Iterator[tuple[str, None, "Tensor"]]:
    """Clips (1, 3, T, H, W) of files; those that cannot be read are told about and left out."""
    import torch

    from tokenloom.data.media import from_uint8
    from tokenloom.data.video import read_video

    for name, path in files.items():
        try:
            blocks = read_video(path, fps=arguments.fps, size=arguments.size, stop=arguments.seconds)
            yield name, None, from_uint8(torch.cat(list(blocks), dim=1)[None])
        except ValueError as error:
            print(f"skipped {error}", file=sys.stderr)


def print_rates(name: str, rates: dict[str, Any]) -> None:
    for number, (way, rate) in enumerate(rates.items()):
        figures = f"{rate.codes:9.0f} codes {rate.bits_per_pixel:.4f} bits/px {rate.psnr:6.2f} dB {rate.ssim:.3f}"
        print(f"{name if number == 0 else '':28} {way:24}{figures} flicker {rate.flicker:.2f}")


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
