"""Evaluation: a model that draws what is asked scores 1, one that does not 0, and settings are found where they are."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.doubles import toy_pipeline
from tokenloom.data.clip_captions import ClipRequest
from tokenloom.data.clip_layout import place_acts
from tokenloom.data.clip_parser import parse_clip
from tokenloom.data.clip_render import Clip, render_clip
from tokenloom.data.media import to_tensor
from tokenloom.data.scene_captions import Request
from tokenloom.data.scene_clips import CLIP_KINDS
from tokenloom.data.scene_layout import MAX_PLAIN, WIDTHS, Draws, place, place_related
from tokenloom.data.scene_parser import parse
from tokenloom.data.scenes import HELD_OUT_KINDS, KINDS, Scene, SceneObject, render
from tokenloom.pipelines.contact_sheet import (
    BORDER,
    GAP,
    GREEN,
    LABEL,
    RED,
    SEAM,
    Group,
    contact_sheet,
    evaluation_sheet,
)
from tokenloom.pipelines.evaluate import (
    MAX_SHOWN,
    VALIDATION_SEED,
    evaluate,
    half_width,
    score_pipeline,
    score_reconstructions,
    summary,
    table,
)
from tokenloom.pipelines.sampler_settings import DECODERS, DEFAULTS, SamplerSettings, model_evaluations, settings_of
from tokenloom.pipelines.sweep import best, sweep, tries
from tokenloom.pipelines.text_to_video import clip_evaluations
from tokenloom.pipelines.worlds import CLIPS, SCENES, Drawn
from tokenloom.scripts import cli


def right_picture(request: Request, generator: torch.Generator) -> Tensor:
    """A picture (3, 64, 64) of what is asked."""
    draws = Draws(generator)
    wanted = [item for item in request.named for _ in range(item.count)]
    widths = [sum(WIDTHS["small" if len(wanted) > MAX_PLAIN else item.size]) / 2 for item in wanted]
    centres = place_related(draws, widths, request.relation) if request.relation else place(draws, widths)
    objects = [
        SceneObject(item.shape, item.color or "pink", width, x, y)
        for item, width, (x, y) in zip(wanted, widths, centres, strict=True)
    ]
    return torch.from_numpy(render(Scene(tuple(objects), request.background))).permute(2, 0, 1) / 127.5 - 1


def right_clip(request: ClipRequest, generator: torch.Generator) -> Tensor:
    """A clip (3, 17, 64, 64) of what is asked."""
    colors = [act.actor.color or ("blue" if act.color == "pink" else "pink") for act in request.acts]
    frames = render_clip(Clip(place_acts(Draws(generator), request.acts, colors), request.background))
    return torch.from_numpy(frames).permute(3, 0, 1, 2) / 127.5 - 1


class Painter:
    """Stands for a pipeline: paints what is asked if `able` says so, else a white picture; notes the seeds."""

    transformer = SimpleNamespace(config=SimpleNamespace(num_positions=64, num_frames=17))

    def __init__(self, able=lambda request, settings: True):
        self.able, self.seeds, self.calls = able, [], 0

    def __call__(self, texts, *, decoder, generator, output_type, batch_size, **settings):
        assert output_type == "pt" and len(texts) <= batch_size
        self.calls += 1
        self.seeds += [g.initial_seed() for g in generator]
        chosen = settings_of(decoder, **settings)
        pictures = [
            right_picture(request, g) if self.able(request := parse(text), chosen) else torch.ones(3, 64, 64)
            for text, g in zip(texts, generator, strict=True)
        ]
        return SimpleNamespace(images=torch.stack(pictures), ids=torch.zeros(len(texts), 8, 8, dtype=torch.long))

    def clips(self, pipeline, texts, generators, *, decoder, batch_size, **settings):
        self.seeds += [g.initial_seed() for g in generators]
        chosen = settings_of(decoder, **settings)
        clips = [
            right_clip(request, g) if self.able(request := parse_clip(text), chosen) else torch.ones(3, 17, 64, 64)
            for text, g in zip(texts, generators, strict=True)
        ]
        return Drawn(torch.stack(clips), torch.zeros(len(texts), 17, 8, 8, dtype=torch.long))


def test_who_draws_what_is_asked_scores_1_and_who_cannot_count_loses_counting():
    assert score_pipeline(Painter(), "ar", per_kind=3, seed=5) == dict.fromkeys([*KINDS, "overall"], 1.0)
    no_counting = Painter(lambda request, settings: request.kind != "counting")
    scores = score_pipeline(no_counting, "masked", per_kind=3, seed=5)
    assert scores["counting"] == 0 and scores["overall"] == pytest.approx(5 / 6)


def test_new_combinations_are_asked_of_the_four_kinds_that_have_them():
    assert score_pipeline(Painter(), "ar", per_kind=2, seed=0, held_out=True) == dict.fromkeys(
        [*HELD_OUT_KINDS, "overall"], 1.0
    )


def test_picture_k_is_drawn_from_the_seed_plus_k_and_the_settings_reach_the_model():
    heard = []
    painter = Painter(lambda request, settings: settings.guidance_scale == 7)
    found = evaluate(painter, "masked", per_kind=4, seed=30, guidance_scale=7, advance=heard.append)
    assert painter.seeds == list(range(30, 54)) and sum(heard) == 24 and all(found.passed)
    assert found.settings == settings_of("masked", guidance_scale=7)
    assert found.model_evaluations == 2 * DEFAULTS["masked"].num_inference_steps


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_model_evaluations_are_the_steps_that_the_decoder_takes(decoder, guidance_scale):
    steps = []
    pipeline = toy_pipeline()
    settings = SamplerSettings(guidance_scale=guidance_scale, num_inference_steps=3)
    pipeline(
        "red over green",
        decoder=decoder,
        callback=lambda done, total: steps.append((done, total)),
        guidance_scale=guidance_scale,
        num_inference_steps=3,
    )
    per_step = 1 if guidance_scale == 1 else 2
    count = model_evaluations(decoder, settings, pipeline.transformer.config.num_positions)
    assert count == per_step * len(steps) == per_step * steps[-1][1]


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(1.0, 0.0, 20), (1.0, 0.3, 19), (0.642857, 0.310345, 13), (0.0, 0.0, 10)]
)
def test_model_evaluations_of_diffusion_are_the_rows_that_ran(first, last, expected):
    """Ten steps from times that float32 rounds, on whose bounds both must agree."""
    pipeline, rows = toy_pipeline(), []
    pipeline.transformer.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0])))
    settings = SamplerSettings(num_inference_steps=10, guidance_from=first, guidance_until=last)
    pipeline("red over green", decoder="diffusion", **vars(settings))
    assert sum(rows) == expected == model_evaluations("diffusion", settings, num_codes=4)


@pytest.mark.parametrize("held_out", [False, True])
def test_clips_are_asked_for_and_judged_motion_by_motion(held_out):
    painter = Painter(lambda request, settings: request.kind != "grows")
    world, heard = replace(CLIPS, draw=painter.clips), []
    options = {"per_kind": 2, "seed": 30, "held_out": held_out, "num_inference_steps": 8}
    found = evaluate(painter, "masked", world=world, advance=heard.append, **options)
    right = dict.fromkeys(CLIP_KINDS, 1.0) | {"grows": 0.0}
    assert found.shares == right | {"overall": pytest.approx(7 / 8)}
    assert painter.seeds == list(range(30, 46)) and sum(heard) == 16
    assert found.model_evaluations == clip_evaluations("masked", found.settings, 17, 64)
    again = evaluate(Painter(), "masked", world=replace(CLIPS, draw=Painter().clips), **options)
    assert [request.text for request in found.requests] == [request.text for request in again.requests]


def test_a_model_that_knows_only_pictures_is_not_asked_for_clips():
    with pytest.raises(ValueError, match="knows only pictures"):
        evaluate(toy_pipeline(), "ar", per_kind=1, seed=0, world=CLIPS)


@pytest.mark.parametrize("world", [SCENES, CLIPS], ids=lambda world: world.name)
def test_settings_are_chosen_on_other_prompts_than_are_reported(world):
    reported, chosen = (
        [request.text for kind in world.kinds for request in world.prompts(kind, 20, seed, False)]
        for seed in (0, VALIDATION_SEED)
    )
    same = sum(one == other for one, other in zip(reported, chosen, strict=True))
    assert same < 0.1 * len(reported)  # short prompts are few, and some come again


@pytest.mark.parametrize("world", [SCENES, CLIPS], ids=lambda world: world.name)
def test_a_tokenizer_is_scored_by_what_it_keeps(world):
    class Keeper:
        def encode(self, images):
            self.images = images
            return torch.arange(len(images))

        def decode(self, ids, size):
            return self.images[ids]

    class Blank(Keeper):
        def decode(self, ids, size):
            return torch.ones(len(ids), 3, *size)

    assert score_reconstructions(Keeper(), 3, seed=0, world=world)["overall"] == 1
    assert score_reconstructions(Blank(), 3, seed=0, world=world) == dict.fromkeys([*world.kinds, "overall"], 0.0)


def test_the_interval_narrows_with_prompts_and_is_never_nothing():
    few, many = (evaluate(Painter(), "ar", per_kind=n, seed=0) for n in (2, 16))
    assert 0.2 > half_width([few]) > half_width([few, many]) > half_width([many] * 4) > 0


def test_the_table_has_a_line_for_each_and_the_summary_is_json():
    known, new = (evaluate(Painter(), "diffusion", per_kind=2, seed=0, held_out=held_out) for held_out in (False, True))
    summaries = json.loads(json.dumps([summary([known, known]), summary([new])]))
    assert summaries[0]["drawings"] == 24 and summaries[0]["seeds"] == [0, 0]
    assert summaries[0]["shares"] == known.shares and summaries[0]["overall_of_seeds"] == [1, 1]
    names, first, second = table(summaries).splitlines()
    assert names.split()[:3] == ["decoder", "prompts", "single"]
    assert first.split()[:9] == ["diffusion", "known", *["1.000"] * 7]
    assert second.split()[:9] == ["diffusion", "new", "-", "-", *["1.000"] * 5]
    usual = DEFAULTS["diffusion"]
    assert first.endswith(
        f"guidance_scale {usual.guidance_scale:g}, num_inference_steps {usual.num_inference_steps}, "
        f"temperature {usual.temperature:g}, guidance_from 1, guidance_until 0"
    )


# --------------------------------------------------------------------------------------------------------------- sweep


def test_clips_are_swept_as_pictures_are():
    painter = Painter(lambda request, settings: settings.temperature == 0.4)
    world = replace(CLIPS, draw=painter.clips)
    found = list(sweep(painter, "ar", {"temperature": (0.4, 0.9)}, per_kind=1, seed=VALIDATION_SEED, world=world))
    assert best(found).settings.temperature == 0.4 and best(found).shares["overall"] == 1


def test_a_sweep_finds_the_best_settings_one_after_the_other():
    def able(request, settings):
        hits = (settings.guidance_scale == 4) + (settings.num_inference_steps >= 12)
        return KINDS.index(request.kind) < 3 * hits

    painter, grid = Painter(able), {"guidance_scale": (2.0, 3.0, 4.0), "num_inference_steps": (8, 12, 24, 50)}
    found = list(sweep(painter, "diffusion", grid, per_kind=1, seed=0))
    chosen = best(found)
    assert (chosen.settings.guidance_scale, chosen.settings.num_inference_steps) == (4, 12)
    assert chosen.shares["overall"] == 1
    assert len({one.settings for one in found}) == len(found) == painter.calls <= tries(grid)


def test_what_is_said_is_not_swept():
    found = list(sweep(Painter(), "ar", {"temperature": (0.5, 1.0)}, per_kind=1, seed=0, guidance_scale=2.0))
    assert {one.settings.guidance_scale for one in found} == {2.0}
    assert {one.settings.temperature for one in found} == {DEFAULTS["ar"].temperature, 0.5, 1.0}


# ---------------------------------------------------------------------------------------------------- sheet and command


def test_the_sheet_is_green_around_what_passed():
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    sheet = contact_sheet([Group("first", pictures, [True, False, True]), Group("second", pictures, [False] * 3)])
    side = 2 * 8 + 2 * BORDER
    row = [sheet.getpixel((GAP + n * (side + GAP) + 1, GAP + LABEL + 1)) for n in range(3)]
    assert row == [GREEN, RED, GREEN]
    assert to_tensor(sheet)[:, GAP + LABEL + BORDER, GAP + BORDER].tolist() == [-1, -1, -1]  # the picture itself
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([Group("none", pictures[:0], [])])


def test_the_sheet_of_clips_shows_every_second_frame_and_what_passed():
    painter = Painter(lambda request, settings: request.kind != "moves")
    world = replace(CLIPS, draw=painter.clips)
    found = evaluate(painter, "ar", per_kind=1, seed=0, world=world)
    sheet, strip_width = evaluation_sheet(found), 9 * 64 + 8 * SEAM
    assert sheet.width == max(320, GAP + strip_width + 2 * BORDER + GAP)
    group = LABEL + 64 + 2 * BORDER + 2 * GAP
    edges = [sheet.getpixel((GAP + 1, GAP + n * group + LABEL + 1)) for n in range(len(CLIP_KINDS))]
    assert edges == [RED] + [GREEN] * 7
    top, left = GAP + group + LABEL + BORDER, GAP + BORDER  # the second kind
    last = sheet.crop((left + 8 * (64 + SEAM), top, left + strip_width, top + 64))
    assert np.array_equal(last, found.shown[CLIP_KINDS[1]][0, 16])


def test_not_all_drawings_are_kept():
    found = evaluate(Painter(), "ar", per_kind=MAX_SHOWN + 1, seed=0)
    assert {len(pictures) for pictures in found.shown.values()} == {MAX_SHOWN}
    assert len(found.passed) == len(KINDS) * (MAX_SHOWN + 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    toy_pipeline(image_grid=(4, 4)).save_pretrained(folder)
    return str(folder)


def test_the_command_prints_a_table_and_writes_every_verdict(model, tmp_path, capsys):
    words = ["--decoder", "masked,diffusion", "--prompts-per-kind", "2", "--new", "--seeds", "0,3", "--steps", "2"]
    words += ["--guidance-from", "0.9", "--guidance-until", "0.2"]
    assert cli.main(["evaluate", model, *words, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    results = report["results"]
    assert [(r["decoder"], r["prompts"]) for r in results] == [
        (decoder, prompts) for decoder in ("masked", "diffusion") for prompts in ("known", "new")
    ]
    assert [len(r["verdicts"]) for r in results] == [24, 16, 24, 16]
    assert results[0]["verdicts"][12]["seed"] == 3 and results[0]["settings"]["num_inference_steps"] == 2
    assert [results[2]["settings"][name] for name in ("guidance_from", "guidance_until")] == [0.9, 0.2]
    assert results[2]["model_evaluations"] == 3  # of two steps, at 1 and 0.64, one is guided
    assert {path.name for path in tmp_path.iterdir()} == {
        "evaluation.json",
        *(f"{decoder}-{prompts}.png" for decoder in ("masked", "diffusion") for prompts in ("known", "new")),
    }
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 6 and "Warning" not in shown.err


def test_the_command_sweeps_and_reconstructs(model, capsys):
    words = ["--decoder", "diffusion", "--sweep", "--steps", "2", "--prompts-per-kind", "1"]
    assert cli.main(["evaluate", model, *words]) == 0
    assert "best:" in capsys.readouterr().out
    assert cli.main(["evaluate", model, "--reconstructions", "--prompts-per-kind", "1"]) == 0
    assert capsys.readouterr().out.startswith("reconstructions, seed 0: single ")


def test_the_command_evaluates_clips_and_their_reconstructions(tmp_path, capsys):
    toy_pipeline(image_grid=(4, 4), num_frames=17).save_pretrained(tmp_path / "model")
    words = ["evaluate", str(tmp_path / "model"), "--on", "clips", "--prompts-per-kind", "1"]
    assert cli.main([*words, "--decoder", "diffusion", "--new", "--steps", "1", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["on"] == "clips" and [result["prompts"] for result in report["results"]] == ["known", "new"]
    for result in report["results"]:
        assert list(result["shares"]) == [*CLIP_KINDS, "overall"]
        assert (tmp_path / f"diffusion-{result['prompts']}.png").is_file()
    assert cli.main([*words, "--reconstructions"]) == 0
    assert "reconstructions, seed 0: moves " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--decoder", "ar,magic"),
        ("--decoder", ""),
        ("--seeds", "0,0"),
        ("--seeds", "x"),
        ("--prompts-per-kind", "0"),
        ("--captions", "--sweep"),
        ("--captions", "--steps", "3"),
        ("--captions", "--new"),
        ("--reconstructions", "--best-of", "5"),
        ("--decoder", "ar", "--choice-temperature", "1"),
        ("--decoder", "masked", "--guidance-until", "0.5"),
        ("--sweep", "--seeds", "0,1"),
        ("--sweep", "--new"),
    ],
)
def test_wrong_usage_is_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "anything", *words])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_the_command_judges_captions_and_shows_them(tmp_path, capsys):
    pipeline = toy_pipeline(image_grid=(4, 4))
    pipeline.writes = True
    pipeline.save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    words = ["evaluate", str(tmp_path / "model"), "--captions", "--prompts-per-kind", "1", "--seeds", "3,4"]
    assert cli.main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:2]] == ["true captions, seed 3", "true captions, seed 4"]
    found = json.loads((out / "evaluation.json").read_text())["captions"]
    assert [result["seed"] for result in found] == [3, 4]
    for result in found:
        assert {row["kind"] for row in result["written"]} == set(KINDS) == set(result["shares"]) - {"overall"}
        assert all(row["drawn_from"] and isinstance(row["text"], str) for row in result["written"])
