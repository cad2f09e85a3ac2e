"""Laws of tokenizers/pretrained.py: weights come from safetensors that fit their config, and from nowhere else."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.doubles import toy_image_tokenizer, toy_transformer
from tokenloom.models.transformer import SharedTransformer
from tokenloom.tokenizers import pretrained
from tokenloom.tokenizers.image import ImageTokenizer
from tokenloom.tokenizers.pretrained import WEIGHTS, find_pretrained

each_part = pytest.mark.parametrize("make", [toy_image_tokenizer, toy_transformer])


@pytest.fixture
def saved(tmp_path) -> Path:
    toy_image_tokenizer().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


OPEN = """
import resource, sys
from tokenloom.tokenizers import pretrained
from tokenloom.tokenizers.image import ImageTokenizer

pretrained.MAX_SURPLUS = 1 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    ImageTokenizer.from_pretrained(sys.argv[1])
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""  # in a process of its own, whose memory no other test has used


def refusal(folder: Path | str, **options) -> str:
    with pytest.raises(ValueError) as caught:
        ImageTokenizer.from_pretrained(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ saved, loaded


@each_part
def test_what_was_saved_comes_back_ready_to_use(make, tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    back = type(model).from_pretrained(tmp_path)
    assert back.config == model.config and not back.training
    assert back.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    """A float16 overflows, or a training went astray: what such a model draws would be nonsense without an error."""
    model = toy_image_tokenizer()
    with torch.no_grad():
        next(model.parameters()).view(-1)[1] = value
    model.save_pretrained(tmp_path)
    assert "must hold finite numbers" in refusal(tmp_path)


def test_a_folder_holds_weights_a_config_and_a_card_and_nothing_else(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads((saved / "config.json").read_text())["stride"] == 4


@each_part
def test_float16_storage_halves_the_file_and_runs_in_float32(make, tmp_path):
    for dtype in ("float32", "float16"):
        make(storage_dtype=dtype).save_pretrained(tmp_path / dtype)
    full, half = ((tmp_path / dtype / WEIGHTS).stat().st_size for dtype in ("float32", "float16"))
    assert half < 0.6 * full
    back = type(make()).from_pretrained(tmp_path / "float16")
    assert {tensor.dtype for tensor in back.state_dict().values()} == {torch.float32}
    for name, tensor in make().state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor.half().float())


def test_training_memory_formats_do_not_reach_the_file(saved, tmp_path):
    model = toy_image_tokenizer()
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path / "other")
    assert (tmp_path / "other" / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


# ------------------------------------------------------------------------------------------------------------- finding


def test_a_folder_is_found_and_a_shipped_name_and_a_part_of_either(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "shipped")
    shipped = tmp_path / "shipped" / "tokenloom-toy"
    toy_image_tokenizer(seed=1).save_pretrained(shipped / "image_tokenizer")
    assert find_pretrained(saved) == str(saved)
    assert find_pretrained(saved.parent, "saved") == str(saved)
    assert find_pretrained("tokenloom-toy", "image_tokenizer") == str(shipped / "image_tokenizer")
    assert ImageTokenizer.from_pretrained("tokenloom-toy/image_tokenizer").vocab_size == 12
    assert find_pretrained("somebody/model") == "somebody/model"


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "a model folder must hold config.json" in refusal(tmp_path)
    assert "a model folder must hold config.json" in refusal("./nowhere")


def test_a_repository_that_cannot_be_reached_is_one_line(tmp_path):
    assert "somebody/model" in refusal("somebody/model", local_files_only=True, cache_dir=tmp_path)


# ------------------------------------------------------------------------------------------------------ hostile, broken


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch.save", "pickle"])
def test_a_pickle_is_never_opened_under_whatever_name(saved, tmp_path, zipped):
    trap = tmp_path / "sprung"
    for name in (WEIGHTS, "pytorch_model.bin", "model.pt", "model.pkl"):
        if zipped:
            torch.save({"encoder.linear.weight": Trap(trap)}, saved / name)
        else:
            (saved / name).write_bytes(pickle.dumps({"encoder.linear.weight": Trap(trap)}))
    assert "is not a complete safetensors file" in refusal(saved)
    (saved / WEIGHTS).unlink()
    assert "is missing" in refusal(saved)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, -1])
def test_weights_cut_off_anywhere_are_one_line_that_names_the_file(saved, keep):
    data = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(data[: int(len(data) * keep) if keep == 0.5 else keep])
    said = refusal(saved)
    assert str(saved / WEIGHTS) in said and "is not a complete safetensors file" in said


def test_a_header_that_promises_more_than_there_is_allocates_nothing(saved):
    (saved / WEIGHTS).write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert "is not a complete safetensors file" in refusal(saved)


def test_a_file_beyond_the_limit_is_refused_unread(saved, monkeypatch):
    monkeypatch.setattr(pretrained, "MAX_WEIGHTS_BYTES", 1000)
    assert "more than the 1000 we load" in refusal(saved)


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({"widths": (16,)}, "encoder.stem.weight"),
        ({"encoder_blocks": (2,)}, "encoder.scales.0.1.conv_in.bias"),
        ({"decoder_blocks": (0,)}, "decoder.scales.0.0.conv_in.bias"),
    ],
)
def test_weights_of_another_shape_are_refused_by_the_name_of_a_tensor(saved, changes, tensor):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | changes))
    said = refusal(saved)
    assert f"does not fit its config.json: tensor '{tensor}' is missing, unknown or misshapen" in said


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "[" * 100_000, '{"stride": 5}', '{"widths": 7}', '{"levels": "abc"}']
)
def test_a_broken_config_is_one_line(saved, content):
    (saved / "config.json").write_text(content)
    assert str(saved) in refusal(saved)


@pytest.mark.parametrize(
    "changes", [{"encoder_blocks": (10**9,)}, {"widths": (20_000,)}, {"widths": (10**9,)}], ids=str
)
def test_a_config_that_asks_for_more_than_the_weights_hold_takes_no_memory(saved, changes):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | changes))
    done = subprocess.run([sys.executable, "-c", OPEN, str(saved)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, mebibytes = done.stdout.splitlines()
    assert str(saved) in told and int(mebibytes) < 512


def test_a_config_that_lacks_what_has_no_default_is_one_line(tmp_path):
    toy_transformer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="SharedTransformer that can be loaded.*text_vocab_size"):
        SharedTransformer.from_pretrained(tmp_path)


def test_a_config_of_countless_small_parts_is_refused_before_they_are_built(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"widths": [1], "encoder_blocks": [10**9]}))
    assert "must hold what its config.json asks for" in refusal(saved)


@each_part
def test_a_save_that_fails_leaves_the_model_that_was_there(make, tmp_path, monkeypatch):
    make(seed=1).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(tensors, path):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrained, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        make(seed=2).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_card_that_is_there_stays(saved):
    (saved / "README.md").write_text("mine")
    toy_image_tokenizer(seed=1).save_pretrained(saved)
    assert (saved / "README.md").read_text() == "mine"
