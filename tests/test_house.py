"""The laws of the house: which way imports point, that the README's map is true, what may not be in the source.

Every law reads the files on disk, so a new file is under it from its first minute. `python tests/test_house.py` puts
the files that the map lacks into the README, each with the first sentence of its docstring; say it better there.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("data", "tokenizers", "models", "pipelines", "scripts")  # a room imports from itself and from those before it
SOURCES = sorted([ROOT / "__init__.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))])
README = ROOT / "README.md"
WEIGHTS = ROOT / "models" / "weights"
MAX_WEIGHTS = {  # bytes of what ships
    "tokenloom-mini": 20_000_000,
    "tokenloom-photo": 6_000_000,
    "tokenloom-photo-half": 4_000_000,
    "tokenloom-photo-quarter": 4_000_000,
    "tokenloom-scenes": 4_000_000,
    "tokenloom-footage": 4_000_000,
    "tokenloom-voice": 4_000_000,
    "tokenloom-speech": 6_000_000,
}
MAX_ALL_WEIGHTS = 48_000_000
SLOW_IMPORTS = {"torchvision", "diffusers", "transformers", "accelerate", "gigatoken", "matplotlib", "tensorboard"}
MAY_IMPORT_SLOWLY = {"pipelines/diffusers_bridge.py"}  # whoever imports it works with diffusers already

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())


def tracked() -> list[Path]:
    """The files that git knows, or all files of the rooms where the source came without git."""
    if shutil.which("git"):
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
        if listing.stdout:  # nothing in a copy that lies in somebody's repository
            return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    made = {"PKG-INFO", "setup.cfg"}  # by setuptools, for a source distribution
    files = (path for path in ROOT.iterdir() if path.is_file() and path.name not in made)
    return [*SOURCES, *(ROOT / "tests").glob("*.py"), *files]


# ----------------------------------------------------------------------------------------------------------- imports


def imported_rooms(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of this package, wherever in the file it stands, lazy ones included."""
    package = ["tokenloom", *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = base + node.module.split(".") if node.module else base
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "tokenloom" and len(name) > 1 and name[1] in ROOMS:
                yield node.lineno, name[1]


@each_source
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ROOMS
    climbing = [f"line {line} imports {room}" for line, room in imported_rooms(path) if room not in allowed]
    assert not climbing, f"{room} may import from {', '.join(allowed)} only"


def test_the_law_of_direction_sees_every_form_of_import(tmp_path):
    path = tmp_path / "data" / "deep" / "file.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import tokenloom.models.heads, os\n"
        "from tokenloom import scripts\n"
        "from tokenloom.pipelines import train_loop\n"
        "from ...tokenizers.text import TextTokenizer\n"
        "from ... import models\n"
        "from ..media import read_image\n"
        "from tokenizers import Tokenizer\n"
        "def lazy():\n"
        "    from .. import scenes\n"
    )
    rooms = [room for _, room in imported_rooms(path, root=tmp_path)]
    assert rooms == ["models", "scripts", "pipelines", "tokenizers", "models", "data", "data"]


def test_rooms_are_not_packages_and_the_root_lists_them_all():
    """With an __init__.py, `tokenizers/` would hide the Hugging Face library from a Python started at the root."""
    assert not [file for room in ROOMS for file in (ROOT / room).rglob("__init__.py")]
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT).parts for path in SOURCES}
    assert sorted(listed) == sorted(".".join(("tokenloom", *parts)) for parts in folders)


def test_the_hugging_face_library_is_found_at_the_root():
    code = "import sys, tokenizers; print(tokenizers.__file__); assert sys.path[0] == ''"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).parent != ROOT / "tokenizers"


def test_the_hugging_face_library_is_found_by_pytest():
    import tokenizers

    assert tokenizers.__file__ and Path(tokenizers.__file__).parent != ROOT / "tokenizers"


def test_a_script_hides_no_library():
    """`python scripts/NAME.py` puts scripts/ first on sys.path, so NAME must not be what somebody else imports."""
    taken = sys.stdlib_module_names | packages_distributions().keys()
    assert not [path.name for path in (ROOT / "scripts").glob("*.py") if path.stem in taken]


# ------------------------------------------------------------------------------------------------------- every source


@each_source
def test_a_file_says_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and len(docstring.splitlines()[0]) > 20


