"""The `tokenloom` command: light help, one-line errors, exit codes, and the same through `python scripts/NAME.py`."""

import argparse
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import tokenloom
from tokenloom.scripts import cli

SCRIPTS = Path(cli.__file__).parent
HEAVY = {"torch", "numpy", "PIL", "av", "einops", "tokenizers", "safetensors", "huggingface_hub"}

each_command = pytest.mark.parametrize("command", cli.COMMANDS)


def toy_parser() -> argparse.ArgumentParser:
    parser = cli.CommandParser(prog="toy")
    parser.add_argument("words", nargs="*")
    return parser


def fails_with(error: BaseException):
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run


def test_no_help_imports_a_library():
    """`--help` answers within half a second only as long as nobody imports torch, or even numpy, on its way."""
    code = (
        "import sys, importlib\n"
        "from tokenloom.scripts import cli\n"
        "cli.build_parser().format_help()\n"
        "for module, _ in cli.COMMANDS.values():\n"
        "    importlib.import_module(f'tokenloom.scripts.{module}').build_parser().format_help()\n"
        f"print(*sorted({HEAVY} & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line.strip().startswith(tuple(cli.COMMANDS))] == list(
        cli.COMMANDS
    )


def test_the_readme_shows_every_command_and_no_other():
    shown = re.findall(r"^tokenloom ([a-z-]+)", (SCRIPTS.parent / "README.md").read_text(), flags=re.MULTILINE)
    assert set(shown) == set(cli.COMMANDS)


def test_version_is_that_of_the_installed_package(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"tokenloom {version('tokenloom')}\n"
    assert tokenloom.__version__ == version("tokenloom")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "a COMMAND is needed"),
        (["tokenise", "x"], "did you mean tokenize?"),
        (["zzzzzz"], "no command 'zzzzzz'; there are "),
        (["--colour", "tokenize"], "--colour"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words, told, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and told in shown.err


@each_command
def test_a_command_reports_wrong_usage_in_one_line(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--no-such-option"])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.startswith(f"tokenloom {command}")


@each_command
def test_a_command_is_also_a_script(command, tmp_path):
    path = SCRIPTS / f"{cli.COMMANDS[command][0]}.py"
    result = subprocess.run([sys.executable, path, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith(f"usage: {path.name}"), result.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("size must be positive,\n  got 0; take more"), "toy: size must be positive, got 0; take more\n"),
        (ValueError(), "toy: ValueError\n"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "toy: a.png: No such file or directory\n"),
        (PermissionError("not here"), "toy: not here\n"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(error, line, capsys):
    assert cli.main_of(toy_parser, fails_with(error), []) == 1
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nto allocate 1 TB")]
)
def test_memory_that_runs_out_is_one_line_and_no_bug(error, capsys):
    assert cli.main_of(toy_parser, fails_with(error), []) == 1
    assert capsys.readouterr() == ("", "toy: out of memory; take a smaller model, size, length or batch\n")


def test_debug_shows_the_traceback_before_and_after_the_command(monkeypatch):
    with pytest.raises(ValueError, match="secret"):
        cli.main_of(toy_parser, fails_with(ValueError("secret")), ["--debug"])

    toy = argparse.Namespace(build_parser=toy_parser, run=fails_with(ValueError("secret")))
    monkeypatch.setitem(cli.COMMANDS, "toy", ("toy", "fails"))
    monkeypatch.setitem(sys.modules, "tokenloom.scripts.toy", toy)
    for words in (["--debug", "toy"], ["toy", "--debug"], ["toy", "a prompt", "--debug"]):
        with pytest.raises(ValueError, match="secret"):
            cli.main(words)
    assert cli.main(["toy"]) == 1


def test_a_bug_is_not_dressed_up_as_a_users_error():
    for error in (KeyError("ours"), RuntimeError("shapes differ")):
        with pytest.raises(type(error)):
            cli.main_of(toy_parser, fails_with(error), [])


@pytest.mark.parametrize("name", ["meta", "nowhere", ""])
def test_a_device_that_computes_nothing_here_is_wrong_usage(name):
    assert cli.open_device("cpu").type == "cpu"
    with pytest.raises(cli.UsageError, match=f"--device {name} cannot be used here: "):
        cli.open_device(name)


def test_interruption_is_exit_code_130(capsys):
    assert cli.main_of(toy_parser, fails_with(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "toy: interrupted\n"


def test_a_closed_pipe_ends_quietly():
    """`tokenloom ... | head -1`: the reader leaves first."""
    code = (
        "import sys\n"
        "from tokenloom.scripts.cli import CommandParser, main_of\n"
        "sys.exit(main_of(CommandParser, lambda arguments: print('x' * 10**6) or 0, []))\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        result = subprocess.run([sys.executable, "-c", code], stdout=pipe, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (1, b"")


def test_the_exit_code_is_that_of_the_command():
    assert cli.main_of(toy_parser, lambda arguments: len(arguments.words), ["a", "b"]) == 2


def test_names_and_texts_stay_in_their_line_of_a_table():
    assert cli.in_one_line("a\tb\nc\r\x1b\u2028 é") == "a\\tb\\nc\\r\\x1b\\u2028 é"
    assert cli.in_one_line("old\udcff name") == "old\udcff name"


def test_what_does_not_share_out_its_work_refuses_to_be_started_several_times(tmp_path, monkeypatch, capsys):
    (tmp_path / "plays.txt").write_text("to be or not to be")
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["train-tokenizer", "text", "--data", str(tmp_path / "plays.txt"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    shown = capsys.readouterr().err
    assert "train-tokenizer: this runs in one process, and WORLD_SIZE is 2; start it without" in shown
    assert shown.count("\n") == 1 and not (tmp_path / "out").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli.main(words) == 0


@each_command
def test_the_commands_that_share_out_their_work_say_so_by_an_option(command):
    module = import_module(f"tokenloom.scripts.{cli.COMMANDS[command][0]}")
    shares = "open_accelerator" in Path(module.__file__).read_text()
    assert ("--accelerate" in module.build_parser().format_help()) == shares == (command in ("train", "train-speech"))
