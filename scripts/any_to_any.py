"""Make a text, a picture, a clip or a sound from texts and media: what is given, and --to, decide what is done.

An ITEM that is a file is what it holds (text, picture, clip or sound); everything else is text. Of two pictures the
first is where a clip begins, the second where it ends. --list shows what the models know; for what one of them does not
know, run this twice.
"""

import argparse
import errno
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, UsageError, given, main_of, open_device, refuse_to_lose
from tokenloom.scripts.option_types import GUIDANCE, STEPS, TEMPERATURE, out_file, seed_number
from tokenloom.scripts.prompt_options import check_out, refuse_unused

if TYPE_CHECKING:
    from tokenloom.pipelines.prompt_items import Medium

WRITTEN = {  # what --to names -> its name in messages, and the suffixes of --out
    "text": ("text", (".txt",)),
    "image": ("picture", (".png",)),
    "video": ("clip", (".mp4", ".gif")),
    "audio": ("sound", (".wav", ".flac", ".ogg", ".mp3")),
}
SETTINGS = ("guidance_scale", "num_inference_steps", "temperature")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", metavar="ITEM", help="a text, or a file of a text, picture, clip or sound")
    parser.add_argument("--to", choices=WRITTEN, help="what to make")
    parser.add_argument("--out", type=out_file, metavar="FILE", help="where to write it; a text is also printed")
    parser.add_argument("--list", action="store_true", help="show what can be made from what, and leave")
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        metavar="NAME_OR_DIR",
        help="may be repeated, the first that knows what is asked for does it; default: all that are shipped",
    )
    parser.add_argument("--decoder", choices=DECODERS, default="ar", help="how to draw; default: %(default)s")
    parser.add_argument("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--guidance-scale", type=GUIDANCE, metavar="G", help="how closely to follow the text; 1: no extra"
    )
    parser.add_argument(
        "--steps",
        dest="num_inference_steps",
        type=STEPS,
        metavar="N",
        help="of masked and diffusion; more is slower",
    )
    parser.add_argument(
        "--temperature", type=TEMPERATURE, metavar="T", help="lower is safer; 0 takes the likeliest code"
    )
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    return parser


def item(word: str) -> str | Path:
    """A word of the command line as a file, if it is one, else as text.

    Raises:
        FileNotFoundError: it reads like the name of a file, and is none; as a text it would be made into nonsense.
        IsADirectoryError: it is the path of a folder; a word without a slash may also be a text.
    """
    from tokenloom.data.find_files import SUFFIXES_OF

    if os.path.isfile(word):  # False where a path could not even be asked for, as of a long text
        return Path(word)
    if os.sep in word and os.path.isdir(word):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), word)
    suffix = os.path.splitext(word)[1].lower()
    known = any(suffix in suffixes for suffixes in SUFFIXES_OF.values())
    if word.split() == [word] and (known or suffix and os.sep in word):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), word)
    return word


def check_usage(arguments: argparse.Namespace) -> None:
    """Find out before models are loaded what would fail after it."""
    if not (arguments.items and arguments.to):
        raise UsageError("an ITEM and --to are needed, or --list, which shows what can be asked for")
    if arguments.out is None and arguments.to != "text":
        raise UsageError(f"--out is needed with --to {arguments.to}")
    if arguments.to == "text" and arguments.decoder != "ar":
        raise UsageError(f"text is written by ar, got --decoder {arguments.decoder}; leave it out")
    settings, decoders = given(arguments, *SETTINGS), [arguments.decoder]
    if arguments.to == "text":
        settings.pop("temperature", None)  # the only setting of writing
        decoders = []
    refuse_unused(settings, decoders, f"{arguments.to} by {arguments.decoder}")
    if arguments.out is not None:
        check_out(arguments.out, *WRITTEN[arguments.to], several=False)


def run(arguments: argparse.Namespace) -> int:
    if not arguments.list:
        check_usage(arguments)
    items = [item(word) for word in arguments.items]
    refuse_to_lose(arguments.out, [item for item in items if isinstance(item, Path)])

    from tokenloom.pipelines.any_to_any import AnyToAnyPipeline
    from tokenloom.pipelines.text_to_image import UnknownWordWarning, seeded

    pipeline = AnyToAnyPipeline.from_pretrained(*arguments.models or ())
    if arguments.list:
        for pair in pipeline.knows():
            print(pair)
        return 0
    pipeline.to(open_device(arguments.device))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UnknownWordWarning)
        how = {"decoder": arguments.decoder, "generator": seeded(arguments.seed, 1)} | given(arguments, *SETTINGS)
        made = pipeline(items, arguments.to, **how)
    for warning in told:
        print(f"warning: {warning.message}", file=sys.stderr)
    if arguments.out is not None:
        write(arguments.out, made)
    print(made if isinstance(made, str) else arguments.out)
    return 0


def write(file: Path, made: "Medium") -> None:
    from tokenloom.data.files import write_atomically
    from tokenloom.data.media import to_uint8, write_png
    from tokenloom.data.write_audio import write_audio
    from tokenloom.pipelines.draw_clips import write_clip
    from tokenloom.pipelines.prompt_items import Sound

    if isinstance(made, str):
        write_atomically(file, f"{made}\n".encode())
    elif isinstance(made, Sound):
        write_audio(file, made.samples, made.sample_rate)
    elif made.ndim == 3:
        write_png(file, made)
    else:
        write_clip(file, to_uint8(made).cpu())


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
