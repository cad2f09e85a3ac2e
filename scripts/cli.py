"""The `tokenloom` command: finds the command's file in this folder and runs it; how every command reports errors.

A command is a module of this folder with two functions: `build_parser()`, which imports nothing heavy, so that `--help`
answers at once, and `run(arguments)`, which imports what it needs and returns the exit code. Exit codes: 0 done, 1 some
input failed (the rest is done), 2 wrong usage, 130 interrupted. Errors are one line on stderr; `--debug` shows the
traceback.
"""

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import tokenloom
from tokenloom.scripts.several_processes import refuse_several

if TYPE_CHECKING:
    import torch

Kind = TypeVar("Kind")

# command -> (module of this folder, one line of help), in the order of a first day's work
COMMANDS: dict[str, tuple[str, str]] = {
    "text-to-image": ("text_to_image", "draw pictures from prompts, by any of the three decoders"),
    "text-to-video": ("text_to_video", "draw clips from prompts, in the same way"),
    "image-to-video": ("image_to_video", "draw clips that begin with a given picture"),
    "interpolate": ("interpolate", "draw clips between two given pictures"),
    "extend": ("extend", "continue a clip"),
    "compare": ("compare", "the same prompts by each decoder, side by side, in one HTML page"),
    "image-to-text": ("image_to_text", "write the captions of pictures"),
    "video-to-text": ("video_to_text", "write the captions of clips"),
    "text-to-speech": ("text_to_speech", "say texts, by any of the three decoders"),
    "speech-to-text": ("speech_to_text", "write what recordings say"),
    "speech-to-speech": ("speech_to_speech", "answer recordings by sounds, no text in between"),
    "text-to-text": ("text_to_text", "continue a text"),
    "any-to-any": ("any_to_any", "texts and media in, a text, picture, clip or sound out"),
    "evaluate": ("evaluate", "how often a model draws what was asked, on the built-in scenes or clips"),
    "evaluate-names": ("evaluate_names", "the same on your own captioned pictures, by a judge trained on them"),
    "evaluate-speech": ("evaluate_speech", "how well a model of speech says, writes down and answers digits"),
    "draw-shards": ("draw_shards", "a model's own true drawings as token shards, to learn from"),
    "embed": ("embed", "a vector of each text, picture, clip and sound, alike where they tell the same"),
    "evaluate-embed": ("evaluate_embed", "how well these vectors find pictures or sounds by texts, and texts by them"),
    "tokenize": ("tokenize_files", "turn texts, pictures, clips and sounds into token shards, or check their sums"),
    "tokenize-video": ("tokenize_video", "the same for clips alone"),
    "detokenize": ("detokenize", "turn token shards back into texts, pictures, clips and sounds"),
    "compress": ("compress", "turn pictures into small files, by a tokenizer and the probabilities of its codes"),
    "decompress": ("decompress", "turn these files back into pictures"),
    "export": ("export_shards", "write token shards as WebDataset tars, or for Hugging Face datasets"),
    "train-tokenizer": ("train_tokenizer", "train a tokenizer of texts, pictures, clips or sounds on your own files"),
    "train": ("train", "train the shared transformer on captioned pictures, under any mix of decoders"),
    "train-mixed": ("train_mixed", "train one transformer on pictures, clips and sounds together, from any to any"),
    "train-digit-judge": ("train_digit_judge", "train the judges that evaluate-speech asks"),
    "train-picture-judge": ("train_picture_judge", "train the judge that evaluate-names asks"),
    "train-embed": ("train_embed", "train the head that makes the vectors, on a transformer that stays as it is"),
    "train-speech": ("train_speech", "train the shared transformer to say, to write down and to answer speech"),
    "train-text": ("train_text", "train the shared transformer on text alone, to continue it"),
    "retrain": ("retrain", "train a model that ships again, from nothing, by its recipe"),
    "compare-sound-tokens": ("compare_sound_tokens", "tokens of several tokenizers of sound, at the same arithmetic"),
    "compare-text": ("compare_text", "n-grams and transformers on the same text: bits per byte, in one HTML page"),
    "rate-distortion": ("rate_distortion", "an image tokenizer beside JPEG, WebP and AVIF at the same bits"),
    "clip-distortion": ("clip_distortion", "a video tokenizer beside an image tokenizer at as many codes"),
    "speech-distortion": ("speech_distortion", "a sound tokenizer beside Opus and Codec2"),
    "benchmark": ("benchmark", "our speed beside that of the peers, on the same shapes"),
}


