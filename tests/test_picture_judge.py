"""Laws of the judge of pictures: names come out of captions, variation keeps the thing, and a judge can learn."""

import logging

import pytest
import torch
from PIL import Image

from tests.doubles import CAPTIONS, SIZE, toy_picture
from tokenloom.data.media import from_uint8, write_png
from tokenloom.models.picture_classifier import SCALE, PictureClassifier, PictureClassifierConfig
from tokenloom.pipelines.checkpoint import checkpoints
from tokenloom.pipelines.named_pictures import NamedPictures, compiled, name_in, read_named
from tokenloom.pipelines.picture_judge import (
    PictureJudgeRecipe,
    recognized,
    train_picture_judge,
    varied_pictures,
)
from tokenloom.pipelines.picture_sources import held_out_of
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.scripts import cli

TINY = {"size": SIZE, "widths": (16,), "num_blocks": (1,)}


def captioned(folder, count: int) -> None:
    """`count` pictures of the toy world in two styles: "red over blue, plain" and "red over blue, again"."""
    for number in range(count):
        caption = CAPTIONS[number // 2 % len(CAPTIONS)]
        write_png(folder / f"{number:03}.png", from_uint8(toy_picture(caption)))
        (folder / f"{number:03}.txt").write_text(f"{caption}, {('plain', 'again')[number % 2]}")


def test_a_name_is_what_the_first_group_finds_in_the_whole_caption():
    pattern = compiled("(.+), (?:3D|flat) emoji")
    assert name_in("eye in speech, bubble, 3D emoji", pattern) == "eye in speech, bubble"
    assert name_in("any caption", compiled("(.*)")) == "any caption"
    for caption in ("cat, 3D", "a cat, 3D emoji.", ", 3D emoji"):
        with pytest.raises(ValueError, match="must find a name in every caption"):
            name_in(caption, pattern)
    with pytest.raises(ValueError, match="is none: missing"):
        compiled("(")
    with pytest.raises(ValueError, match=r"has none; write \(\.\*\)"):
        compiled(".*")


def test_pictures_are_read_with_their_names_and_what_training_holds_out(tmp_path, caplog):
    captioned(tmp_path, 44)
    (tmp_path / "044.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(tmp_path / "045.png")  # without a caption
    with caplog.at_level(logging.WARNING):
        found = read_named([tmp_path], SIZE, "(.+), .+")
    assert "044.png" in caplog.text
    assert len(found.names) == 44 and found.pixels.shape == (44, 3, SIZE, SIZE)
    assert found.vocabulary == tuple(sorted(CAPTIONS)) and found.captions[3] == f"{CAPTIONS[1]}, again"
    assert torch.equal(found.pixels[3], toy_picture(CAPTIONS[1]))
    assert [row for row, known in enumerate(found.known) if not known] == held_out_of(46)
    twice = read_named([tmp_path, tmp_path], SIZE, "(.+), .+")
    assert twice.names == found.names * 2 and twice.known == found.known * 2


def test_rows_are_chosen_by_the_seed_and_no_more_than_there_are():
    names = [str(n) for n in range(30)]
    pictures = NamedPictures(torch.zeros(30, 3, 4, 4, dtype=torch.uint8), names, names, [n % 3 > 0 for n in range(30)])
    known, unknown = pictures.chosen(True, 99, seed=1), pictures.chosen(False, 99, seed=1)
    assert sorted(known + unknown) == list(range(30)) and all(n % 3 for n in known)
    assert pictures.chosen(True, 5, seed=1) == known[:5] != pictures.chosen(True, 5, seed=2)


def test_nothing_to_name_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "alone.png")
    with pytest.raises(ValueError, match="must hold captioned pictures, and holds none"):
        read_named([tmp_path], SIZE, "(.*)")
    captioned(tmp_path, 3)
    monkeypatch.setattr("tokenloom.pipelines.named_pictures.MAX_BYTES", 500)
    with pytest.raises(ValueError, match="more than are held at once"):
        read_named([tmp_path], SIZE, "(.*)")


def test_variation_follows_the_generator_and_every_picture_changes_within_bounds():
    pictures = from_uint8(torch.stack([toy_picture(caption) for caption in CAPTIONS]))
    one, again, other = (varied_pictures(pictures, torch.Generator().manual_seed(n)) for n in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == pictures.shape and float(one.abs().max()) <= 1
    assert ((one - pictures).abs().mean((1, 2, 3)) > 0.01).all()


def test_what_a_picture_shows_stays_most_of_it():
    """A disc that fills half of the side keeps its color in the middle, and the ground its own at most borders."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disc = (x.square() + y.square() < 0.25).float()
    pictures = (2 * disc - 1).expand(256, 3, 32, 32)
    varied = varied_pictures(pictures, torch.Generator().manual_seed(0)).mean(1)
    assert (varied[:, 13:19, 13:19].mean((1, 2)) > 0).float().mean() > 0.98
    assert (varied[:, :, :2].mean((1, 2)) < 0).float().mean() > 0.98


def test_logits_are_scaled_cosines_of_features_and_the_names_directions():
    torch.manual_seed(0)
    judge = PictureClassifier(PictureClassifierConfig(names=("a", "b", "c"), **TINY)).eval()
    pictures = torch.rand(5, 3, SIZE, SIZE) * 2 - 1
    features = judge.layers(pictures).mean((2, 3))
    cosines = torch.nn.functional.cosine_similarity(features[:, None], judge.directions[None], dim=2)
    torch.testing.assert_close(judge(pictures), SCALE * cosines)
    assert torch.equal(judge.ranked(pictures, 2), judge(pictures).argsort(1, descending=True)[:, :2])
    assert judge.ranked(pictures, 9).shape == (5, 3)
    with pytest.raises(ValueError, match=r"pictures must be \(B, 3, 8, 8\)"):
        judge(torch.zeros(1, 3, 8, 9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a",)}, "names must be at least 2"),
        ({"names": ("a", "a")}, "names must be at least 2, each another"),
        ({"widths": (20,)}, "multiples of 16"),
        ({"num_blocks": (1, 1)}, "each width needs a number of blocks"),
        ({"size": 3}, "size must be at least 4"),
    ],
)
def test_what_cannot_be_a_classifier_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PictureClassifierConfig(**({"names": ("a", "b")} | TINY | changes))


def test_a_judge_learns_the_names_and_a_killed_run_ends_in_the_same_bits(tmp_path, monkeypatch):
    captioned(tmp_path / "data", 24)
    pictures = read_named([tmp_path / "data"], SIZE, "(.+), .+")
    config = PictureClassifierConfig(names=pictures.vocabulary, **TINY)
    recipe = PictureJudgeRecipe(steps=240, batch_size=24, learning_rate=0.02, ema_decay=0.9)
    judge = train_picture_judge(config, recipe, pictures, tmp_path / "run", say=lambda line: None)
    shown = from_uint8(pictures.pixels)
    assert sum(recognized(judge, shown, pictures.names, 1)) >= 22
    assert all(recognized(judge, shown, pictures.names, 5))
    assert sum(recognized(judge, shown, pictures.names[2:] + pictures.names[:2], 1)) <= 2

    class Killed(Exception):
        pass

    short = PictureJudgeRecipe(steps=6, batch_size=4)

    def run(out, *, kill: bool = False, resume: bool = False) -> PictureClassifier:
        def dying(module, *rest, **options):
            if kill and checkpoints(out):
                raise Killed
            return varied_pictures(module, *rest, **options)

        with monkeypatch.context() as patch:
            patch.setattr("tokenloom.pipelines.picture_judge.CHECKPOINT_EVERY", 4)
            patch.setattr("tokenloom.pipelines.picture_judge.varied_pictures", dying)
            return train_picture_judge(config, short, pictures, out, resume=resume, say=lambda line: None)

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill=True)
    again = run(tmp_path / "killed", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    pictures.pixels[0] += 1  # as many, and others
    with pytest.raises(TrainingError, match="pictures"):
        run(tmp_path / "killed", resume=True)


def test_the_command_leaves_a_judge_that_says_what_it_is_worth(tmp_path, capsys):
    captioned(tmp_path / "data", 24)
    words = ["train-picture-judge", "--data", str(tmp_path / "data"), "--name", "(.+), .+", "--size", "16"]
    assert cli.main([*words, "--steps", "3", "--out", str(tmp_path / "judge")]) == 0
    printed = capsys.readouterr().out
    assert "24 pictures of 12 names" in printed and "named among the first 5: " in printed
    judge = PictureClassifier.from_pretrained(tmp_path / "judge")
    assert judge.config.names == tuple(sorted(CAPTIONS)) and judge.config.name_pattern == "(.+), .+"
