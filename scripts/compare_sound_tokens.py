"""Tokens of several tokenizers of sound under the same transformer, each trained with the same arithmetic.

TOKENS are names or folders of tokenizers of sound, tokenloom-voice:3 for three of its codebooks; mulaw and mulaw-8000
are the samples themselves. Each transformer learns to say single digits by `ar` until --teraflops are spent; then
judges hear what it says, what its tokens alone give back, and the recordings. Prints a table; --out gets it as
table.json, and a folder of each run, with curves and samples.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenloom.scripts.cli import CommandParser, UsageError, main_of
from tokenloom.scripts.option_types import POSITIVE, out_folder, real_number, seed_number

if TYPE_CHECKING:
    from tokenloom.pipelines.compare_sound_tokens import SoundTokensRow


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("tokens", nargs="+", metavar="TOKENS", help="NAME_OR_DIR or NAME_OR_DIR:CODEBOOKS")
    add("--digits", type=Path, required=True, metavar="PATH", help="recordings of single digits")
    add("--judges", type=Path, required=True, metavar="DIR", help="what train_digit_judge.py made")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the table and the runs")
    teraflops = real_number(1e-6, 1e9)
    add("--teraflops", type=teraflops, default=5.0, metavar="N", help="for each to learn; default: %(default)s")
    add("--strings", type=POSITIVE, default=40, metavar="N", help="said in each voice; default: %(default)s")
    add("--width", type=POSITIVE, metavar="N", help="of the trunk; default: 160")
    add("--layers", type=POSITIVE, metavar="N", help="default: 5")
    add("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.files import write_atomically
    from tokenloom.pipelines.compare_sound_tokens import as_report, compare_sound_tokens, parse_sound_tokens, table
    from tokenloom.pipelines.evaluate_speech import judge_of, open_judges

    try:
        tokens = [parse_sound_tokens(spec) for spec in arguments.tokens]
    except ValueError as error:
        raise UsageError(str(error)) from error
    rows: list[SoundTokensRow] = []

    def done(row: "SoundTokensRow") -> None:
        rows.append(row)
        report = as_report(rows, digits=str(arguments.digits), seed=arguments.seed, teraflops=arguments.teraflops)
        write_atomically(arguments.out / "table.json", (json.dumps(report, indent=1) + "\n").encode())

    shape = {"width": arguments.width, "num_layers": arguments.layers}
    compare_sound_tokens(
        tokens,
        arguments.digits,
        lambda voices: {name: judge_of(found) for name, found in open_judges(arguments.judges, voices).items()},
        arguments.out,
        teraflops=arguments.teraflops,
        strings=arguments.strings,
        seed=arguments.seed,
        shape={name: value for name, value in shape.items() if value is not None},
        done=done,
    )
    print(table(rows))
    print(arguments.out / "table.json")
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
