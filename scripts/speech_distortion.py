"""How well speech comes through a sound tokenizer, beside Opus at 6 kb/s and Codec2 below.

For each file and in the mean, STOI, PESQ and SI-SDR (dB) of the tokenizer with each number of codebooks and of the
codecs that are installed. Files that the tokenizer was trained on say nothing of others: --held-out takes of each
folder and tar only the files that training keeps for validation. With --out also writes speech_distortion.json and, for
each file, what comes back as wav.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from tokenloom.scripts.cli import CommandParser, main_of, open_device
from tokenloom.scripts.option_types import SECONDS, out_folder


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--tokenizer", default="tokenloom-voice", metavar="NAME_OR_DIR", help="default: %(default)s")
    add("--data", nargs="+", required=True, type=Path, metavar="PATH", help="folders or tars of speech")
    add("--held-out", action="store_true", help="only the files that training does not see")
    add("--seconds", type=SECONDS, default=10.0, help="of each file, from its start; default: %(default)s")
    add("--device", default="cpu", help="of the tokenizer, such as cuda; default: %(default)s")
    add("--out", type=out_folder, metavar="DIR", help="folder of the figures and sounds")
    return parser


def run(arguments: argparse.Namespace) -> int:
    import shutil
    from dataclasses import asdict

    from tokenloom.data.audio import read_audio
    from tokenloom.data.files import write_json
    from tokenloom.data.find_files import SOUND_SUFFIXES
    from tokenloom.data.folders import find_entries
    from tokenloom.data.media import MAX_BYTES
    from tokenloom.data.write_audio import write_audio
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.pipelines.picture_sources import held_out_of
    from tokenloom.pipelines.speech_distortion import SpeechRate, compare_codecs, mean
    from tokenloom.pipelines.speech_scores import missing
    from tokenloom.tokenizers.mulaw import MuLawTokenizer

    tokenizer = open_audio_tokenizer(arguments.tokenizer, open_device(arguments.device))
    if isinstance(tokenizer, MuLawTokenizer):
        raise ValueError(f"{arguments.tokenizer} must be a learned sound tokenizer, which has a bit rate to compare")
    for line in missing():
        print(line, file=sys.stderr)
    if shutil.which("c2enc") is None:
        print("no c2enc, so no Codec2: apt-get install codec2", file=sys.stderr)
    pieces = []
    for path in arguments.data:
        entries = find_entries(path, "sounds", SOUND_SUFFIXES)
        kept = held_out_of(len(entries)) if arguments.held_out else range(len(entries))
        pieces += [entries[index].image for index in kept]
    results: dict[str, dict[str, SpeechRate]] = {}
    for number, piece in enumerate(pieces):
        try:
            source = piece.path if piece.size is None else piece.read(MAX_BYTES)
            sound = read_audio(source, sample_rate=tokenizer.sample_rate, stop=arguments.seconds, name=piece.name)
            ways = compare_codecs(tokenizer, sound[None].to(arguments.device))
        except ValueError as error:
            print(f"skipped {error}", file=sys.stderr)
            continue
        results[piece.name] = {way: rate for way, (rate, _) in ways.items()}
        print_rates(Path(piece.member or piece.path.name).name, results[piece.name])
        for way, (_, heard) in ways.items() if arguments.out else ():
            write_audio(arguments.out / f"{number:03} {way}.wav", heard[0].cpu(), tokenizer.sample_rate)
    if not results:
        raise ValueError(f"none of {len(pieces)} files can be compared")
    names = list(next(iter(results.values())))
    means = {way: mean([rates[way] for rates in results.values()]) for way in names}
    print_rates(f"mean of {len(results)}", means)
    if arguments.out:
        report = {
            "tokenizer": str(arguments.tokenizer),
            "fingerprint": tokenizer.fingerprint,
            "mean": {way: asdict(rate) for way, rate in means.items()},
            "files": {name: {way: asdict(rate) for way, rate in rates.items()} for name, rates in results.items()},
        }
        path = arguments.out / "speech_distortion.json"
        write_json(path, report)
        print(path)
    return 1 if len(results) < len(pieces) else 0


def print_rates(name: str, rates: dict[str, Any]) -> None:
    for number, (way, rate) in enumerate(rates.items()):
        figures = f"{rate.bits_per_second / 1000:6.2f} kb/s  STOI {rate.stoi:.3f}  PESQ {rate.pesq:.2f}"
        print(f"{name if number == 0 else '':24} {way:14}{figures}  SI-SDR {rate.si_sdr:6.1f} dB")


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
