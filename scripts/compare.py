"""Draw the same prompts by each decoder, and show side by side what came out and what it cost.

Writes report.html (one file that needs no network), report.json and the pictures into --out; with --modality video
clips as mp4, each with a strip of its frames. Guidance and seeds are the same for all. Prompts that are captions of
the built-in scenes, or of their clips, are judged by the detector.
"""

import argparse
import sys
import warnings
from pathlib import Path

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, UsageError, comma_separated, main_of, open_device
from tokenloom.scripts.prompt_options import check_prompts

MAX_DRAWINGS = {"image": 500, "video": 60}  # that one page shows; browsers play some dozens of clips at once


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what a picture or clip shows")
    parser.add_argument("--modality", choices=tuple(MAX_DRAWINGS), default="image", help="default: %(default)s")
    parser.add_argument(
        "--decoders", type=comma_separated(str, DECODERS), default=DECODERS, metavar="D,...", help="default: all three"
    )
    parser.add_argument("--model", default="tokenloom-mini", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument(
        "--num-images",
        "--num-videos",
        type=int,
        default=4,
        metavar="N",
        dest="count",
        help="of each prompt; default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first of them; default: %(default)s")
    parser.add_argument("--guidance-scale", type=float, default=3.0, metavar="G", help="of all; default: %(default)s")
    parser.add_argument("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    return parser


def run(arguments: argparse.Namespace) -> int:
    total, most = len(arguments.prompts) * len(arguments.decoders) * arguments.count, MAX_DRAWINGS[arguments.modality]
    if arguments.count < 1 or total > most:
        what = {"image": "pictures", "video": "clips"}[arguments.modality]
        raise UsageError(
            f"a report shows 1 to {most} {what}, got {total}; change --num-{arguments.modality}s or the prompts"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)

    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.compare import compare, write_comparison
    from tokenloom.pipelines.text_to_image import TextToImagePipeline, UnknownWordWarning
    from tokenloom.pipelines.worlds import CLIPS, SCENES

    pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    refused = check_prompts(pipeline, arguments.prompts)
    prompts = [prompt for prompt in arguments.prompts if prompt not in refused]
    if not prompts:
        return 1
    with warnings.catch_warnings(), Progress("comparing", len(prompts) * len(arguments.decoders)) as progress:
        warnings.simplefilter("ignore", UnknownWordWarning)  # said by check_prompts
        comparison = compare(
            pipeline,
            prompts,
            arguments.decoders,
            count=arguments.count,
            seed=arguments.seed,
            guidance_scale=arguments.guidance_scale,
            world=CLIPS if arguments.modality == "video" else SCENES,
            model=arguments.model,
            advance=progress.advance,
        )
    write_comparison(arguments.out, comparison)
    print(arguments.out / "report.html")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
