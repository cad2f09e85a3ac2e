"""Laws of scripts/retrain.py: every model that ships has a recipe that runs, to the same bits; stages run once."""

import json
from pathlib import Path

import pytest

from tests.conftest import needs_packs
from tokenloom.scripts import cli, retrain
from tokenloom.scripts.retrain import filled, read_stages
from tokenloom.tokenizers.pretrained import SHIPPED

NAMES = sorted(path.parent.name for path in SHIPPED.glob("*/README.md"))
WITHOUT_PACKS = "tokenloom-scenes"


def weights_below(folder: Path) -> dict[str, bytes]:
    """Every file of weights of the finished stages: checkpoints hold the paths of the run."""
    paths = [path for path in sorted(folder.rglob("model.safetensors")) if "checkpoint" not in str(path)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def rehearsed(name: str, packs: Path, out: Path) -> dict[str, bytes]:
    assert cli.main(["retrain", name, "--packs", str(packs), "--out", str(out), "--rehearse"]) == 0
    assert list(json.loads((out / "stages.json").read_text())) == list(read_stages(name))
    return weights_below(out)


def test_every_model_that_ships_has_a_recipe():
    assert NAMES and all(read_stages(name) for name in NAMES)


def test_first_steps_end_in_the_same_bits(tmp_path):
    one, other = (rehearsed(WITHOUT_PACKS, tmp_path, tmp_path / folder) for folder in ("one", "other"))
    assert one and one == other


@needs_packs
@pytest.mark.parametrize("name", [name for name in NAMES if name != WITHOUT_PACKS])
def test_first_steps_on_the_packs_end_in_the_same_bits(name, packs, tmp_path):
    one, other = (rehearsed(name, packs, tmp_path / folder) for folder in ("one", "other"))
    assert one and one == other


@pytest.fixture
def ran(monkeypatch) -> list[list[str]]:
    """Commands that were run: none of them really; those with "--fail" fail."""
    words: list[list[str]] = []

    def main(argv: list[str]) -> int:
        words.append(argv)
        return int("--fail" in argv)

    monkeypatch.setattr(retrain, "main", main)
    return words


def recipe(folder: Path, **stages: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"stages": stages}))
    return str(folder)


def run(name: str, tmp_path: Path, *more: str) -> int:
    words = [name, "--packs", str(tmp_path / "packs"), "--out", str(tmp_path / "out"), *more]
    return cli.main(["retrain", *words])


def test_a_stage_names_packs_and_what_came_before_and_runs_once(tmp_path, ran, capsys):
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "a b.tar").touch()
    two = {"one": 'train-tokenizer image --data "{packs}/a b.tar:0.5"', "two": "train --tokenizer {one}"}
    name = recipe(tmp_path / "model", **two)
    packs, out = tmp_path / "packs", tmp_path / "out"
    assert run(name, tmp_path) == 0
    first = ["train-tokenizer", "image", "--data", f"{packs}/a b.tar:0.5", "--out", f"{out}/one", "--resume"]
    assert ran == [first, ["train", "--tokenizer", f"{out}/one", "--out", f"{out}/two", "--resume"]]
    assert f"stage 2 of 2, two: tokenloom train --tokenizer {out}/one" in capsys.readouterr().out
    assert run(name, tmp_path) == 0 and len(ran) == 2, "what is done is left alone"
    assert run(name, tmp_path, "--rehearse") == 1
    assert "one in " in (err := capsys.readouterr().err) and "take another --out" in err


def test_what_fails_stops_the_recipe_and_is_tried_again(tmp_path, ran):
    name = recipe(tmp_path / "model", one="train", two="train --fail", three="train")
    assert run(name, tmp_path, "--rehearse") == 1 and len(ran) == 2
    assert ran[0][-7:] == ["--steps", "2", "--batch-size", "2", "--score-prompts", "0", "--resume"]
    assert run(name, tmp_path, "--rehearse") == 1 and ran[2] == ran[1]
    recipe(tmp_path / "model", one="train", two="train", three="train")
    assert run(name, tmp_path, "--rehearse") == 0
    assert [Path(words[words.index("--out") + 1]).name for words in ran[3:]] == ["two", "three"]


def test_a_pack_that_is_missing_is_named_before_anything_of_its_stage_runs(tmp_path, ran, capsys):
    assert run(recipe(tmp_path / "model", one="train --data {packs}/a.tar:2"), tmp_path) == 1
    assert f"{tmp_path}/packs/a.tar is needed and is not there" in capsys.readouterr().err and not ran


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"one": "evaluate"}, "a stage must be a name and one of train-tokenizer"),
        ({"one": "rm -r /"}, "a stage must be a name and one of train-tokenizer"),
        ({"../one": "train"}, "a stage must be a name"),
        ({"one": "train-picture-judge"}, "a stage must be a name and one of train-tokenizer"),
        ({"one": "train-tokenizer text"}, "(not of text), got 'one': train-tokenizer text"),
        ({"one": ""}, "a stage must be a name and one of train-tokenizer"),
        ({"one": "train {two}", "two": "train"}, "may name packs and stages before it, and names 'two'"),
        ({"one": "train {packs.__class__}"}, "may name packs and stages before it"),
        ({"one": "train 'open"}, "is no recipe"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, ran, capsys, stages, message):
    assert run(recipe(tmp_path / "model", **stages), tmp_path) == 1
    assert message in capsys.readouterr().err and not ran
    (tmp_path / "model" / "recipe.json").write_text("[]")
    assert run(str(tmp_path / "model"), tmp_path) == 1


def test_a_name_without_a_recipe_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("tokenloom-nothing", tmp_path)
    assert stopped.value.code == 2 and "one of tokenloom-footage, tokenloom-mini" in capsys.readouterr().err


def test_braces_that_are_no_folder_are_refused(tmp_path):
    stages = {"one": ["train", "{0}"]}
    with pytest.raises(ValueError, match="may name packs"):
        filled(stages["one"], "one", stages, tmp_path, tmp_path)
