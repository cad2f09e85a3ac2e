"""Laws of pipelines/true_drawings.py: only what the detector finds true is kept, and nothing that is held out."""

from collections import Counter
from dataclasses import replace
from filecmp import cmpfiles
from itertools import permutations

import pytest
import torch

from tests.doubles import toy_pipeline
from tests.test_evaluate import Painter
from tokenloom.data.clip_render import Clip, ClipObject, render_clip
from tokenloom.data.scene_clips import CLEAR_TURNS
from tokenloom.data.scene_detector import check
from tokenloom.data.scene_parser import parse
from tokenloom.data.scene_render import COLORS, SceneObject
from tokenloom.data.scenes import KINDS
from tokenloom.data.shard_reader import ShardReader, verify_shards
from tokenloom.pipelines.shard_sources import open_training_clips, open_training_source
from tokenloom.pipelines.true_drawings import MOST_TRIES, TrueDrawing, true_drawings, write_drawings
from tokenloom.pipelines.worlds import CLIPS, SCENES, Drawn, as_arrays
from tokenloom.scripts import cli


def noted(painter: Painter):
    """The world of scenes, the ids of each drawing being its number; and a list that all drawings enter."""
    drawn: list[tuple[str, torch.Tensor]] = []

    def draw(pipeline, texts, generators, **settings) -> Drawn:
        pictures = pipeline(texts, generator=generators, output_type="pt", **settings).images
        first = len(drawn)
        drawn.extend(zip(texts, pictures, strict=True))
        numbers = torch.arange(first, len(drawn))
        return Drawn(pictures, numbers[:, None, None].expand(-1, 8, 8).clone())

    return replace(SCENES, draw=draw), drawn


def test_as_many_of_each_kind_are_kept_and_each_is_true_and_not_held_out():
    """The painter paints what has no color pink, and a pink cross is held out."""
    world, drawn = noted(Painter(lambda request, settings: len(request.text) % 3 > 0))
    kept = list(true_drawings(Painter(lambda request, settings: len(request.text) % 3 > 0), "ar", world, per_kind=3))
    assert Counter(parse(item.caption).kind for item in kept) == dict.fromkeys(KINDS, 3)
    passed = 0
    for caption, picture in drawn:
        passed += check(parse(caption), as_arrays(picture[None])[0])
    assert passed > len(kept)  # some were true and held out, or more than wanted
    for item in kept:
        caption, picture = drawn[int(item.ids[0, 0])]
        array = as_arrays(picture[None])[0]
        assert caption == item.caption and check(parse(caption), array) and not SCENES.shows_held_out(array)
        assert "cross" not in caption or not any(act.color is None for act in parse(caption).named)


def test_of_all_turns_those_are_held_out_that_training_never_shows():
    """A heart that turns from red to yellow is orange half-way, and orange hearts are held out."""
    for shape, turns in CLEAR_TURNS.items():
        for start, end in permutations(COLORS, 2):
            ends = (SceneObject(shape, color, 0.4, 0.5, 0.5) for color in (start, end))
            clip = render_clip(Clip((ClipObject(*ends),), "white"), 64)
            assert CLIPS.check(CLIPS.parse(f"a {shape} turns {end}"), clip)
            assert CLIPS.shows_held_out(clip) == ((start, end) not in turns), (shape, start, end)


def test_a_kind_that_is_never_drawn_is_left_after_ten_tries_each():
    world, drawn = noted(Painter())
    painter = Painter(lambda request, settings: request.kind != "counting")
    kept = list(true_drawings(painter, "ar", world, per_kind=2, batch_size=12))
    assert Counter(parse(item.caption).kind for item in kept) == dict.fromkeys(set(KINDS) - {"counting"}, 2)
    tries = sum(parse(caption).kind == "counting" for caption, _ in drawn)
    assert MOST_TRIES * 2 <= tries < MOST_TRIES * 2 + 12


def test_seed_and_not_the_crew_decides_what_is_kept():
    def captions(**options) -> list[str]:
        return [item.caption for item in true_drawings(Painter(), "ar", SCENES, per_kind=2, batch_size=6, **options)]

    assert captions() == captions(workers=2) != captions(seed=1)


