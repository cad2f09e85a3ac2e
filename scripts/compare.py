"""Draw the same prompts by each decoder, and show side by side what came out and what it cost.

Writes report.html (one file that needs no network), report.json and the pictures into --out; with --modality video
clips as mp4, each with a strip of its frames; with --modality audio sounds that say the prompts, each with its
spectrogram. Guidance and seeds are the same for all. Prompts that are captions of the built-in scenes, or of their
clips, are judged by the detector; sounds by the model itself, if it learned to write, or by a judge of spoken digits.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, UsageError, comma_separated, main_of, open_device
from tokenloom.scripts.option_types import GUIDANCE, POSITIVE, out_folder, seed_number
from tokenloom.scripts.prompt_options import check_prompts

MAX_DRAWINGS = {"image": 500, "video": 60, "audio": 200}  # that one page shows; browsers play some dozens of clips
NOUNS = {"image": "picture", "video": "clip", "audio": "sound"}
NUMBER = {"image": "images", "video": "videos", "audio": "sounds"}
MODELS = {"image": "tokenloom-mini", "video": "tokenloom-mini", "audio": "tokenloom-speech"}
GUIDANCE_OF_ALL = {"image": 2.0, "video": 2.0, "audio": 1.5}  # between what the decoders take alone

Opened = tuple[Any, Callable[..., Any], Callable[[Path, Any], None]]  # pipeline; compare; write into a folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what a picture or clip shows, or a sound says")
    parser.add_argument("--modality", choices=tuple(MAX_DRAWINGS), default="image", help="default: %(default)s")
    parser.add_argument(
        "--decoders", type=comma_separated(str, DECODERS), default=DECODERS, metavar="D,...", help="default: all three"
    )
    parser.add_argument("--model", metavar="NAME_OR_DIR", help="default: tokenloom-mini; of sounds: tokenloom-speech")
    parser.add_argument(
        "--num-images",
        "--num-videos",
        "--num-sounds",
        type=POSITIVE,
        default=4,
        metavar="N",
        dest="count",
        help="of each prompt; default: %(default)s",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="S", help="of the first of them; default: %(default)s"
    )
    parser.add_argument("--guidance-scale", type=GUIDANCE, metavar="G", help="of all; default: 2, of sounds 1.5")
    parser.add_argument("--speaker", metavar="NAME", help="of sounds: whose voice; default: the seeds draw one")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="of sounds: a recognizer of digits that hears them")
    parser.add_argument("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=out_folder, required=True, metavar="DIR", help="folder of the report")
    return parser


def run(arguments: argparse.Namespace) -> int:
    modality = arguments.modality
    total, most = len(arguments.prompts) * len(arguments.decoders) * arguments.count, MAX_DRAWINGS[modality]
    if arguments.count < 1 or total > most:
        raise UsageError(
            f"a report shows 1 to {most} {NOUNS[modality]}s, got {total}; change --num-{NUMBER[modality]} or prompts"
        )
    if modality != "audio" and (arguments.speaker or arguments.judge):
        raise UsageError("--speaker and --judge are for --modality audio; leave them out")
    arguments.model = arguments.model or MODELS[modality]
    if arguments.guidance_scale is None:
        arguments.guidance_scale = GUIDANCE_OF_ALL[modality]
    arguments.out.mkdir(parents=True, exist_ok=True)

    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.text_to_image import UnknownWordWarning

    pipeline, compare, write = open_sounds(arguments) if modality == "audio" else open_drawings(arguments)
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
            model=arguments.model,
            advance=progress.advance,
        )
    write(arguments.out, comparison)
    print(arguments.out / "report.html")
    return 1 if refused else 0


def open_drawings(arguments: argparse.Namespace) -> Opened:
    """The model that draws, how its decoders are compared, and how that is written."""
    from tokenloom.pipelines.compare import compare, write_comparison
    from tokenloom.pipelines.text_to_image import TextToImagePipeline
    from tokenloom.pipelines.worlds import CLIPS, SCENES

    pipeline = TextToImagePipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    world = CLIPS if arguments.modality == "video" else SCENES
    return pipeline, partial(compare, world=world), write_comparison


def open_sounds(arguments: argparse.Namespace) -> Opened:
    """The same of a model of speech, with whoever hears what it says."""
    from tokenloom.pipelines.compare_sounds import JUDGE, compare_sounds, own_hearing, write_sound_comparison
    from tokenloom.pipelines.evaluate_speech import judge_of, open_judge
    from tokenloom.pipelines.text_to_speech import TextToSpeechPipeline

    pipeline = TextToSpeechPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    pipeline.check_speaker(arguments.speaker)
    if arguments.judge:
        heard: dict[str, Any] = {"hear": judge_of(open_judge(arguments.judge)), "hearing": JUDGE}
    else:
        heard = {"hear": own_hearing(pipeline)}
    return pipeline, partial(compare_sounds, speaker=arguments.speaker, **heard), write_sound_comparison


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
