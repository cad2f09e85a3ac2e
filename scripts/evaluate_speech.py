"""How well a model of speech says digits, writes them down, and answers sums of two digits.

--digits are the recordings that it learned from, of which the last takes were held apart; --judges is a folder of
recognizers that train-digit-judge made, each of which never heard the speaker whom it judges, or one that knows all
speakers. What the model writes of voices that it never learned (train-speech --leave-out) stands apart, as strangers.
Prints a table; with --out also writes evaluation.json, every string with what was understood of it.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.scripts.cli import CommandParser, comma_separated, main_of, open_device
from tokenloom.scripts.option_types import GUIDANCE, POSITIVE, STEPS, TEMPERATURE, out_folder, seed_number

if TYPE_CHECKING:
    from tokenloom.pipelines.evaluate_speech import Heard


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", nargs="?", default="tokenloom-speech", metavar="MODEL", help="default: %(default)s")
    add("--digits", type=Path, required=True, metavar="PATH", help="recordings of single digits")
    add("--judges", type=Path, required=True, metavar="DIR", help="what train-digit-judge made")
    add("--decoders", type=comma_separated(str, DECODERS), default=DECODERS, metavar="D,...", help="default: all three")
    add("--strings", type=POSITIVE, default=40, metavar="N", help="of each speaker; default: %(default)s")
    add("--seed", type=seed_number, default=0, metavar="S", help="default: %(default)s")
    add("--guidance-scale", type=GUIDANCE, metavar="G")
    add("--steps", type=STEPS, metavar="N", help="of masked and diffusion")
    add("--temperature", type=TEMPERATURE, metavar="T")
    add("--best-of", type=POSITIVE, metavar="N", help="judge the one of N that the model finds truest")
    add("--device", default="cpu", help="where to run, such as cuda; default: %(default)s")
    add("--out", type=out_folder, metavar="DIR", help="folder of evaluation.json")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.files import write_json
    from tokenloom.pipelines.evaluate_speech import (
        answers,
        judge_of,
        open_judges,
        real_and_reconstructed,
        says,
        with_all,
        writes,
    )
    from tokenloom.pipelines.speech_model import SpeechModel
    from tokenloom.pipelines.spoken_digits import DigitStrings, DigitSums

    model = SpeechModel.from_pretrained(arguments.model).to(open_device(arguments.device))
    judges = {name: judge_of(found) for name, found in open_judges(arguments.judges, model.voices).items()}
    rate, seed = model.audio_tokenizer.sample_rate, arguments.seed
    speakers = sorted(set(model.voices) & judges.keys())
    if not speakers:
        raise ValueError(f"the voices {model.voices} have no judge among {sorted(judges)}; train theirs")
    real = DigitStrings(arguments.digits, sample_rate=rate, seed=seed, speakers=speakers, vary=None)
    texts = [one.text for one in real.of_any_length(0, arguments.strings)]
    how = {
        "guidance_scale": arguments.guidance_scale,
        "num_inference_steps": arguments.steps,
        "temperature": arguments.temperature,
        "best_of": arguments.best_of,
    }
    report: dict[str, Any] = {"model": str(arguments.model), "seed": seed, "strings": arguments.strings}
    recorded, reconstructed = real_and_reconstructed(model, real, judges, arguments.strings)
    rows = {"recordings": recorded, "their codes": reconstructed}
    if "speak" in model.tasks:
        for decoder in arguments.decoders:
            rows |= with_all(decoder, says(model, decoder, judges, texts, seed=seed, **how))
    if "write" in model.tasks:
        rows |= with_all("written", writes(model, real, arguments.strings * len(speakers)))
        everybody = DigitStrings(arguments.digits, sample_rate=rate, seed=seed, vary=None).speakers
        if strangers := [name for name in everybody if name not in model.voices]:
            unheard = DigitStrings(arguments.digits, sample_rate=rate, seed=seed, speakers=strangers, vary=None)
            rows |= with_all("written, strangers", writes(model, unheard, arguments.strings * len(strangers)))
    if "answer" in model.tasks:
        sums = DigitSums(arguments.digits, sample_rate=rate, seed=seed, speakers=speakers, vary=None)
        for decoder in arguments.decoders:
            rows[f"answers, {decoder}"] = answers(model, decoder, sums, judges, len(texts) * len(speakers), seed=seed)
    print(f"{'':24} {'strings':>8} {'digits recognized':>18} {'+-95%':>7} {'strings right':>14} {'+-95%':>7}")
    for name, heard in rows.items():
        report[name] = row_of(heard)
        print(
            f"{name:24} {len(heard.said):8d} {heard.recognized:18.3f} {report[name]['recognized_half']:7.3f} "
            f"{heard.right:14.3f} {report[name]['right_half']:7.3f}"
        )
    if arguments.out:
        write_json(arguments.out / "evaluation.json", report)
        print(arguments.out / "evaluation.json")
    return 0


def row_of(heard: "Heard") -> dict[str, Any]:
    """Figures with half their 95% intervals (normal approximation, digits and strings as independent), and strings."""
    digits = sum(len(text.split()) for text in heard.said)
    return {
        "recognized": heard.recognized,
        "recognized_half": half(heard.recognized, digits),
        "right": heard.right,
        "right_half": half(heard.right, len(heard.said)),
        "strings": [{"said": a, "heard": b} for a, b in zip(heard.said, heard.heard, strict=True)],
    }


def half(share: float, count: int) -> float:
    share = min(1.0, max(0.0, share))
    return 1.96 * math.sqrt(share * (1 - share) / count)


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