@pytest.mark.parametrize("world", [SCENES, CLIPS], ids=lambda world: world.name)
def test_shards_hold_the_codes_as_they_were_drawn_and_training_reads_them(world, tmp_path):
    pipeline = toy_pipeline(**({"num_frames": 3} if world is CLIPS else {}))
    pipeline.save_pretrained(tmp_path / "model")
    shape = (3, 2, 2) if world is CLIPS else (2, 2)
    generator = torch.Generator().manual_seed(0)
    drawings = [
        TrueDrawing(f"drawing {n % 7}", torch.randint(12, shape, generator=generator)) for n in range(40)
    ]  # captions come more than once
    for name in ("one", "two"):
        write_drawings(drawings, tmp_path / name, pipeline, world, model=str(tmp_path / "model"))
    media = "video" if world is CLIPS else "image"
    for modality in (media, "text"):
        files = [path.name for path in (tmp_path / "one" / modality).iterdir()]
        same, _, _ = cmpfiles(tmp_path / "one" / modality, tmp_path / "two" / modality, files, shallow=False)
        assert sorted(same) == sorted(files) and not verify_shards(tmp_path / "one" / modality)
    reader = ShardReader(tmp_path / "one" / media, pipeline.image_tokenizer.fingerprint if media == "image" else None)
    assert all(torch.equal(reader.ids(reader.files[f"{n:07d}"]), d.ids) for n, d in enumerate(drawings))
    if world is CLIPS:
        source = open_training_clips([str(tmp_path / "one")], 3, 8, 8.0, 0, pipeline.image_tokenizer)
    else:
        source = open_training_source([str(tmp_path / "one")], 8, 0, pipeline.image_tokenizer)
    codes, captions = source(0, 8)
    told = {(item.caption, tuple(item.ids.flatten().tolist())) for item in drawings}
    assert {(c, tuple(ids.flatten().tolist())) for ids, c in zip(codes, captions, strict=True)} <= told


@pytest.mark.parametrize("world", [SCENES, CLIPS])
def test_a_folder_that_holds_drawings_takes_no_others(tmp_path, world):
    """They have no names but numbers: pictures of one run would get the captions of the other."""
    pipeline = toy_pipeline(image_grid=(4, 4), num_frames=3)
    write_drawings([TrueDrawing("red", torch.zeros(4, 4, dtype=torch.long))], tmp_path, pipeline, SCENES, model="toy")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = TrueDrawing("blue", torch.ones(3, 4, 4, dtype=torch.long) if world is CLIPS else torch.ones(4, 4).long())
    with pytest.raises(ValueError, match="holds token shards already"):
        write_drawings([other], tmp_path, pipeline, world, model="toy")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_command_writes_shards_that_training_reads(tmp_path, monkeypatch, capsys):
    toy_pipeline(image_grid=(4, 4)).save_pretrained(tmp_path / "model")
    drawings = [TrueDrawing(f"drawing {n}", torch.full((4, 4), n)) for n in range(6)]
    monkeypatch.setattr("tokenloom.pipelines.true_drawings.true_drawings", lambda *rest, **how: iter(drawings))
    out = tmp_path / "own"
    words = ["draw-shards", str(tmp_path / "model"), "--per-kind", "1", "--out", str(out)]
    assert cli.main(words) == 0 and "6 true drawings of 6 wanted" in capsys.readouterr().out
    source = open_training_source([str(out)], 16, 0, toy_pipeline(image_grid=(4, 4)).image_tokenizer)
    codes, captions = source(0, 4)
    assert {c: ids.unique().tolist() for ids, c in zip(codes, captions, strict=True)} == {
        c: [int(c.split()[1])] for c in captions
    }
    assert cli.main(words) == 1 and "holds token shards already" in capsys.readouterr().err


def test_a_model_that_draws_nothing_true_is_told_in_one_line(tmp_path, capsys):
    toy_pipeline(image_grid=(4, 4)).save_pretrained(tmp_path / "model")
    words = ["draw-shards", str(tmp_path / "model"), "--per-kind", "1", "--out", str(tmp_path / "out")]
    for wrong in (["--guidance-scale", "-1"], ["--decoder", "ar", "--steps", "4"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main([*words, *wrong])
        assert wrong[-2] in capsys.readouterr().err
    assert cli.main(words) == 1
    assert "at least one drawing must be true" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="at least 1 drawing of each kind must be wanted, got 0"):
        next(true_drawings(Painter(), "ar", SCENES, per_kind=0))
