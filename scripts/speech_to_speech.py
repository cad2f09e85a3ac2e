"""Answer recordings by sounds, with no text in between: 00000.wav, 00001.wav, ... in the order of the files.

A file that cannot be read, or is longer than the model knows, is told about and left out, and the exit code is then 1.
Answer k has the seed --seed + k, and a seed always gives the same bytes.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, UsageError, main_of, open_device
from tokenloom.scripts.option_types import TEMPERATURE, out_folder, seed_number
from tokenloom.scripts.prompt_options import check_out


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="PATH", help="recordings, or folders of them")
    parser.add_argument("--model", default="tokenloom-speech", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument("--decoder", choices=DECODERS, default="ar", help="how to draw; default: %(default)s")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="S", help="of the first answer; default: %(default)s"
    )
    parser.add_argument(
        "--temperature", type=TEMPERATURE, metavar="T", help="lower is safer; 0 takes the likeliest code"
    )
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    parser.add_argument("--out", type=out_folder, required=True, metavar="DIR", help="folder of the answers")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.files import json_line, write_atomically
    from tokenloom.data.find_files import find_files
    from tokenloom.data.write_audio import write_audio
    from tokenloom.pipelines.draw_files import INDEX
    from tokenloom.pipelines.hear_files import answers
    from tokenloom.pipelines.text_to_speech import SpeechToSpeechPipeline

    files = find_files(arguments.files, "audio")
    if any(file.parent.resolve() == arguments.out.resolve() for file in files.values()):
        raise UsageError(f"--out {arguments.out} holds what is to be heard, which may be lost; name another folder")
    check_out(arguments.out, "answer", [], several=True)
    pipeline = SpeechToSpeechPipeline.from_pretrained(arguments.model).to(open_device(arguments.device))
    rate = pipeline.model.audio_tokenizer.sample_rate
    how = {"decoder": arguments.decoder, "temperature": arguments.temperature}
    lines: list[bytes] = []
    try:
        for number, found in enumerate(answers(pipeline, files.values(), seed=arguments.seed, **how)):
            if found.sound is None:
                print(f"skipped {found.error}", file=sys.stderr)
                continue
            name, seed = f"{number:05}.wav", arguments.seed + number
            write_audio(arguments.out / name, found.sound, rate)
            told = {"file": name, "heard": str(found.file), "seed": seed, "decoder": arguments.decoder}
            lines.append(json_line(told | {"seconds": round(found.seconds, 4)}))
    finally:
        if lines:
            write_atomically(arguments.out / INDEX, b"".join(lines))
    print(f"{arguments.out}: {len(lines)} of {len(files)} recordings answered")
    return int(len(lines) < len(files))


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
