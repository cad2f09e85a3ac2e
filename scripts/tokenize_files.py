"""Turn texts, pictures, clips and sounds into exact, resumable token shards: DIR/text, DIR/image, DIR/video, DIR/audio.

A run that was stopped goes on where it was; files that cannot be read are reported and skipped. The bytes are the same
for any number of workers.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, UsageError, main_of, open_device
from tokenloom.scripts.option_types import out_folder

if TYPE_CHECKING:
    from tokenloom.data.shards import Summary
    from tokenloom.pipelines.workers import Crew

MODALITIES = ("text", "image", "video", "audio")


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("paths", nargs="*", type=Path, metavar="FILE_OR_FOLDER", help="what to tokenize")
    add("--out", type=out_folder, metavar="DIR", help="folder of the shards, new or to be continued")
    add(
        "--modality",
        choices=("auto", *MODALITIES),
        default="auto",
        help="what the files hold; auto: by their suffix, and animations are clips; audio: of clips given by name the "
        "sound; default: %(default)s",
    )
    add(
        "--tokenizer",
        metavar="NAME_OR_DIR",
        help="shipped name or folder; default: tokenloom-photo for pictures, tokenloom-footage for clips (an image "
        "tokenizer takes them frame by frame); that of tokenloom-mini for texts; tokenloom-voice for sounds "
        "(without training: mulaw at 16 kHz, mulaw-8000)",
    )
    add(
        "--text-tokenizer",
        metavar="NAME_OR_DIR",
        help="of texts, such as captions, where --tokenizer is one of the media beside them; default: --tokenizer",
    )
    add("--size", type=int, metavar="PIXELS", help="make pictures and clips squares of this side; default: as they are")
    add("--fps", type=float, metavar="RATE", help="take so many frames per second of clips; default: as they are")
    add("--workers", type=int, metavar="N", help="processes, each at one file at a time; default: one per core")
    add("--ray", metavar="ADDRESS", help="let a Ray cluster do the work: its address, or local")
    add("--device", default="cpu", help="where media are encoded, such as cuda; default: %(default)s")
    add("--verify", type=Path, metavar="DIR", help="tokenize nothing, check every sum of these shards")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.verify is not None:
        usual = vars(build_parser().parse_args([]))
        if any(getattr(arguments, name) != value for name, value in usual.items() if name != "verify"):
            raise UsageError("--verify takes its folder and nothing else")
        return verify_folder(arguments.verify)
    if not arguments.paths or arguments.out is None:
        raise UsageError("files or folders and --out DIR are needed")
    if arguments.size is not None and arguments.size < 1:
        raise UsageError(f"--size must be at least 1 pixel, got {arguments.size}")
    if arguments.fps is not None and not 0 < arguments.fps <= 1000:
        raise UsageError(f"--fps must be more than 0 and at most 1000, got {arguments.fps}")
    crew = crew_of(arguments)

    from tokenloom.data.find_files import find_files, sort_files

    if arguments.modality == "auto":
        found = sort_files(arguments.paths)
    else:
        found = {arguments.modality: find_files(arguments.paths, arguments.modality)}
    if arguments.size is not None and not found.keys() & {"image", "video"}:
        raise UsageError(f"--size is of pictures and clips, and there are only {', '.join(found)} files; leave it out")
    if arguments.fps is not None and "video" not in found:
        raise UsageError(f"--fps is of clips, and there are only {', '.join(found)} files; leave it out")
    code = 0
    for modality, files in found.items():
        summary = tokenize(modality, files, arguments, crew)
        print(
            f"{arguments.out / modality}: {summary.files} files tokenized ({summary.tokenized} contents new, "
            f"{summary.reused} there before), {len(summary.failed)} failed"
        )
        code = 1 if summary.failed else code
    return code


def crew_of(arguments: argparse.Namespace) -> "Crew":
    """Who does the work: on a device this process, else several, here or on a cluster."""
    from tokenloom.pipelines.workers import here, processes

    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError(f"--workers must be at least 1, got {arguments.workers}")
    alone = not arguments.device.startswith("cpu")
    if alone and (arguments.ray is not None or (arguments.workers or 1) > 1):
        raise UsageError(f"--device {arguments.device} is used by one process; leave --workers and --ray out")
    open_device(arguments.device)  # refuses what is not there
    if alone:
        return here
    if arguments.ray is not None:
        from tokenloom.pipelines.ray_workers import ray_cluster

        return ray_cluster(arguments.ray, arguments.workers)
    workers = arguments.workers or os.cpu_count() or 1
    return processes(workers) if workers > 1 else here


def tokenize(modality: str, files: dict[str, Path], arguments: argparse.Namespace, crew: "Crew") -> "Summary":
    from tokenloom.pipelines import open_tokenizer
    from tokenloom.pipelines.tokenize_files import tokenize_images, tokenize_sounds, tokenize_texts, tokenize_videos

    out, device, size = arguments.out, arguments.device, arguments.size
    name = arguments.tokenizer or open_tokenizer.KINDS[modality].default
    if modality == "text":
        name = arguments.text_tokenizer or name
        return tokenize_texts(files, out, open_tokenizer.open_text_tokenizer(name), tokenizer_name=name, crew=crew)
    if modality == "image":
        pictures = open_tokenizer.open_image_tokenizer(name).to(device)
        return tokenize_images(files, out, pictures, tokenizer_name=name, size=size, device=device, crew=crew)
    if modality == "audio":
        sounds = open_tokenizer.open_audio_tokenizer(name)
        return tokenize_sounds(files, out, sounds, tokenizer_name=name, device=device, crew=crew)
    clips = open_tokenizer.open_video_tokenizer(name, device)
    return tokenize_videos(
        files, out, clips, tokenizer_name=name, fps=arguments.fps, size=size, device=device, crew=crew
    )


def verify_folder(folder: Path) -> int:
    from tokenloom.data.shard_reader import shard_folders, verify

    problems = verify(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"every sum is right: {', '.join(map(str, shard_folders(folder)))}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
