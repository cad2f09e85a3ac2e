"""`tokenloom train-text`, `text-to-text` and `compare-text`, and the page: nothing from outside becomes markup."""

import copy
import json

import pytest

from tests.test_report import EVIL, Page
from tokenloom import TextToTextPipeline
from tokenloom.data.files import write_atomically
from tokenloom.pipelines.compare_text import TextComparison, held_out_prompts
from tokenloom.pipelines.text_report import findings, report_html
from tokenloom.scripts import cli

LINES = "".join(f"{n} and {n} make {2 * n}.\n" for n in range(120))
TINY = ["--width", "32", "--layers", "1", "--heads", "2", "--window", "16", "--steps", "4", "--batch-size", "2"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "sums.txt"
    write_atomically(path, LINES.encode())
    return path


@pytest.fixture(scope="module")
def compared(text):
    out = text.parent / "compared"
    words = ["--orders", "1,3", "--vocab-size", "280", "--length", "30", "--prompt", "7 and", "--prompt", EVIL]
    assert cli.main(["compare-text", "--data", str(text), "--out", str(out), *TINY, *words]) == 0
    return out


@pytest.fixture(scope="module")
def report(compared):
    return json.loads((compared / "report.json").read_text())


# -------------------------------------------------------------------------------------------------------- the commands


def test_all_are_measured_on_the_same_held_out_bytes(report):
    assert [arm["name"] for arm in report["arms"]] == [
        *("1-gram", "3-gram"),
        *("transformer on bytes", "transformer on pieces"),
    ]
    assert report["train_bytes"] + report["held_out_bytes"] == len(LINES)
    for arm in report["arms"]:
        assert "".join(piece for piece, _ in arm["costs"]) == LINES[-report["held_out_bytes"] :][:240]
        whole = sum(bits * len(piece) for piece, bits in arm["costs"]) / sum(len(piece) for piece, _ in arm["costs"])
        if report["held_out_bytes"] <= 240:
            assert whole == pytest.approx(arm["bits_per_byte"], abs=0.02)
        assert len(arm["continuations"]) == 2 and all(len(written) <= 30 for written in arm["continuations"])


def test_the_two_transformers_spend_the_same_up_to_a_step(report):
    on_bytes, on_pieces = report["arms"][-2:]
    assert abs(on_bytes["teraflops"] - on_pieces["teraflops"]) <= on_bytes["teraflops"] / 4
    assert on_bytes["epochs"] > 0 and on_pieces["parameters"] > on_bytes["parameters"]


def test_a_comparison_that_is_resumed_says_the_same_but_for_the_seconds(text, compared, report):
    words = ["--orders", "1,3", "--vocab-size", "280", "--length", "30", "--prompt", "7 and", "--prompt", EVIL]
    assert cli.main(["compare-text", "--data", str(text), "--out", str(compared), *TINY, *words, "--resume"]) == 0
    again = json.loads((compared / "report.json").read_text())
    assert [arm["seconds"] for arm in again["arms"][-2:]] == [None, None]
    for arm, before in zip(again["arms"], report["arms"], strict=True):
        arm["seconds"] = before["seconds"]
    assert again == report
    assert "resumed" in (compared / "report.html").read_text()


def test_a_model_that_was_trained_goes_on_with_a_prompt(text, capsys):
    out = text.parent / "trained"
    assert cli.main(["train-text", "--data", str(text), "--out", str(out), *TINY, "--vocab-size", "270"]) == 0
    capsys.readouterr()
    words = ["text-to-text", "7 and", "--model", str(out / "final"), "--length", "20"]
    told = []
    for seed in ("3", "3", "4"):
        assert cli.main([*words, "--seed", seed]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]
    assert told[0].startswith("7 and") and 0 < len(told[0].encode("utf-8", "replace")) <= len("7 and") + 3 * 20 + 1
    assert TextToTextPipeline.from_pretrained(out / "final").tokenizer.vocab_size == 270


@pytest.mark.parametrize("options", [["--temperature", "-1"], ["--temperature", "nan"], ["--length", "-1"]])
def test_numbers_that_mean_nothing_are_wrong_usage(options, tmp_path):
    with pytest.raises(SystemExit) as stop:
        cli.main(["text-to-text", "a", "--model", str(tmp_path), *options])
    assert stop.value.code == 2


def test_what_cannot_be_done_is_told_in_one_line(text, tmp_path, capsys):
    for words, told in (
        (["text-to-text", "a", "--model", str(tmp_path)], "train one with train-text"),
        (["train-text", "--data", str(tmp_path / "no.txt"), "--out", str(tmp_path / "out")], "no.txt"),
        (["compare-text", "--data", str(text), "--out", str(tmp_path / "out"), "--prompt", "a\udc80"], "valid Unicode"),
        (
            ["compare-text", "--data", str(text), "--out", str(tmp_path / "out"), "--orders", "9"],
            "order must be 1 to 7",
        ),
    ):
        assert cli.main(words) == 1
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and told in shown
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train-text", "--data", str(text), "--out", str(tmp_path / "out"), "--heads", "5"])
    assert "width must be heads x" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_page_is_well_formed_and_loads_nothing(compared):
    html = (compared / "report.html").read_text()
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"href", "src"}]
    assert "@import" not in html and "url(" not in html and "default-src 'none'" in html
    assert EVIL in page.text


def test_whatever_a_report_says_stays_text(report):
    evil = copy.deepcopy(report)
    evil["data"] = [EVIL]
    for arm in evil["arms"]:
        arm |= {"name": EVIL, "kind": EVIL, "about": EVIL, "continuations": [EVIL, EVIL]}
        arm["costs"] = [(EVIL, 3.0), *arm["costs"]]
    assert set(Page(report_html(evil)).tags) == set(Page(report_html(report)).tags)


def test_findings_name_the_best_first(report):
    arms = [arm | {"seconds": 1.0 + number} for number, arm in enumerate(report["arms"])]
    best = min(arms, key=lambda arm: arm["bits_per_byte"])
    fewest, fastest = findings(arms)
    assert fewest.index(best["name"]) == min(fewest.index(arm["name"]) for arm in arms)
    assert "1-gram" in fastest and "1.0 s" in fastest
    assert len(findings(arms[:1])) == 1
    assert len(findings([*arms[:-1], arms[-1] | {"seconds": None}])) == 1  # nobody knows which was the slowest


def test_prompts_are_beginnings_of_held_out_lines():
    assert held_out_prompts(["\none\n\ntwo\nthree\n", "x" * 99], count=2) == ["one", "three"]
    assert held_out_prompts(["x" * 99]) == ["x" * 60]


@pytest.mark.parametrize(
    ("choice", "told"),
    [({"prompts": ()}, "needs prompts"), ({"orders": ()}, "needs prompts"), ({"vocab_size": 256}, "above 256")],
)
def test_a_comparison_of_nothing_is_refused(choice, told):
    with pytest.raises(ValueError, match=told):
        TextComparison(**({"prompts": ("a",)} | choice))
