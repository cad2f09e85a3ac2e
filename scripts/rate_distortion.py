"""How near an image tokenizer comes to pictures, beside JPEG, WebP and AVIF at the same bits per pixel.

Prints PSNR (dB) and SSIM of each for each picture and in the mean. A code costs log2(codebook) bits, or, if the
tokenizer has an entropy model, pictures are compressed and decompressed and the files count; the formats are Pillow's,
JPEG with optimized tables, the better of 4:2:0 and 4:4:4, their whole streams counted, interpolated between two
qualities.
--search looks for better codes of each picture than the encoder's, by so many gradient steps (60 take a minute or more
of a core for a picture of 768 x 512). With --out also writes rate_distortion.json, and each original beside ours and
JPEG.
"""

import argparse
import sys

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import NATURAL, out_folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="tokenloom-photo", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH", help="folders or tars of pictures")
    parser.add_argument("--search", type=NATURAL, default=0, metavar="STEPS", help="for better codes; default: none")
    parser.add_argument("--device", default="cpu", help="of the tokenizer, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=out_folder, metavar="DIR", help="folder of the figures and pictures")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict
    from functools import partial

    from tokenloom.data.files import write_json
    from tokenloom.data.folders import open_examples
    from tokenloom.data.media import write_png
    from tokenloom.pipelines.open_tokenizer import open_any_image_tokenizer
    from tokenloom.pipelines.picture_codec import has_entropy_model, open_picture_codec
    from tokenloom.pipelines.rate_distortion import (
        OTHERS,
        Comparison,
        by_codes,
        by_files,
        compare_with_formats,
        mean_of,
    )
    from tokenloom.tokenizers.code_search import search_codes
    from tokenloom.tokenizers.image import ImageTokenizer

    device = open_device(arguments.device)
    tokenizer = open_any_image_tokenizer(arguments.tokenizer).to(device)
    if not arguments.search:
        files = has_entropy_model(arguments.tokenizer)
        code = by_files(open_picture_codec(arguments.tokenizer, device)) if files else by_codes(tokenizer, device)
    elif has_entropy_model(arguments.tokenizer):
        raise ValueError(f"--search is for codes of one size, and those of {arguments.tokenizer} differ; leave it out")
    elif isinstance(tokenizer, ImageTokenizer):
        code = by_codes(tokenizer, device, partial(search_codes, tokenizer, steps=arguments.search))
    else:
        raise ValueError(f"--search is for learned image tokenizers, and {arguments.tokenizer} is none; leave it out")
    examples = open_examples(arguments.data)
    width = max(len("picture"), *(len(entry.key) for entry in examples.entries))

    def line(key: str, found: Comparison) -> str:
        rates = (found.ours, found.jpeg, *found.others.values())
        figures = "".join(f"{rate.psnr:11.2f}{rate.ssim:7.3f}" for rate in rates)
        return f"{key:{width}}{found.ours.bits_per_pixel:9.4f}{figures}  {found.subsampling}".rstrip()

    names = "".join(f"{name + ' PSNR':>11}{'SSIM':>7}" for name in ("our", "JPEG", *OTHERS))
    print(f"{'picture':{width}}{'bits/px':>9}{names}")
    results: dict[str, Comparison] = {}
    for number, entry in enumerate(examples.entries):
        try:
            found, sheet = compare_with_formats(code, examples[number].image)
        except ValueError as error:
            print(f"skipped {entry.key}: {error}", file=sys.stderr)
            continue
        results[entry.key] = found
        print(line(entry.key, found))
        if arguments.out:
            write_png(arguments.out / f"{number:05d}.png", sheet)
    if not results:
        raise ValueError(f"none of {len(examples)} pictures can be compared")
    means = mean_of(list(results.values()))
    print(line("mean", means))
    if arguments.out:
        report = {
            "tokenizer": str(arguments.tokenizer),
            "fingerprint": tokenizer.fingerprint,
            "mean": asdict(means),
            "pictures": {key: asdict(found) for key, found in results.items()},
        }
        path = arguments.out / "rate_distortion.json"
        write_json(path, report)
        print(path)
    return 1 if len(results) < len(examples) else 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