@each_source
def test_nothing_runs_what_it_reads(path):
    """No pickle, no eval, no shell: a file from a stranger stays data."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            found += [name for name in names if name.split(".")[0] in {"pickle", "marshal", "shelve", "dill"}]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in {"eval", "exec", "torch.load", "os.system", "os.popen", "yaml.load"} else []
            told = {keyword.arg for keyword in node.keywords if ast.unparse(keyword.value) == "True"}
            found += sorted(told & {"shell", "allow_pickle", "trust_remote_code"})
    assert not found


@each_source
def test_slow_libraries_are_imported_where_they_are_used(path):
    """Between a prompt and a picture stand torch and small libraries; the rest costs seconds, see ARCHITECTURE.md."""
    tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tops if isinstance(node, ast.ImportFrom) and not node.level}
    if path.relative_to(ROOT).as_posix() not in MAY_IMPORT_SLOWLY:
        assert not {name.split(".")[0] for name in names} & SLOW_IMPORTS


def test_importing_a_file_prints_nothing_and_leaves_the_seed_alone():
    files = [path.relative_to(ROOT) for path in SOURCES if path.relative_to(ROOT).as_posix() not in MAY_IMPORT_SLOWLY]
    modules = [".".join(("tokenloom", *file.with_suffix("").parts)) for file in files if file.name != "__init__.py"]
    code = (
        "import importlib, random, torch\n"
        "torch.manual_seed(1), random.seed(1)\n"
        "before = torch.get_rng_state(), random.getstate()\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# ------------------------------------------------------------------------------------------------- what is in the box


def test_no_file_names_a_machine_or_a_registry():
    machine = re.compile(r"(?<![\w.~])/(?:work|root|home/\w+|Users/\w+|opt)/")
    registry = re.compile(r"--(?:extra-)?index-url|--find-links|pypi\.org/simple|pythonhosted")
    found = []
    for path in tracked():
        if path == Path(__file__) or path.stat().st_size > 2**20 or b"\0" in (content := path.read_bytes()):
            continue
        for number, line in enumerate(content.decode().splitlines(), 1):
            if machine.search(line) or registry.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found


def test_pins_have_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    pins = re.split(r"\n(?=\w)", text[text.index("\n") :])[1:]
    assert len(pins) > 50 and not [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin]


def test_shipped_weights_are_small_and_hold_no_code():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert not [path.name for path in files if path.suffix not in {".safetensors", ".json", ".txt", ".md"}]
    sizes = {
        folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in WEIGHTS.glob("*/")
    }
    assert sizes.keys() == MAX_WEIGHTS.keys()
    assert not [name for name, most in MAX_WEIGHTS.items() if sizes[name] > most]
    assert sum(sizes.values()) <= MAX_ALL_WEIGHTS
    assert not [path.name for path in files if path.stat().st_size < 200 and path.suffix == ".safetensors"]


# ------------------------------------------------------------------------------------------------------------ the map


def files_of_the_map() -> dict[str, list[str]]:
    """Folder ("" for the root) -> what stands in it, as the map lists it."""
    rooms = {room: sorted(file.name for file in (ROOT / room).glob("*.py")) for room in ROOMS}
    rooms["models"] += sorted(f"weights/{path.name}/" for path in WEIGHTS.glob("*/"))
    visible = (path.name for path in tracked() if path.parent == ROOT and not path.name.startswith("."))
    return {**rooms, "tests": [], "": [*sorted(visible), ".ci/run"]}


def map_in_readme() -> list[str]:
    blocks = re.findall(r"^```\n(data/ .*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, "the README must hold one map: a code block that begins with the line of data/"
    return blocks[0].splitlines()


def first_sentence(path: Path) -> str:
    docstring = (ast.get_docstring(ast.parse(path.read_text())) or "") if path.suffix == ".py" else ""
    sentence = re.split(r"[.:;(](?:\s|$)| \(", docstring)[0].replace("\n", " ")
    return sentence[:1].lower() + sentence[1:] if sentence else "TELL WHAT IT IS"


def true_map(lines: list[str]) -> list[str]:
    """The map with the order and words of `lines` where these are still true, new files at the end of their folder."""
    told: dict[str, dict[str, str]] = {}
    folder = ""
    for line in filter(None, lines):
        name, _, words = line.strip().partition(" ")
        folder = folder if line.startswith("  ") else name.rstrip("/") if name.endswith("/") else ""
        told.setdefault(folder, {})["" if name == f"{folder}/" else name] = words.strip()
    width = 2 + max(len(name) for names in files_of_the_map().values() for name in names)
    result = []
    for folder, names in files_of_the_map().items():
        known = told.get(folder, {})
        indent = "  " if folder else ""
        result += [f"{folder}/".ljust(width + 2) + known.get("", "TELL WHAT IT IS")] if folder else []
        for name in [*(n for n in known if n in names), *(n for n in names if n not in known)]:
            words = known.get(name) or first_sentence(ROOT / folder / name)
            result.append(f"{indent}{name}".ljust(width + 2) + words)
    return result


def test_the_map_in_the_readme_is_true():
    lines = map_in_readme()
    expected = true_map(lines)
    assert lines == expected, "the map must read:\n" + "\n".join(expected)
    assert not [line for line in expected if "TELL WHAT IT IS" in line or len(line) > 140]


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_tells_about_each_of_its_files(room):
    text = (ROOT / room / "README.md").read_text()
    assert not [file.name for file in (ROOT / room).glob("*.py") if f"`{file.name}`" not in text]


# ------------------------------------------------------------------------------------------------------ the public face


def test_the_public_face_loads_on_first_use():
    code = (
        "import sys, tokenloom\n"
        "assert 'torch' not in sys.modules\n"
        "for name in dir(tokenloom): getattr(tokenloom, name)\n"
        "assert 'torch' in sys.modules and not {'torchvision', 'diffusers', 'transformers'} & sys.modules.keys()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_there_and_no_other():
    import tokenloom

    assert set(tokenloom.__all__) <= set(dir(tokenloom))
    for name in tokenloom.__all__:
        assert getattr(tokenloom, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'ImageTokeniser'"):
        tokenloom.ImageTokeniser  # noqa: B018


@pytest.mark.skipif(not (WEIGHTS / "tokenloom-mini").is_dir(), reason="needs the shipped weights")
def test_the_example_in_the_readme_runs(tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ar.png", "diffusion.png", "masked.png"]


if __name__ == "__main__":
    told = map_in_readme()
    README.write_text(README.read_text().replace("\n".join(told), "\n".join(true_map(told))))
