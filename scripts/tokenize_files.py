"""Turn pictures and texts of any size into exact, resumable token shards: DIR/image and DIR/text.

A run that was stopped goes on where it was; files that cannot be read are reported and skipped.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, main_of, open_device

MODALITIES = ("image", "text")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE_OR_FOLDER", help="what to tokenize")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the shards, new or to be continued")
    parser.add_argument(
        "--modality", choices=("auto", *MODALITIES), default="auto", help="what the files hold; auto: by their suffix"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="NAME_OR_DIR",
        help="shipped name or folder; default: tokenloom-photo for pictures, that of tokenloom-mini for texts",
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="make pictures squares of this side; default: as they are"
    )
    parser.add_argument(
        "--device", default="cpu", help="where pictures are encoded, such as cuda; default: %(default)s"
    )
    parser.add_argument("--verify", type=Path, metavar="DIR", help="tokenize nothing, check every sum of these shards")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.verify is not None:
        if arguments.paths or arguments.out:
            raise UsageError("--verify takes its folder and nothing else")
        return verify_folder(arguments.verify)
    if not arguments.paths or arguments.out is None:
        raise UsageError("files or folders and --out DIR are needed")
    if arguments.size is not None and arguments.size < 1:
        raise UsageError(f"--size must be at least 1 pixel, got {arguments.size}")

    from tokenloom.pipelines.open_tokenizer import KINDS, open_image_tokenizer, open_text_tokenizer
    from tokenloom.pipelines.tokenize_files import tokenize_images, tokenize_texts

    device = open_device(arguments.device)
    code = 0
    for modality, paths in by_modality(arguments.paths, arguments.modality).items():
        name = arguments.tokenizer or KINDS[modality].default
        if modality == "image":
            summary = tokenize_images(
                paths,
                arguments.out,
                open_image_tokenizer(name).to(device),
                tokenizer_name=name,
                size=arguments.size,
                device=device,
            )
        else:
            summary = tokenize_texts(paths, arguments.out, open_text_tokenizer(name), tokenizer_name=name)
        print(
            f"{arguments.out / modality}: {summary.files} files tokenized ({summary.tokenized} contents new, "
            f"{summary.reused} there before), {len(summary.failed)} failed"
        )
        code = 1 if summary.failed else code
    return code


def by_modality(paths: list[Path], modality: str) -> dict[str, list[Path]]:
    """Modality -> the paths to look through: folders for each that is in them, files by their suffix.

    Raises:
        ValueError: a path is missing, or there is no file, or a file whose suffix says nothing.
    """
    from tokenloom.data.media import SUFFIXES
    from tokenloom.pipelines.tokenize_files import TEXT_SUFFIXES, find_files

    if modality != "auto":
        return {modality: paths}
    suffixes = {"image": SUFFIXES, "text": TEXT_SUFFIXES}
    for path in paths:
        if path.is_file() and path.suffix.lower() not in SUFFIXES + TEXT_SUFFIXES:
            raise ValueError(f"{path}: its suffix does not tell what it holds; say it with --modality image or text")
    there = {path.suffix.lower() for path in find_files(paths, SUFFIXES + TEXT_SUFFIXES).values()}
    return {
        name: [path for path in paths if path.is_dir() or path.suffix.lower() in suffixes[name]]
        for name in MODALITIES
        if there.intersection(suffixes[name])
    }


def verify_folder(folder: Path) -> int:
    from tokenloom.pipelines.tokenize_files import shard_folders, verify

    problems = verify(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"every sum is right: {', '.join(map(str, shard_folders(folder)))}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
