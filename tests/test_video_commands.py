"""`tokenloom text-to-video`, `image-to-video`, `interpolate`, `extend`, `video-to-text`: same seed, same bytes."""

import json
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from tests.doubles import CAPTIONS, SIZE, toy_picture, toy_pipeline
from tokenloom.data.media import fit, to_tensor, to_uint8, write_png
from tokenloom.data.progress import Progress
from tokenloom.data.video import read_video
from tokenloom.data.write_video import write_video
from tokenloom.pipelines import draw_clips, draw_files
from tokenloom.pipelines.describe_files import clip_of
from tokenloom.pipelines.draw_clips import read_given
from tokenloom.pipelines.sampler_settings import DECODERS, settings_of
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_video import OVERLAP, TextToVideoPipeline, frame_evaluations
from tokenloom.scripts import cli

PROMPTS = ("red over green", "blue over white", "white over red")
FRAMES = 17
GAP = 2  # pixels between the frames of a strip
QUICK = ("--decoder", "masked", "--steps", 2)
STEPS = {"ar": (), "masked": ("--steps", 4), "diffusion": ("--steps", 4)}
COMMANDS = {"text-to-video": 0, "image-to-video": 1, "interpolate": 2, "extend": 1}  # how many files come first

each_decoder = pytest.mark.parametrize("decoder", DECODERS)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    toy_pipeline(num_frames=FRAMES).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(model):
    def command(*words: object) -> int:
        return cli.main([*map(str, words), "--model", model])

    return command


@pytest.fixture
def picture(tmp_path) -> Path:
    """One that is neither square nor of the model's size."""
    noise = torch.rand(3, 3 * SIZE, 4 * SIZE, generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "picture.png", noise * 2 - 1)
    return tmp_path / "picture.png"