class UsageError(ValueError):
    """Options that do not go together: reported like any wrong usage, with exit code 2."""


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that reports wrong usage in one line and leaves the full usage to `--help`."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def in_one_line(text: str) -> str:
    """The text with its tabs, line breaks and other control characters written out, as in a table of lines and tabs."""
    return re.sub(r"[^\S ]|[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], text)


def refuse_to_lose(out: Path | None, inputs: Iterable[Path]) -> None:
    """
    Raises:
        UsageError: `out` is one of the files that are read.
    """
    if out is not None and out.exists() and any(file.exists() and file.samefile(out) for file in inputs):
        raise UsageError(f"--out {out} is what is read, and would be lost; name another file")


def main_of(
    build_parser: Callable[[], argparse.ArgumentParser],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
    prog: str | None = None,
) -> int:
    """Parse `argv` (without the program's name; default: the command line), run the command, return its exit code.

    `prog` is the name in messages; default: the file that was started. Wrong usage is SystemExit(2), as in argparse.
    """
    parser = build_parser()
    parser.prog = prog or parser.prog
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(argv)
    refuse_several(parser, arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be Unicode
    try:
        code = run(arguments)
        sys.stdout.flush()  # so that a closed pipe shows here and not in the interpreter's last breath
        return code
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        if arguments.debug:
            raise
        if isinstance(error, UsageError):
            parser.error(str(error))
        print(f"{parser.prog}: {describe(error)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        from tokenloom.pipelines.out_of_memory import is_out_of_memory

        if arguments.debug or not is_out_of_memory(error):
            raise
        print(f"{parser.prog}: out of memory; take a smaller model, size, length or batch", file=sys.stderr)
        return 1


def comma_separated(kind: Callable[[str], Any], choices: Sequence[str] | None = None) -> Callable[[str], tuple]:
    """The `type` of an option that takes several values with commas between them."""

    def values(words: str) -> tuple:
        found = tuple(kind(word.strip()) for word in words.split(",") if word.strip())
        if not found or len(set(found)) < len(found) or (choices and set(found) - set(choices)):
            known = f" of {', '.join(choices)}" if choices else ""
            raise argparse.ArgumentTypeError(
                f"different values{known}, with commas between them, are needed: {words!r}"
            )
        return found

    values.__name__ = kind.__name__  # what argparse names when a value is no `kind`
    return values


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that were given (are not None); the others are left to a recipe's defaults."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def usable(kind: Callable[..., Kind], **options: Any) -> Kind:
    """A recipe or config of what was asked for.

    Raises:
        UsageError: what was asked for cannot be.
    """
    try:
        return kind(**options)
    except ValueError as error:
        raise UsageError(str(error)) from error


def open_device(name: str) -> "torch.device":
    """The device that `--device` names.

    Raises:
        UsageError: there is no such device here.
    """
    import torch

    try:
        device = torch.empty(0, device=name).device
        if device.type == "meta":
            raise RuntimeError("it computes shapes and no numbers")
        return device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from error


def describe(error: Exception) -> str:
    """An error as one line: what the system says about a file in the order people read it, else the message itself."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def build_parser() -> CommandParser:
    width = max(map(len, COMMANDS))
    parser = CommandParser(
        prog="tokenloom",
        usage="tokenloom [--version] [--debug] COMMAND ...",
        description="Train tokenizers on your own files, feed one transformer, generate with three decoders.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items())
        + "\n\ntokenloom COMMAND --help tells about one command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tokenloom {tokenloom.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tokenloom COMMAND ...`. What stands before the command is ours, what follows is the command's."""
    words = list(sys.argv[1:] if argv is None else argv)
    start = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    parser = build_parser()
    options = parser.parse_args(words[:start])
    if start == len(words):
        parser.error(f"a COMMAND is needed: {', '.join(COMMANDS)}")
    command, rest = words[start], words[start + 1 :]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        parser.error(
            f"no command {command!r}; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}")
        )
    module = import_module(f"tokenloom.scripts.{COMMANDS[command][0]}")
    return main_of(
        module.build_parser, module.run, ["--debug", *rest] if options.debug else rest, f"tokenloom {command}"
    )


if __name__ == "__main__":
    sys.exit(main())
