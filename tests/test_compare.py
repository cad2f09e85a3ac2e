"""Comparison: the figures of the report mean what they say, and two runs differ in nothing but the seconds."""

import copy
import json
import math

import pytest
import torch

from tests.doubles import toy_pipeline
from tokenloom.data.media import read_image, to_tensor
from tokenloom.data.scene_clips import clip_batch
from tokenloom.data.scenes import KINDS, scene_batch
from tokenloom.data.video import probe_video
from tokenloom.models.transformer import SharedTransformer
from tokenloom.pipelines.best_of import likelihoods
from tokenloom.pipelines.compare import alignment, compare, count_flops, diversity, flicker, verdicts, write_comparison
from tokenloom.pipelines.sampler_settings import DECODERS, settings_of
from tokenloom.pipelines.text_to_image import seeded
from tokenloom.pipelines.text_to_video import TextToVideoPipeline, clip_evaluations
from tokenloom.pipelines.worlds import CLIPS
from tokenloom.scripts import cli

PROMPTS = ("red over green", "blue over white")


def without_seconds(report: dict) -> dict:
    report = copy.deepcopy(report)
    for item in (*report["decoders"], *(cell for row in report["prompts"] for cell in row["decoders"])):
        assert item.pop("seconds") > 0
    return report


def test_two_runs_differ_in_nothing_but_the_seconds(tmp_path):
    runs = [
        compare(toy_pipeline(), PROMPTS, DECODERS, count=2, seed=3, guidance_scale=2.0, model="toy") for _ in range(2)
    ]
    assert without_seconds(runs[0].report) == without_seconds(runs[1].report)
    for folder, run in zip(("a", "b"), runs, strict=True):
        write_comparison(tmp_path / folder, run)
        assert json.loads((tmp_path / folder / "report.json").read_text()) == run.report
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted([*runs[0].drawings, "report.html", "report.json"]) and len(names) == 2 * 3 * 2 + 2
    for name in runs[0].drawings:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_pictures_are_those_that_the_pipeline_draws_from_the_same_seeds():
    pipeline = toy_pipeline()
    found = compare(pipeline, PROMPTS, ("masked", "ar"), count=2, seed=3, guidance_scale=2.0)
    for n, decoder in enumerate(("masked", "ar")):
        pictures = pipeline(
            [prompt for prompt in PROMPTS for _ in range(2)],
            decoder=decoder,
            generator=seeded(3, 4),
            guidance_scale=2.0,
            output_type="pt",
        ).images
        entries = [entry for row in found.report["prompts"] for entry in row["decoders"][n]["drawings"]]
        assert [entry["seed"] for entry in entries] == [3, 4, 5, 6]
        for entry, picture in zip(entries, pictures, strict=True):
            torch.testing.assert_close(found.drawings[entry["file"]], picture)


def test_diversity_is_the_mean_distance_of_two_pictures():
    white, black, gray = torch.ones(3, 4, 4), -torch.ones(3, 4, 4), torch.zeros(3, 4, 4)
    assert diversity(torch.stack([white, white])) == 0
    assert diversity(torch.stack([white, black])) == 1
    assert diversity(torch.stack([white, black, gray])) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert diversity(white[None]) is None


def test_alignment_is_the_geometric_mean_over_drawings_and_tokens_of_what_the_model_reads():
    pipeline = toy_pipeline()
    ids = torch.randint(12, (5, 2, 2), generator=torch.Generator().manual_seed(0))
    tokens = pipeline.tokens("red over blue")
    each = [alignment(pipeline, "red over blue", ids[n : n + 1]) for n in range(5)]
    assert alignment(pipeline, "red over blue", ids) == pytest.approx(math.exp(sum(map(math.log, each)) / 5), rel=1e-3)
    assert len(set(each)) == 5 and all(0 < value < 1 for value in each)
    nats = likelihoods(pipeline.transformer, pipeline.text_tokenizer, ids[:1, None], [tokens])
    assert each[0] ** (len(tokens) + 1) == pytest.approx(float(nats.exp()), rel=1e-2)


