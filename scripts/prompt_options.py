"""The options and checks of every command that draws from prompts: pictures and clips are asked for in the same way."""

import argparse
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tokenloom.pipelines.sampler_settings import DECODERS, USED_BY
from tokenloom.scripts.cli import UsageError
from tokenloom.scripts.option_types import GUIDANCE, POSITIVE, SHARE, STEPS, TEMPERATURE, seed_number

if TYPE_CHECKING:
    from tokenloom.data.progress import Progress
    from tokenloom.pipelines.draw_files import Drawing

MAX_FILES = 100_000  # that five digits name
MAX_PROMPTS_BYTES = 64 << 20
MAX_WORDS = 20  # that a warning names
OPTIONS = {  # the fields of SamplerSettings that options set
    "guidance_scale": "--guidance-scale",
    "num_inference_steps": "--steps",
    "temperature": "--temperature",
    "choice_temperature": "--choice-temperature",
    "guidance_from": "--guidance-from",
    "guidance_until": "--guidance-until",
    "best_of": "--best-of",
}
Media = TypeVar("Media")  # a picture, a clip


def add_prompt_options(
    parser: argparse.ArgumentParser, thing: str, num_option: str, *, model: str = "tokenloom-mini", says: str = "shows"
) -> None:
    """PROMPT..., how it is drawn, and on what; `thing` is what one prompt becomes, `num_option` asks for more of it."""
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help=f"what a {thing} {says}")
    parser.add_argument("--prompts", dest="file", type=Path, metavar="FILE", help="more prompts, one a line, in UTF-8")
    parser.add_argument("--decoder", choices=DECODERS, default="ar", help="how to draw; default: %(default)s")
    parser.add_argument("--model", default=model, metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument(
        num_option, dest="copies", type=POSITIVE, default=1, metavar="N", help=f"{thing}s of each prompt; default: 1"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="S", help=f"of the first {thing}; default: %(default)s"
    )
    parser.add_argument(
        "--guidance-scale", type=GUIDANCE, metavar="G", help="how closely to follow the prompt; 1: no extra"
    )
    parser.add_argument("--steps", type=STEPS, metavar="N", help="of masked and diffusion; more is slower")
    parser.add_argument(
        "--temperature", type=TEMPERATURE, metavar="T", help="lower is safer; 0 takes the likeliest code"
    )
    parser.add_argument("--device", default="cpu", help="where to draw, such as cuda; default: %(default)s")


def add_best_of(parser: argparse.ArgumentParser, thing: str) -> None:
    parser.add_argument(
        "--best-of", type=POSITIVE, metavar="N", help=f"draw N and keep the {thing} that the model finds truest"
    )


def add_fine_options(parser: argparse.ArgumentParser) -> None:
    """What the decoders of pictures take besides."""
    parser.add_argument("--choice-temperature", type=TEMPERATURE, metavar="T", help="of masked: chance in what is kept")
    parser.add_argument("--guidance-from", type=SHARE, metavar="TIME", help="of diffusion: noisier steps are unguided")
    parser.add_argument("--guidance-until", type=SHARE, metavar="TIME", help="of diffusion: clearer ones, too")


def prompts_asked_for(arguments: argparse.Namespace, thing: str) -> list[str]:
    """The prompts of the command line, then those of the file.

    Raises:
        UsageError: there are none or too many, or an option is given that the decoder does not know.
    """
    refuse_unused(sampler_options(arguments), [arguments.decoder], arguments.decoder)
    prompts = [*arguments.prompts, *(read_prompts(arguments.file) if arguments.file else [])]
    count = len(prompts) * arguments.copies
    if not 1 <= count <= MAX_FILES:
        raise UsageError(f"1 to {MAX_FILES} {thing}s can be drawn, got {count}; give a PROMPT or --prompts FILE")
    return prompts


def refuse_unused(settings: Mapping[str, Any], decoders: Collection[str], what: str) -> None:
    """
    Raises:
        UsageError: a setting is given (not None) that none of the decoders knows; `what` is done by them, or none.
    """
    for name, value in settings.items():
        knowing = [decoder for decoder, names in USED_BY.items() if name in names]
        if value is not None and not set(knowing) & set(decoders):
            raise UsageError(f"{OPTIONS[name]} is a setting of {' and '.join(knowing)}; leave it out with {what}")


def sampler_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that are `SamplerSettings`, by their names there; None where the decoder's default is taken."""
    return {
        name: getattr(arguments, option.removeprefix("--").replace("-", "_"), None) for name, option in OPTIONS.items()
    }


def read_prompts(file: Path) -> list[str]:
    """The lines of a file that are not blank."""
    from tokenloom.data.media import MediaError, read_bytes

    try:
        text = read_bytes(file, MAX_PROMPTS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(str(file), f"prompts must be UTF-8 text ({error.reason} at byte {error.start})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_out(out: Path, thing: str, suffixes: Sequence[str], several: bool) -> None:
    """Find out before drawing what would fail after it; makes the folder that is written to."""
    if several and out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder when several {thing}s are drawn, but {out} is a file")
    if not several and (out.is_dir() or out.suffix.lower() not in suffixes):
        raise UsageError(
            f"--out must be a file that ends in {' or '.join(suffixes)} when one {thing} is drawn, got {out}"
        )
    if several:
        from tokenloom.pipelines.draw_files import INDEX

        if (out / INDEX).exists():
            raise UsageError(f"{out} holds {thing}s already, as {INDEX} there tells; remove it, or name another folder")
    (out if several else out.parent).mkdir(parents=True, exist_ok=True)


class TakesPrompts(Protocol):
    """A pipeline that knows which prompts it takes."""

    def tokens(self, prompt: object) -> list[int]: ...
    def unknown_words(self, prompt: str) -> list[str]: ...


def check_prompts(pipeline: TakesPrompts, prompts: list[str]) -> set[str]:
    """The prompts that cannot be drawn, each told on stderr; words that training never saw are told there, too."""
    refused = set()
    for number, prompt in enumerate(prompts, 1):
        try:
            pipeline.tokens(prompt)
        except ValueError as error:
            refused.add(prompt)
            print(f"prompt {number}: {error}", file=sys.stderr)
    strange = sorted({word for prompt in prompts if prompt not in refused for word in pipeline.unknown_words(prompt)})
    if strange:
        shown = ", ".join(map(repr, strange[:MAX_WORDS])) + (", ..." if len(strange) > MAX_WORDS else "")
        print(f"warning: the training captions never held {shown}; expect little of it", file=sys.stderr)
    return refused


def numbered(prompts: Sequence[str], copies: int, refused: Collection[str]) -> list[tuple[int, str]]:
    """Each prompt `copies` times, with numbers that do not change when some of them cannot be drawn."""
    every = [prompt for prompt in prompts for _ in range(copies)]
    return [(number, prompt) for number, prompt in enumerate(every) if prompt not in refused]


def write_drawings(
    drawn: "Iterator[Drawing[Media]]",
    count: int,
    out: Path,
    thing: str,
    suffix: str,
    write: Callable[[Path, Media], None],
    progress: "Progress",
) -> int:
    """Write one of `count` things to the file `out`, several into the folder `out`, and say so; returns the exit code.

    `drawn` draws as it is read, and lacks what was refused.
    """
    from tokenloom.pipelines.draw_files import write_folder
    from tokenloom.pipelines.text_to_image import UnknownWordWarning

    with warnings.catch_warnings(), progress:
        warnings.simplefilter("ignore", UnknownWordWarning)  # said by check_prompts, once for all
        if count > 1:
            written = write_folder(out, drawn, suffix, write)
            told = f"{out}: {written} of {count} {thing}s drawn"
        elif only := next(drawn, None):
            write(out, only.media)
            written, told = 1, str(out)
        else:
            return 1
    print(told)
    return 0 if written == count else 1