@pytest.fixture
def clip(tmp_path) -> Path:
    """24 frames at twice the rate of the model, and larger."""
    frames = torch.stack([toy_picture(CAPTIONS[k // 2]) for k in range(24)], dim=1)  # (3, T, SIZE, SIZE)
    write_video(tmp_path / "clip.gif", frames.repeat_interleave(4, 2).repeat_interleave(4, 3), 16)
    return tmp_path / "clip.gif"


def wrong_usage(run, *words: object) -> bool:
    with pytest.raises(SystemExit) as stop:
        run(*words)
    return stop.value.code == 2


def frames_of(strip: Path) -> Tensor:
    """uint8 (3, T, SIZE, SIZE): what the cells of a strip show, the white ones that fill its last row included."""
    with Image.open(strip) as image:
        pixels = torch.from_numpy(np.array(image))[GAP:, GAP:]
    cell = SIZE + GAP
    cells = rearrange(pixels, "(r H) (c W) C -> C (r c) H W", H=cell, W=cell)
    return cells[..., :SIZE, :SIZE]


def seen(picture: Path) -> Tensor:
    """The frame that a picture gives: uint8 (3, SIZE, SIZE)."""
    with Image.open(picture) as image:
        return to_uint8(to_tensor(fit(image, SIZE)))


# ------------------------------------------------------------------------------------------------------ what is drawn


@each_decoder
def test_a_clip_is_an_mp4_of_17_frames_at_8_a_second_and_a_seed_gives_the_same_bytes(run, tmp_path, decoder, capsys):
    first, again, other = tmp_path / "new" / "a.mp4", tmp_path / "b.MP4", tmp_path / "c.mp4"
    for out, seed in ((first, 3), (again, 3), (other, 4)):
        assert (
            run("text-to-video", PROMPTS[0], "--decoder", decoder, "--seed", seed, *STEPS[decoder], "--out", out) == 0
        )
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    with av.open(str(first)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (SIZE, SIZE, Fraction(8))
        assert sum(1 for _ in container.decode(stream)) == FRAMES
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(first), str(again), str(other)]
    assert all(line.startswith("drawing 1.0/1.0 clips, ") for line in shown.err.splitlines())


def test_a_strip_shows_what_the_pipeline_draws(run, model, tmp_path):
    settings = {"guidance_scale": 2.0, "num_inference_steps": 4}
    pipeline = TextToVideoPipeline.from_pretrained(model)
    drawn = pipeline(PROMPTS[1], decoder="diffusion", generator=seeded(5, 1), output_type="pt", **settings).frames[0]
    words = ("--decoder", "diffusion", "--seed", 5, "--guidance-scale", 2, "--steps", 4, "--out", tmp_path / "a.png")
    assert run("text-to-video", PROMPTS[1], *words) == 0
    assert torch.equal(frames_of(tmp_path / "a.png"), to_uint8(drawn))


def test_a_gif_plays_at_the_rate(run, tmp_path):
    assert run("text-to-video", PROMPTS[0], *QUICK, "--out", tmp_path / "a.gif") == 0
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size) == (FRAMES, (SIZE, SIZE))
        milliseconds = [image.seek(k) or image.info["duration"] for k in range(FRAMES)]
    assert abs(sum(milliseconds) - 1000 * FRAMES / 8) <= 10


@pytest.mark.parametrize("form", ["mp4", "gif", "png"])
def test_several_clips_are_numbered_in_the_order_of_the_prompts_and_listed(run, tmp_path, form):
    file = tmp_path / "prompts.txt"
    file.write_text(f"{PROMPTS[1]}\n\n  {PROMPTS[2]}  \n", encoding="utf-8")
    out = tmp_path / "clips"
    asked = () if form == "mp4" else ("--format", form)
    words = ("--prompts", file, "--num-videos", 2, "--seed", 7, *QUICK, *asked)
    assert run("text-to-video", PROMPTS[0], *words, "--out", out) == 0
    lines = [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"{k:05}.{form}" for k in range(6)]
    assert [line["prompt"] for line in lines] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert [line["seed"] for line in lines] == [7, 8, 9, 10, 11, 12]
    assert all(line["decoder"] == "masked" and line["seconds"] > 0 and len(line) == 5 for line in lines)
    assert sorted(path.name for path in out.iterdir()) == [*(f"{k:05}.{form}" for k in range(6)), "index.jsonl"]
    alone = tmp_path / f"alone.{form}"
    assert run("text-to-video", PROMPTS[2], "--seed", 12, *QUICK, "--out", alone) == 0
    assert alone.read_bytes() == (out / f"00005.{form}").read_bytes()


# ------------------------------------------------------------------------------------------------------ what is given


@each_decoder
def test_a_given_first_frame_comes_back_and_decides_what_follows(run, tmp_path, picture, decoder):
    words = ("--decoder", decoder, *STEPS[decoder], "--num-videos", 2, "--format", "png")
    assert run("image-to-video", picture, PROMPTS[0], *words, "--out", tmp_path / "given") == 0
    assert run("text-to-video", PROMPTS[0], *words, "--out", tmp_path / "free") == 0
    for name in ("00000.png", "00001.png"):
        given, free = frames_of(tmp_path / "given" / name), frames_of(tmp_path / "free" / name)
        assert given.shape[1] == FRAMES and torch.equal(given[:, 0], seen(picture))
        assert not torch.equal(given[:, 1:], free[:, 1:])


@each_decoder
def test_given_ends_come_back_and_what_lies_between_is_drawn(run, tmp_path, picture, decoder):
    how = ("--decoder", decoder, *STEPS[decoder])
    last = tmp_path / "last.png"
    write_png(last, Image.fromarray(rearrange(toy_picture(PROMPTS[1]), "C H W -> H W C").numpy()))
    assert run("interpolate", picture, last, PROMPTS[0], *how, "--out", tmp_path / "a.png") == 0
    frames = frames_of(tmp_path / "a.png")
    assert torch.equal(frames[:, 0], seen(picture)) and torch.equal(frames[:, -1], toy_picture(PROMPTS[1]))
    assert run("interpolate", last, picture, PROMPTS[0], *how, "--out", tmp_path / "b.png") == 0
    assert not torch.equal(frames[:, 1:-1], frames_of(tmp_path / "b.png")[:, 1:-1])


@each_decoder
def test_a_continued_clip_comes_back_at_the_rate_and_size_of_the_model(run, tmp_path, clip, decoder):
    how = ("--decoder", decoder, *STEPS[decoder])
    assert run("extend", clip, PROMPTS[0], *how, "--out", tmp_path / "a.png") == 0
    given = torch.cat(list(read_video(clip, fps=8, size=SIZE)), dim=1)
    frames = frames_of(tmp_path / "a.png")
    assert given.shape[1] == 12 and torch.equal(frames[:, :12], given)
    new = FRAMES - OVERLAP
    assert (frames[:, 12 : 12 + new] != 255).flatten(2).any(2).any(0).all()
    assert (frames[:, 12 + new :] == 255).all()  # the last row of the strip is filled up
    assert run("extend", clip, PROMPTS[0], *how, "--out", tmp_path / "a.mp4") == 0
    assert sum(block.shape[1] for block in read_video(tmp_path / "a.mp4")) == 12 + new


def test_a_continuation_can_be_continued_and_a_single_frame_is_a_beginning(run, tmp_path):
    one, out = tmp_path / "one.gif", tmp_path / "a.gif"
    write_video(one, toy_picture(PROMPTS[0]).unsqueeze(1), 8)
    assert run("extend", one, PROMPTS[0], *QUICK, "--out", out) == 0
    assert sum(block.shape[1] for block in read_video(out)) == FRAMES
    longer = tmp_path / "longer.gif"
    assert run("extend", out, PROMPTS[0], *QUICK, "--out", longer) == 0
    assert sum(block.shape[1] for block in read_video(longer)) == 2 * FRAMES - OVERLAP


# ------------------------------------------------------------------------------------------------ what cannot be drawn


def test_a_prompt_that_cannot_be_drawn_is_told_and_the_others_keep_their_seeds(run, tmp_path, capsys):
    good, bad = tmp_path / "good", tmp_path / "bad"
    assert run("text-to-video", *PROMPTS, *QUICK, "--out", good) == 0
    capsys.readouterr()
    assert run("text-to-video", PROMPTS[0], " ", PROMPTS[2], *QUICK, "--out", bad) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("prompt 2: a prompt must say something")
    assert shown.out == f"{bad}: 2 of 3 clips drawn\n"
    assert sorted(path.name for path in bad.iterdir()) == ["00000.mp4", "00002.mp4", "index.jsonl"]
    assert (bad / "00002.mp4").read_bytes() == (good / "00002.mp4").read_bytes()


@pytest.mark.parametrize(
    ("command", "files", "told"),
    [
        ("image-to-video", ["missing.png"], "missing.png: No such file"),
        ("image-to-video", ["text.txt"], "text.txt: not a picture"),
        ("interpolate", ["picture.png", "missing.png"], "missing.png: No such file"),
        ("extend", ["missing.mp4"], "missing.mp4: No such file"),
        ("extend", ["text.txt"], "text.txt: no video of a known format"),
        ("extend", ["picture.png"], "picture.png: no video of a known format"),
        ("extend", ["clip.gif"], "clip.gif: a clip to be continued may last 1 seconds"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    run, tmp_path, monkeypatch, capsys, picture, clip, command, files, told
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(draw_clips, "MAX_SECONDS", 1)
    Path("text.txt").write_text("no picture, no clip")
    assert run(command, *files, PROMPTS[0], "--out", "a.mp4") == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"tokenloom {command}: {told}") and shown.count("\n") == 1
    assert not Path("a.mp4").exists()


def test_a_model_that_knows_only_pictures_is_one_line(tmp_path, capsys):
    toy_pipeline().save_pretrained(tmp_path / "model")
    words = ("text-to-video", PROMPTS[0], "--model", str(tmp_path / "model"), "--out", str(tmp_path / "a.mp4"))
    assert cli.main(words) == 1
    shown = capsys.readouterr().err
    assert "knows only pictures" in shown and shown.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_usage_is_exit_code_2(run, tmp_path, command):
    files = [tmp_path / "a.png"] * COMMANDS[command]
    (tmp_path / "file.mp4").write_text("")
    one = tmp_path / "a.mp4"
    assert wrong_usage(run, command, *files, "--out", one)  # no prompt
    assert wrong_usage(run, command, *files, PROMPTS[0], "--out", tmp_path / "a.avi")
    assert wrong_usage(run, command, *files, PROMPTS[0], "--out", tmp_path)
    assert wrong_usage(run, command, *files, *PROMPTS, "--out", tmp_path / "file.mp4")
    assert wrong_usage(run, command, *files, PROMPTS[0], "--format", "gif", "--out", one)
    assert wrong_usage(run, command, *files, *PROMPTS, "--format", "avi", "--out", tmp_path / "clips")
    assert wrong_usage(run, command, *files, PROMPTS[0], "--num-videos", 0, "--out", one)
    assert wrong_usage(run, command, *files, PROMPTS[0], "--decoder", "ar", "--steps", 4, "--out", one)
    assert wrong_usage(run, command, *files, PROMPTS[0], "--device", "nowhere", "--out", one)
    assert not one.exists()


def test_what_guides_nothing_is_not_taken(run, tmp_path, picture):
    """Frames between known ones are drawn without guidance."""
    assert wrong_usage(
        run, "interpolate", picture, picture, PROMPTS[0], "--guidance-scale", 2, "--out", tmp_path / "a.gif"
    )


def test_progress_counts_parts_of_clips_by_what_they_cost(model, monkeypatch):
    told: list[float] = []

    class Watched(Progress):
        def advance(self, count: float = 1) -> None:
            super().advance(count)
            told.append(self.done)

    monkeypatch.setattr(draw_files, "BATCH", 2)
    pipeline, progress = TextToVideoPipeline.from_pretrained(model), Watched("drawing", 3, enabled=False)
    given = read_given(pipeline.pictures.image_size)
    drawn = draw_clips.draw_clips(pipeline, list(enumerate(PROMPTS)), given, decoder="ar", seed=0, progress=progress)
    assert len(list(drawn)) == 3
    runs = frame_evaluations("ar", settings_of("ar"), FRAMES, 4)
    parts = [done / sum(runs) for done in accumulate(runs)]
    assert told == pytest.approx([*(2 * part for part in parts), *(2 + part for part in parts)])


def test_the_beginning_of_a_clip_is_described_at_the_rate_of_the_model(tmp_path, capsys):
    pipeline = toy_pipeline(num_frames=5)
    pipeline.writes = True
    pipeline.save_pretrained(tmp_path / "model")
    changes = torch.stack([toy_picture(CAPTIONS[number % 12]) for number in range(16)], dim=1)
    write_video(tmp_path / "clips" / "long.mp4", changes, 8)
    write_video(tmp_path / "clips" / "start.mp4", changes[:, :5], 8)
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no clip at all")
    assert cli.main(["video-to-text", str(tmp_path / "clips"), "--model", str(tmp_path / "model")]) == 1
    printed = capsys.readouterr()
    texts = dict(line.split("\t") for line in printed.out.splitlines())
    assert set(texts) == {str(tmp_path / "clips" / name) for name in ("long.mp4", "start.mp4")}
    assert "broken.mp4" in printed.err
    clips = [clip_of(Path(name), pipeline) for name in sorted(texts)]
    assert [clip.shape for clip in clips] == [(1, 3, 5, SIZE, SIZE)] * 2
    assert float((clips[0] - clips[1]).abs().mean()) < 0.05


def test_what_is_drawn_from_is_not_drawn_over(run, tmp_path, picture, capsys):
    before = picture.read_bytes()
    with pytest.raises(SystemExit, match="2"):
        run("image-to-video", picture, "red over green", *QUICK, "--out", picture)
    assert "is what is read, and would be lost" in capsys.readouterr().err and picture.read_bytes() == before