def test_captions_of_the_world_are_judged_and_no_others():
    pixels, requests = scene_batch(0, 0, 24, mixture=dict.fromkeys(KINDS, 1.0))
    pictures = pixels.permute(0, 3, 1, 2) / 127.5 - 1
    for request, picture in zip(requests, pictures, strict=True):
        assert verdicts(request.text, picture[None]) == [True]
    assert verdicts("a star", torch.ones(2, 3, 64, 64)) == [False, False]
    assert verdicts("a dog", pictures) is None
    assert verdicts("a star", torch.ones(1, 3, 8, 8)) is None  # too small for the detector


def test_clips_are_judged_by_captions_of_clips():
    pixels, requests = clip_batch(0, 0, 8)
    clips = pixels.permute(0, 4, 1, 2, 3) / 127.5 - 1
    for request, clip in zip(requests, clips, strict=True):
        assert verdicts(request.text, clip[None], CLIPS) == [True]
        assert verdicts(request.text, clip[None, :, :9], CLIPS) is None  # of another length
    assert verdicts("a star grows", torch.ones(1, 3, 17, 64, 64), CLIPS) == [False]
    assert verdicts("a star", clips, CLIPS) is None


# ------------------------------------------------------------------------------------------------------------- flicker


def test_what_stands_still_or_changes_one_way_does_not_flicker():
    rising = torch.linspace(-1, 1, 9).view(1, 1, 9, 1, 1).expand(2, 3, 9, 4, 4)
    step = torch.where(torch.arange(9) < 4, -1.0, 1.0).view(1, 1, 9, 1, 1).expand(2, 3, 9, 4, 4)
    assert flicker(rising) == flicker(-rising) == flicker(step) == flicker(torch.ones(1, 3, 3, 4, 4)) == 0
    with pytest.raises(ValueError, match="at least 3 frames, got 2"):
        flicker(rising[:, :, :2])


def test_one_white_frame_among_black_ones_flickers_in_full_and_one_pixel_by_its_share():
    clip = torch.full((1, 3, 5, 4, 4), -1.0)
    clip[:, :, 2] = 1
    assert flicker(clip) == pytest.approx(1 / 3)  # of three inner frames
    clip[:, :, 2, 1:] = clip[:, :, 2, 0, 1:] = -1
    assert flicker(clip) == pytest.approx(1 / 3 / 16)


def test_clips_of_the_world_hardly_flicker_though_they_move():
    clips = clip_batch(1, 0, 16, mixture={"moves": 1.0, "grows": 1.0})[0].permute(0, 4, 1, 2, 3) / 127.5 - 1
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    assert flicker(clips) < 0.001 < 0.003 < flicker((clips + 0.02 * noise).clamp(-1, 1))


# --------------------------------------------------------------------------------------------------------------- FLOPs


