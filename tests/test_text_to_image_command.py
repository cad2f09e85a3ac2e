"""`tokenloom text-to-image`: the same seed gives the same bytes, and what cannot be drawn is told in one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.doubles import SIZE, toy_picture, toy_pipeline
from tokenloom.data.media import write_png
from tokenloom.pipelines.sampler_settings import DECODERS
from tokenloom.pipelines.text_to_image import MAX_PROMPT_TOKENS, TextToImagePipeline, seeded
from tokenloom.scripts import cli

PROMPTS = ("red over green", "blue over white", "white over red")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    toy_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def draw(model):
    def run(*words: object) -> int:
        return cli.main(["text-to-image", *map(str, words), "--model", model])

    return run


def wrong_usage(draw, *words: object) -> bool:
    with pytest.raises(SystemExit) as stop:
        draw(*words)
    return stop.value.code == 2


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# ------------------------------------------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_picture_is_the_file_and_a_seed_gives_the_same_bytes(draw, tmp_path, decoder, capsys):
    first, again, other = tmp_path / "new" / "a.png", tmp_path / "b.PNG", tmp_path / "c.png"
    steps = () if decoder == "ar" else ("--steps", 3)
    for out, seed in ((first, 3), (again, 3), (other, 4)):
        assert draw(PROMPTS[0], "--decoder", decoder, "--seed", seed, *steps, "--out", out) == 0
    assert pixels(first).shape == (SIZE, SIZE, 3)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert capsys.readouterr().out.splitlines() == [str(first), str(again), str(other)]


def test_the_command_draws_what_the_pipeline_draws(draw, model, tmp_path):
    settings = {"guidance_scale": 2.0, "num_inference_steps": 4}
    pipeline = TextToImagePipeline.from_pretrained(model)
    picture = pipeline(PROMPTS[1], decoder="diffusion", generator=seeded(5, 1), **settings).images[0]
    out = tmp_path / "a.png"
    words = ("--decoder", "diffusion", "--seed", 5, "--guidance-scale", 2, "--steps", 4, "--out", out)
    assert draw(PROMPTS[1], *words) == 0
    np.testing.assert_array_equal(pixels(out), np.asarray(picture))


def test_several_pictures_are_numbered_in_the_order_of_the_prompts_and_listed(draw, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(f"\ufeff{PROMPTS[1]}\n\n  {PROMPTS[2]}  \n", encoding="utf-8")
    out = tmp_path / "pictures"
    words = ("--prompts", file, "--num-images", 2, "--seed", 7, "--decoder", "masked", "--steps", 2)
    assert draw(PROMPTS[0], *words, "--out", out) == 0
    lines = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"{k:05}.png" for k in range(6)]
    assert [line["prompt"] for line in lines] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert [line["seed"] for line in lines] == [7, 8, 9, 10, 11, 12]
    assert all(line["decoder"] == "masked" and line["seconds"] > 0 and len(line) == 5 for line in lines)
    assert sorted(path.name for path in out.iterdir()) == [*(f"{k:05}.png" for k in range(6)), "index.jsonl"]
    alone = tmp_path / "alone.png"
    assert draw(PROMPTS[2], "--seed", 12, "--decoder", "masked", "--steps", 2, "--out", alone) == 0
    assert alone.read_bytes() == (out / "00005.png").read_bytes()


def test_an_existing_picture_is_replaced_and_no_other_file_is_touched(draw, tmp_path):
    out, beside = tmp_path / "a.png", tmp_path / "b.png"
    out.write_bytes(b"old"), beside.write_bytes(b"beside")
    assert draw(PROMPTS[0], "--out", out) == 0
    assert pixels(out).shape == (SIZE, SIZE, 3) and beside.read_bytes() == b"beside"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("decoder", ["masked", "diffusion"])
def test_inpainting_keeps_what_is_black_in_the_mask(draw, tmp_path, decoder):
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    old = torch.randint(256, (SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    white = np.zeros((SIZE, SIZE), np.uint8)
    white[:, SIZE // 2 :] = 255
    Image.fromarray(old).save(picture), Image.fromarray(white).save(mask)
    out = tmp_path / "out.png"
    words = ("--image", picture, "--mask", mask, "--decoder", decoder, "--steps", 2, "--out", out)
    assert draw(PROMPTS[0], *words) == 0
    np.testing.assert_array_equal(pixels(out)[:, : SIZE // 2], old[:, : SIZE // 2])
    assert (pixels(out)[:, SIZE // 2 :] != old[:, SIZE // 2 :]).any()


# ------------------------------------------------------------------------------------------------ what cannot be drawn


def test_a_prompt_that_cannot_be_drawn_is_told_and_the_others_keep_their_seeds(draw, tmp_path, capsys):
    all_good, some_bad = tmp_path / "good", tmp_path / "bad"
    assert draw(*PROMPTS, "--out", all_good) == 0
    capsys.readouterr()
    assert draw(PROMPTS[0], "  ", PROMPTS[2], "red " * MAX_PROMPT_TOKENS, "--out", some_bad) == 1
    shown = capsys.readouterr()
    first, second = shown.err.splitlines()
    assert first.startswith("prompt 2: a prompt must say something") and "prompt 4: a prompt may have" in second
    assert shown.out == f"{some_bad}: 2 of 4 pictures drawn\n"
    assert sorted(path.name for path in some_bad.iterdir()) == ["00000.png", "00002.png", "index.jsonl"]
    assert (some_bad / "00002.png").read_bytes() == (all_good / "00002.png").read_bytes()


def test_an_empty_prompt_alone_is_one_line_and_no_file(draw, tmp_path, capsys):
    assert draw("", "--out", tmp_path / "a.png") == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "must say something" in shown.err
    assert not list(tmp_path.iterdir())


def test_words_that_training_never_saw_are_named_in_one_line(draw, tmp_path, capsys, recwarn):
    assert draw("red over mauve", "a zebra over red", "--out", tmp_path / "out") == 0
    assert capsys.readouterr().err == (
        "warning: the training captions never held 'a', 'mauve', 'zebra'; expect little of it\n"
    )
    assert not recwarn.list


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--image", "missing.png", "--mask", "missing.png", "--decoder", "masked"), "missing.png: No such file"),
        (("--prompts", "latin1.txt"), "latin1.txt: prompts must be UTF-8 text"),
    ],
)
def test_what_cannot_be_is_one_line(draw, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    Path("latin1.txt").write_bytes("fünf Kreise".encode("latin-1"))
    assert draw(PROMPTS[0], *words, "--out", "out.png" if "--prompts" not in words else "out") == 1
    shown = capsys.readouterr().err
    assert shown.startswith("tokenloom text-to-image: ") and told in shown and shown.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_wrong_usage_is_exit_code_2(draw, tmp_path):
    (tmp_path / "file.png").write_text("")
    assert wrong_usage(draw, "--out", tmp_path / "a.png")  # no prompt
    assert wrong_usage(draw, PROMPTS[0], "--out", tmp_path / "a.jpg")
    assert wrong_usage(draw, PROMPTS[0], "--out", tmp_path)
    assert wrong_usage(draw, PROMPTS[0], "--out", tmp_path / "file.png" / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--seed", -1, "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--temperature", -1, "--out", tmp_path / "a.png")
    assert wrong_usage(draw, *PROMPTS, "--out", tmp_path / "file.png")
    assert wrong_usage(draw, PROMPTS[0], "--num-images", 0, "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--num-images", 10**9, "--out", tmp_path / "a")
    assert wrong_usage(draw, PROMPTS[0], "--image", "a.png", "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--decoder", "magic", "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--decoder", "ar", "--steps", 4, "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--decoder", "masked", "--steps", 0, "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--guidance-scale", "nan", "--out", tmp_path / "a.png")
    assert wrong_usage(draw, PROMPTS[0], "--device", "nowhere", "--out", tmp_path / "a.png")


def test_what_is_there_is_not_lost(draw, tmp_path):
    """Neither a picture that is drawn into, nor drawings whose index a folder holds."""
    for name in ("in", "mask"):
        write_png(tmp_path / f"{name}.png", toy_picture(PROMPTS[0]))
        words = ("--image", tmp_path / "in.png", "--mask", tmp_path / "mask.png", "--decoder", "masked", "--steps", 1)
    before = (tmp_path / "in.png").read_bytes()
    for name in ("in", "mask"):
        assert wrong_usage(draw, PROMPTS[0], *words, "--out", tmp_path / f"{name}.png")
    assert (tmp_path / "in.png").read_bytes() == before
    folder = tmp_path / "folder"
    assert draw(*PROMPTS, "--decoder", "masked", "--steps", 1, "--out", folder) == 0
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert wrong_usage(draw, *PROMPTS, "--seed", 5, "--decoder", "masked", "--steps", 1, "--out", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == there


def test_a_model_that_is_not_there_or_is_broken_is_one_line(draw, tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pipeline.json").write_text("{")
    for name, told in (("nowhere", "is neither"), (str(tmp_path / "broken"), "pipeline.json is broken")):
        assert cli.main(["text-to-image", PROMPTS[0], "--model", name, "--out", str(tmp_path / "a.png")]) == 1
        shown = capsys.readouterr().err
        assert told in shown and shown.count("\n") == 1


# ----------------------------------------------------------------------------------------------------------- cold start


def test_nothing_slow_is_imported_between_a_prompt_and_its_picture(model, tmp_path):
    code = (
        "import sys\n"
        "from tokenloom.scripts import cli\n"
        "assert cli.main(sys.argv[1:]) == 0\n"
        "slow = {'torchvision', 'diffusers', 'transformers', 'accelerate', 'matplotlib', 'scipy', 'av', 'gigatoken'}\n"
        "print(*sorted(slow & sys.modules.keys()))\n"
    )
    words = ["text-to-image", PROMPTS[0], "--model", model, "--decoder", "diffusion", "--out", str(tmp_path / "a.png")]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert result.stdout.splitlines() == [str(tmp_path / "a.png"), ""]


def test_what_ar_cannot_do_is_refused_before_anything_is_loaded(draw, tmp_path, capsys):
    words = ["red", "--decoder", "ar", "--image", tmp_path / "a.png", "--mask", tmp_path / "b.png"]
    assert wrong_usage(draw, *words, "--out", tmp_path / "c.png")
    assert "--image needs a decoder that sees the whole picture, got ar" in capsys.readouterr().err
