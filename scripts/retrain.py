"""Train a model that ships again, from nothing, by the recipe that lies beside its weights.

  tokenloom retrain tokenloom-voice --packs data/ --out voice-again

A recipe is recipe.json in the model's folder: stages, each a command of tokenloom whose words may name {packs} and the
folders of earlier stages. Every stage is printed before it runs. A run that was killed and is started again goes on
where it stopped, and stages that are done are left alone. Where the shipped weights were trained in more and shorter
runs, the model's card says so, and its figures are theirs; the recipe is the straight way to such weights.

--rehearse takes two steps of two examples in every stage: it shows in minutes that all of it runs here.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

from tokenloom.scripts.cli import CommandParser, UsageError, main, main_of, open_device
from tokenloom.scripts.option_types import out_folder

RECIPE = "recipe.json"
DONE = "stages.json"  # in --out: the words of every stage that is done
STAGES = ("train-tokenizer", "train", "train-embed", "train-speech", "train-text")  # that go on and take a device
REHEARSAL = "--steps 2 --batch-size 2".split()
QUIET = {"train": "--score-prompts 0".split()}  # a model of two steps draws nothing worth a score


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("name", metavar="NAME", help="a shipped model, or a folder with a recipe.json")
    add("--packs", type=Path, required=True, metavar="DIR", help="where the data of the model's card lies")
    add("--out", type=out_folder, required=True, metavar="DIR", help="where the stages go, a folder each")
    add("--device", default="cpu", help="where to train, such as cuda; default: %(default)s")
    add("--rehearse", action="store_true", help="two steps of two examples in every stage")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from tokenloom.data.files import read_json, write_json

    open_device(arguments.device)
    stages = read_stages(arguments.name)
    done_file = arguments.out / DONE
    done: dict[str, list[str]] = read_json(done_file) if done_file.is_file() else {}
    for number, (stage, words) in enumerate(stages.items(), 1):
        words = filled(words, stage, stages, arguments.packs, arguments.out)
        words += ["--device", arguments.device] * (arguments.device != "cpu")
        if arguments.rehearse:
            words += REHEARSAL + QUIET.get(words[0], [])
        head = f"stage {number} of {len(stages)}, {stage}"
        if stage in done:
            if done[stage] != words:
                raise ValueError(
                    f"{stage} in {arguments.out} was made by another recipe or for other packs; take another --out"
                )
            print(f"{head}: done")
            continue
        print(f"{head}: tokenloom {shlex.join(words)}", flush=True)
        if code := main([*words, "--resume"]):
            return code
        done[stage] = words
        write_json(done_file, done)
    return 0


def read_stages(name: str) -> dict[str, list[str]]:
    """The words of each stage of a shipped model or of a folder, in their order.

    Raises:
        ValueError: there is no recipe, or it is none.
    """
    from tokenloom.data.files import read_json
    from tokenloom.tokenizers.pretrained import SHIPPED

    path = next((folder / RECIPE for folder in (Path(name), SHIPPED / name) if (folder / RECIPE).is_file()), None)
    if path is None:
        known = ", ".join(sorted(found.parent.name for found in SHIPPED.glob(f"*/{RECIPE}")))
        raise UsageError(f"NAME must have a recipe: one of {known}, or a folder with {RECIPE}; got {name!r}")
    try:
        stages = {str(stage): shlex.split(words) for stage, words in read_json(path)["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no recipe ({type(error).__name__}: {error})") from error
    for stage, words in stages.items():
        trains = bool(words) and words[0] in STAGES and words[:2] != ["train-tokenizer", "text"]
        if not stage.isidentifier() or not trains:
            raise ValueError(
                f"{path}: a stage must be a name and one of {', '.join(STAGES)} (not of text), got {stage!r}: "
                f"{' '.join(words[:2])}"
            )
    return stages


def filled(words: list[str], stage: str, stages: dict[str, list[str]], packs: Path, out: Path) -> list[str]:
    """The words of a stage with the folders in them, and where its own result goes.

    Raises:
        ValueError: a word names something that is not there yet, or a file that is not among the packs.
    """
    earlier = list(stages)[: list(stages).index(stage)]
    folders = {"packs": str(packs)} | {name: str(out / name) for name in earlier}
    try:
        found = [re.sub(r"{(.*?)}", lambda name: folders[name[1]], word) for word in words]
    except KeyError as error:
        raise ValueError(f"{stage} may name packs and stages before it, and names {error}; mend the recipe") from error
    for word, raw in zip(found, words, strict=True):
        path, _, share = word.rpartition(":") if ":" in raw else (word, "", "")
        if raw.startswith("{packs}") and not Path(path).exists():
            raise ValueError(f"{path} is needed and is not there; the model's card says what it is")
    return [*found, "--out", str(out / stage)]


if __name__ == "__main__":
    sys.exit(main_of(build_parser, run))
