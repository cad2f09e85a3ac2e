"""Laws of retrieval: recall as counted by hand, galleries whose captions differ, and what the detector finds true."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tests.doubles import CAPTIONS, SIZE, toy_picture
from tests.test_embed import toy_embedding
from tests.test_spoken_digits import RATE, TAKES, heard, pitch, write_digits
from tokenloom.data.scene_parser import parse
from tokenloom.pipelines.picture_sources import held_out_of
from tokenloom.pipelines.retrieval import Gallery, fresh_gallery, held_out_gallery, recall, retrieve, spoken_gallery
from tokenloom.pipelines.spoken_digits import digits_of
from tokenloom.pipelines.worlds import CLIPS, SCENES
from tokenloom.scripts import cli


def test_recall_counts_the_rows_whose_own_column_is_among_the_first():
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.3, 0.2, 0.1]])  # own columns come 1st, 2nd, 3rd
    assert [recall(scores, k) for k in (1, 2, 3, 9)] == [1 / 3, 2 / 3, 1.0, 1.0]
    assert recall(scores, 1, lambda row, column: (row, column) == (1, 0)) == 2 / 3
    assert recall(scores, 2, lambda row, column: (row, column) == (2, 2)) == 2 / 3, "it is not among the first two"


@pytest.mark.parametrize("world", [SCENES, CLIPS], ids=lambda world: world.name)
def test_a_fresh_gallery_says_different_things_that_are_true(world):
    gallery = fresh_gallery(world, 24, seed=3, size=48)
    assert len(set(gallery.captions)) == 24 == len(gallery.media) and gallery.media.dtype == torch.uint8
    assert sum(gallery.true(i, i) for i in range(24)) >= 22  # at 48 pixels the detector errs now and then
    assert not all(gallery.true(i, (i + 1) % 24) for i in range(24))
    again, other = fresh_gallery(world, 24, seed=3, size=48), fresh_gallery(world, 24, seed=4, size=48)
    assert again.captions == gallery.captions and torch.equal(again.media, gallery.media)
    assert other.captions != gallery.captions
    if world is SCENES:
        meanings = [parse(text) for text in gallery.captions]
        assert len({replace(meaning, text="") for meaning in meanings if meaning}) == 24


def test_a_gallery_larger_than_the_world_is_refused(monkeypatch):
    monkeypatch.setattr("tokenloom.pipelines.retrieval.MAX_TRIES", 3)
    few = replace(
        SCENES, name="few", kinds=("single",), example=lambda *_: SCENES.example(torch.Generator(), "two", 16)
    )
    with pytest.raises(ValueError, match="few must have 2 captions that differ, got 1; ask for fewer"):
        fresh_gallery(few, 2, seed=0, size=16)


def test_recalls_are_means_over_stretches_of_the_gallery_and_both_ways():
    pipeline = toy_embedding()
    media = torch.stack([toy_picture(caption) for caption in CAPTIONS])
    gallery = Gallery(list(CAPTIONS), media, lambda i, j: CAPTIONS[i][0] == CAPTIONS[j][0])  # the first letter
    found = retrieve(pipeline, gallery, [4, 12])
    scores = pipeline.scores(pipeline.embed_text(CAPTIONS), pipeline.embed_pictures(media.float() / 127.5 - 1))
    for count in (4, 12):
        parts = [scores[n : n + count, n : n + count] for n in range(0, 12, count)]
        assert found[count]["text_1"] == pytest.approx(sum(recall(part, 1) for part in parts) / len(parts))
        assert found[count]["media_5"] == pytest.approx(sum(recall(part.T, 5) for part in parts) / len(parts))
        true = [
            recall(part.T, 1, lambda row, j, start=n * count: CAPTIONS[start + row][0] == CAPTIONS[start + j][0])
            for n, part in enumerate(parts)
        ]
        assert found[count]["media_1_true"] == pytest.approx(sum(true) / len(true))
        assert set(found[count]) == {f"{a}_{k}{t}" for a in ("text", "media") for k in (1, 5) for t in ("", "_true")}
    plain = retrieve(pipeline, Gallery(gallery.captions, media), [12])[12]
    assert set(plain) == {"text_1", "text_5", "media_1", "media_5"}
    with pytest.raises(ValueError, match="a gallery of 12 pairs cannot be searched among 13"):
        retrieve(pipeline, gallery, [4, 13])


def test_a_spoken_gallery_holds_strings_that_differ_of_takes_that_training_leaves_out(tmp_path):
    write_digits(tmp_path)
    gallery = spoken_gallery(tmp_path, 60, 5, RATE)
    assert len(set(gallery.captions)) == 60 == len(gallery.sounds)
    assert {len(text.split()) for text in gallery.captions} == {1, 2, 3}
    held_out = {pitch(n, digit, take) for n in range(2) for digit in range(10) for take in (2, 3, 4)}
    assert all(set(heard(sound)) <= held_out for sound in gallery.sounds)
    for text, sound in zip(gallery.captions, gallery.sounds, strict=True):
        assert [(hz - 500) // 10 // TAKES % 10 for hz in heard(sound)] == digits_of(text)
    again, other = spoken_gallery(tmp_path, 60, 5, RATE), spoken_gallery(tmp_path, 60, 6, RATE)
    assert again.captions == gallery.captions != other.captions
    assert len(set(spoken_gallery(tmp_path, 1110, 5, RATE).captions)) == 1110
    with pytest.raises(ValueError, match="there are 1110 strings of digits that differ, not 1111; ask for fewer"):
        spoken_gallery(tmp_path, 1111, 5, RATE)


@pytest.fixture
def pictures(tmp_path):
    """60 captioned pictures, of which the captions repeat after twelve."""
    for number in range(60):
        caption = CAPTIONS[number % 12]
        pixels = toy_picture(caption).permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
        (tmp_path / f"{number:02}.txt").write_text(caption)
    return tmp_path


def test_a_gallery_of_files_holds_what_training_leaves_out(pictures):
    gallery = held_out_gallery(pictures, SIZE)
    assert gallery.captions == [CAPTIONS[index % 12] for index in held_out_of(60)] and gallery.true is None
    assert torch.equal(gallery.media, torch.stack([toy_picture(caption) for caption in gallery.captions]))
    for text in pictures.glob("*.txt"):
        text.unlink()
    with pytest.raises(ValueError, match="must hold at least 2 captioned pictures that training left out, got 0"):
        held_out_gallery(pictures, SIZE)


def test_of_few_files_training_leaves_none_out_and_there_is_no_gallery(pictures):
    for file in sorted(pictures.iterdir())[20:]:
        file.unlink()
    with pytest.raises(ValueError, match="too few files for training to leave any out"):
        held_out_gallery(pictures, SIZE)


def test_the_command_reports_each_gallery(pictures, tmp_path_factory, capsys):
    model = tmp_path_factory.mktemp("model")
    toy_embedding().save_pretrained(model)
    out = model / "recall.json"
    words = ["evaluate-embed", str(model), "--on", str(pictures), "--among", "2,3,50", "--out", str(out)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    report = json.loads(out.read_text())
    assert [row["among"] for row in report["results"]] == [2, 3] and f"{pictures}, among 3: text_1 " in shown
    with pytest.raises(SystemExit):
        cli.main(["evaluate-embed", str(model), "--among", "1"])
    assert "--among: a whole number of 2 to 10000" in capsys.readouterr().err
