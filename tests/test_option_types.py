"""Kinds of options: no command computes for an hour to find that it cannot write, or that its seed is none."""

import argparse
import os
from argparse import ArgumentTypeError
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tokenloom.scripts import cli
from tokenloom.scripts.option_types import (
    MAX_SEED,
    out_file,
    out_folder,
    out_path,
    pattern_with_group,
    real_number,
    seed_number,
    spec,
    whole_number,
)

SCRIPTS = sorted(path.stem for path in Path(cli.__file__).parent.glob("*.py") if "def run(" in path.read_text())
OUT = (out_path, out_file, out_folder)


def options(script: str, name: str) -> list[argparse.Action]:
    parser = import_module(f"tokenloom.scripts.{script}").build_parser()
    return [action for action in parser._actions if name in action.option_strings]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_command_takes_an_out_or_a_seed_unchecked(script):
    assert all(action.type in OUT for action in options(script, "--out"))
    for action in options(script, "--seed"):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number of 0 to"):
            action.type("-1")


def test_a_seed_is_one_that_generators_take_with_others_after_it():
    for number in (0, 7, MAX_SEED):
        assert seed_number(str(number)) == number
        torch.Generator().manual_seed(number + 100_000)


def test_a_count_lies_within_its_bounds_and_is_no_other_number():
    count = whole_number(2, 10)
    assert [count("2"), count("10")] == [2, 10]
    for word in ("1", "11", "2.5", "-2", "nan", "", "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number of 2 to 10 is needed, got"):
            count(word)


def test_a_quantity_lies_within_its_bounds_and_is_a_number():
    quantity = real_number(0, 2.5)
    assert [quantity("0"), quantity("1e-3"), quantity("2.5")] == [0, 1e-3, 2.5]
    for word in ("-0.1", "2.6", "nan", "inf", "-inf", "1e999", "", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="a number of 0 to 2.5 is needed, got"):
            quantity(word)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_training_takes_a_number_unchecked(script):
    """What is no number, or none that can be, would be found after the data are read, or never."""
    if script.startswith("train") or script.endswith("distortion"):
        actions = import_module(f"tokenloom.scripts.{script}").build_parser()._actions
        assert not [action.dest for action in actions if action.type in (int, float) and action.choices is None]


@pytest.mark.parametrize("word", ["-1", str(MAX_SEED + 1), "9" * 5000, "1.5", "x", "", "nan"])
def test_what_is_no_seed_is_refused(word):
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number of 0 to"):
        seed_number(word)


@pytest.mark.parametrize("kind", OUT)
def test_an_out_may_be_new_and_nothing_is_made_by_asking(kind, tmp_path):
    path = tmp_path / "new" / "folder" / "a.png"
    assert kind(str(path)) == path and not list(tmp_path.iterdir())


def test_an_out_that_is_there_must_be_of_its_kind(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert out_file(str(file)) == out_path(str(file)) == file
    assert out_folder(str(tmp_path)) == out_path(str(tmp_path)) == tmp_path
    for kind, path in ((out_file, tmp_path), (out_file, Path(os.devnull)), (out_folder, file)):
        with pytest.raises(argparse.ArgumentTypeError, match="is written, but"):
            kind(str(path))


@pytest.mark.parametrize("kind", OUT)
def test_an_out_that_cannot_be_written_is_refused(kind, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path, told in (
        (tmp_path / "file" / "a" / "b", "is a file, so"),
        (tmp_path / ("x" * 300) / "a", "File name too long"),
        ("", "an empty one"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=told):
            kind(str(path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for who may not write there
    with pytest.raises(argparse.ArgumentTypeError, match="must let us write"):
        kind(str(tmp_path / "a"))


def test_a_pattern_is_a_regular_expression_with_a_group():
    assert pattern_with_group("(.+), .+ emoji") == "(.+), .+ emoji"
    for word, message in (("(", "is none: missing"), ("cat", "has none; write"), ("", "has none; write")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            pattern_with_group(word)


def test_the_share_of_a_source_must_be_above_zero():
    for word in ("scenes", "scenes:2", "photos:0.5", "C:photos", "a:b.tar"):
        assert spec(word) == word
    for word in ("scenes:0", "photos:-1", "photos:nan", "photos:inf"):
        with pytest.raises(ArgumentTypeError, match="a share must be above 0"):
            spec(word)
