"""Train the judges of spoken digits: for each speaker a recognizer that hears only the others, and what it is worth.

Of each judge prints digits recognized (1 - edit distance / digits) in real recordings of the speaker whom it never
heard, and in what a sound tokenizer makes of them. Judges lie under --out, each under its speaker's name, with the
figures in judges.json. --acquainted trains one judge of all speakers instead, which heard each of them, but not the
takes by which it is tried: it misses less of what strangers miss because of an accent.
"""

import argparse
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, main_of
from tokenloom.scripts.option_types import POSITIVE, out_folder, seed_number

CODEBOOKS = (2, 4, 6, 8)  # with which a tokenizer is tried
TEST_SEED = 1  # of the strings that are judged


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="PATH", help="folder or tar of DIGIT_SPEAKER_TAKE recordings")
    add("--out", required=True, type=out_folder, metavar="DIR", help="where the judges go")
    add("--speakers", nargs="+", metavar="NAME", help="whose judges to train; default: all")
    add("--acquainted", action="store_true", help="one judge, who knows all speakers")
    add("--tokenizer", default="tokenloom-voice", metavar="NAME_OR_DIR", help="default: %(default)s")
    add("--steps", type=POSITIVE, default=1500, help="of training, for each judge; default: %(default)s")
    add(
        "--strings",
        type=POSITIVE,
        default=200,
        help="of each speaker, to be judged; default: %(default)s",
    )
    add("--seed", type=seed_number, default=0, help="default: %(default)s")
    add("--resume", action="store_true", help="go on where a run was stopped")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.files import write_json
    from tokenloom.models.digit_recognizer import SAMPLE_RATE, DigitRecognizer, DigitRecognizerConfig
    from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
    from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER
    from tokenloom.pipelines.speech_judge import JudgeRecipe, digits_recognized, judge, train_judge
    from tokenloom.pipelines.spoken_digits import DigitStrings
    from tokenloom.tokenizers.audio import AudioTokenizer

    tokenizer = open_audio_tokenizer(arguments.tokenizer)
    if not isinstance(tokenizer, AudioTokenizer):
        raise ValueError(f"{arguments.tokenizer} must be a learned sound tokenizer with codebooks; name another")
    config, recipe = DigitRecognizerConfig(), JudgeRecipe(steps=arguments.steps, seed=arguments.seed)
    everybody = DigitStrings(arguments.data, sample_rate=SAMPLE_RATE, seed=arguments.seed).speakers
    if strangers := set(arguments.speakers or ()) - set(everybody):
        raise UsageError(f"--speakers must be some of {', '.join(everybody)}, got {', '.join(sorted(strangers))}")
    scores: dict[str, dict[str, float]] = {}

    def strings(speakers: list[str], rate: int, **options: int) -> DigitStrings:
        return DigitStrings(arguments.data, sample_rate=rate, speakers=speakers, vary=None, **options)

    def trained_on(speakers: list[str], folder: Path) -> DigitRecognizer:
        source = strings(speakers, SAMPLE_RATE, max_digits=recipe.max_digits, seed=recipe.seed)
        recognizer = train_judge(config, recipe, source, folder / "run", resume=arguments.resume)
        recognizer.save_pretrained(folder)
        return recognizer

    acquainted = trained_on(list(everybody), arguments.out) if arguments.acquainted else None
    for speaker in arguments.speakers or everybody:
        others = [name for name in everybody if name != speaker]
        recognizer = acquainted or trained_on(others, arguments.out / speaker)
        first = VALIDATION_NUMBER if acquainted else 0  # takes that nobody heard; of a stranger, any
        utterances = strings([speaker], tokenizer.sample_rate, seed=TEST_SEED).of_any_length(first, arguments.strings)
        texts, sounds = [said.text for said in utterances], [said.sound for said in utterances]
        scores[speaker] = {"real": digits_recognized(judge(recognizer, sounds, tokenizer.sample_rate), texts)}
        ids = [tokenizer.encode(sound[None]) for sound in sounds]
        for count in (count for count in CODEBOOKS if count <= tokenizer.num_codebooks):
            heard = [
                tokenizer.decode(codes[:, :count], (sound.shape[1],))[0]
                for codes, sound in zip(ids, sounds, strict=True)
            ]
            figure = digits_recognized(judge(recognizer, heard, tokenizer.sample_rate), texts)
            scores[speaker][f"{count} codebooks"] = figure
        print_scores(speaker, scores[speaker])
        write_json(arguments.out / "judges.json", scores)
    ways = list(next(iter(scores.values())))
    print_scores("mean", {way: sum(row[way] for row in scores.values()) / len(scores) for way in ways})
    return 0


def print_scores(name: str, scores: dict[str, float]) -> None:
    print(f"{name}: " + "  ".join(f"{way} {figure:.3f}" for way, figure in scores.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
