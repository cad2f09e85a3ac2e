"""Tokens of several tokenizers of sound under the same transformer, each trained with the same arithmetic.

TOKENS are names or folders of tokenizers of sound, tokenloom-voice:3 for three of its codebooks; mulaw and mulaw-8000
are the samples themselves. Each transformer learns to say single digits by `ar` until --teraflops are spent; then
judges hear what it says, what its tokens alone give back, and the recordings. Prints a table; --out gets it as
table.json, and a folder of each run, with curves and samples. --resume keeps the rows that are done.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, main_of
from tokenloom.scripts.option_types import POSITIVE, out_folder, real_number, seed_number


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("tokens", nargs="+", metavar="TOKENS", help="NAME_OR_DIR or NAME_OR_DIR:CODEBOOKS")
    add("--digits", type=Path, required=True, metavar="PATH", help="recordings of single digits")
    add("--judges", type=Path, required=True, metavar="DIR", help="what train-digit-judge made")
    add("--out", type=out_folder, required=True, metavar="DIR", help="folder of the table and the runs")
    teraflops = real_number(1e-6, 1e9)
    add("--teraflops", type=teraflops, default=5.0, metavar="N", help="for each to learn; default: %(default)s")
    add("--strings", type=POSITIVE, default=40, metavar="N", help="said in each voice; default: %(default)s")
    add("--width", type=POSITIVE, metavar="N", help="of the trunk; default: 160")
    add("--layers", type=POSITIVE, metavar="N", help="default: 5")
    add("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    add("--resume", action="store_true", help="go on where a run was stopped")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.files import read_json, write_json
    from tokenloom.pipelines.compare_sound_tokens import (
        SoundTokensRow,
        TokensTrial,
        compare_sound_tokens,
        parse_sound_tokens,
        speakers_of,
        table,
    )
    from tokenloom.pipelines.evaluate_speech import judge_of, open_judges

    try:
        tokens = [parse_sound_tokens(spec) for spec in arguments.tokens]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if len({one.folder for one in tokens}) < len(tokens):
        raise UsageError(f"TOKENS must have names of their own, for their folders, got {', '.join(map(str, tokens))}")
    judges = open_judges(arguments.judges, speakers_of(arguments.digits))
    shape = {"width": arguments.width, "num_layers": arguments.layers}
    settings = {name: getattr(arguments, name) for name in ("teraflops", "strings", "seed")}
    settings["shape"] = {name: value for name, value in shape.items() if value is not None}
    trial = TokensTrial(
        digits=arguments.digits, judges={name: judge_of(found) for name, found in judges.items()}, **settings
    )
    settings["digits"], report = str(arguments.digits), arguments.out / "table.json"
    rows: list[SoundTokensRow] = []
    if report.is_file():
        if not arguments.resume:
            raise UsageError(f"{report} is there already; add --resume to go on, or name another folder")
        saved = read_json(report)
        if saved.get("settings") != settings:
            raise UsageError(f"{report} was made with {saved.get('settings')}; set them back, or name another folder")
        try:
            rows = [SoundTokensRow(**row) for row in saved["rows"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{report} is broken ({type(error).__name__}: {error}); name another folder") from error
    known = {row.tokens for row in rows}
    missing = [one for one in tokens if str(one) not in known]
    for row in compare_sound_tokens(missing, trial, arguments.out, resume=arguments.resume):
        rows.append(row)
        found = {"settings": settings, "rows": [asdict(one) for one in rows]}
        write_json(report, found)
    print(table(rows))
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