def test_a_product_of_matrices_costs_two_operations_a_term():
    assert count_flops(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7


def flops_of_a_step(model: SharedTransformer, prompt_length: int) -> int:
    """One unguided step of `diffusion` for one picture, counted by hand from the shapes."""
    config = model.config
    width, codes, dims, vocabulary = config.width, config.num_positions, len(config.image_levels), config.num_codes
    slots = 1 + codes  # BEGIN and the codes
    block = slots * width * (3 * width + width + 2 * config.hidden + config.hidden)  # qkv, out, and the MLP
    attention = 2 * slots * (prompt_length + slots) * width  # scores, and the mixing of values
    modulation = model.modulation.time.in_features * width + width * 6 * width
    inputs_and_head = codes * (dims * width + width * vocabulary)
    evidence_and_mean = codes * (dims + 1 + dims) * vocabulary  # |c|^2 is one dimension more of the evidence
    return 2 * (config.num_layers * (block + attention) + modulation + inputs_and_head + evidence_and_mean)


def test_counted_operations_are_those_of_the_shapes():
    pipeline = toy_pipeline()

    def draw(steps: int) -> int:
        settings = {"decoder": "diffusion", "guidance_scale": 1.0, "num_inference_steps": steps}
        return count_flops(lambda: pipeline(PROMPTS[0], generator=seeded(0, 1), **settings))

    prompt_length = 1 + len(pipeline.tokens(PROMPTS[0]))
    assert draw(5) - draw(3) == 2 * flops_of_a_step(pipeline.transformer, prompt_length)


# --------------------------------------------------------------------------------------------------------------- clips


def test_a_comparison_of_clips_has_players_strips_and_flicker(tmp_path):
    pictures = toy_pipeline(num_frames=5)
    found = compare(pictures, PROMPTS[:1], ("ar", "diffusion"), count=2, seed=3, guidance_scale=2.0, world=CLIPS)
    write_comparison(tmp_path, found)
    assert (found.report["on"], found.report["num_frames"], found.report["fps"]) == ("clips", 5, 8)
    for n, decoder in enumerate(("ar", "diffusion")):
        cell = found.report["prompts"][0]["decoders"][n]
        drawn = TextToVideoPipeline(pictures)(
            [PROMPTS[0]] * 2, decoder=decoder, generator=seeded(3, 2), guidance_scale=2.0, output_type="pt"
        ).frames
        assert cell["flicker"] == found.report["decoders"][n]["flicker"] == pytest.approx(flicker(drawn), abs=1e-6)
        settings = settings_of(decoder, guidance_scale=2.0)
        assert cell["model_evaluations"] == clip_evaluations(decoder, settings, num_frames=5, num_codes=4)
        for entry, clip in zip(cell["drawings"], drawn, strict=True):
            assert torch.equal(found.drawings[entry["file"]], clip)
            info = probe_video(tmp_path / entry["file"])
            assert (info.num_frames, float(info.fps), info.height, info.width) == (5, 8.0, 8, 8)
            assert read_image(tmp_path / entry["strip"]).size == (5 * 10 + 2, 12)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<video ") == page.count(", frame by frame") == 4


# ------------------------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    toy_pipeline().save_pretrained(folder)
    return str(folder)


def test_the_command_writes_the_page_and_all_it_shows(model, tmp_path, capsys):
    words = ["--decoders", "diffusion,ar", "--num-images", "2", "--model", model, "--out", str(tmp_path / "new")]
    assert cli.main(["compare", *PROMPTS, *words]) == 0
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert [item["decoder"] for item in report["decoders"]] == ["diffusion", "ar"]
    assert report["guidance_scale"] == 2.0 and report["count"] == 2 and report["model"] == model
    files = [entry["file"] for row in report["prompts"] for cell in row["decoders"] for entry in cell["drawings"]]
    assert len(files) == 8
    for file in files:
        assert to_tensor(read_image(tmp_path / "new" / file)).shape == (3, 8, 8)
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'report.html'}\n"


def test_a_prompt_that_cannot_be_drawn_is_told_and_left_out(model, tmp_path, capsys):
    words = ["--decoders", "masked", "--num-images", "1", "--model", model, "--out", str(tmp_path)]
    assert cli.main(["compare", PROMPTS[0], "", *words]) == 1
    assert "prompt 2: a prompt must say something" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "report.json").read_text())["prompts"]) == 1
    assert cli.main(["compare", "", *words]) == 1


def test_the_command_compares_clips_of_models_that_know_them(model, tmp_path, capsys):
    toy_pipeline(num_frames=3).save_pretrained(tmp_path / "model")
    words = ["compare", PROMPTS[0], "--modality", "video", "--num-videos", "1", "--decoders", "diffusion"]
    words += ["--out", str(tmp_path / "new")]
    assert cli.main([*words, "--model", str(tmp_path / "model")]) == 0
    names = {"00-diffusion-00.mp4", "00-diffusion-00.png", "report.html", "report.json"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    assert cli.main([*words, "--model", model]) == 1
    assert "knows only pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("--num-images", "0"),
        ("--num-images", "1000"),
        ("--modality", "video", "--num-videos", "21"),
        ("--decoders", "ar,ar"),
    ],
)
def test_wrong_usage_is_exit_code_2(words, tmp_path):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "a star", *words, "--out", str(tmp_path)])
    assert stop.value.code == 2
