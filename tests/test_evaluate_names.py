"""Laws of pipelines/evaluate_names.py: what was asked is what is judged, and nearness is that of pixels."""

import json

import pytest
import torch

from tests.doubles import CAPTIONS, SIZE, toy_picture, toy_pictures, toy_pipeline
from tests.test_picture_judge import TINY, captioned
from tests.test_writing import learned
from tokenloom.data.media import from_uint8, to_uint8
from tokenloom.models.picture_classifier import PictureClassifier, PictureClassifierConfig
from tokenloom.pipelines.evaluate_names import Named, draw_named, judged, nearest_known, reconstructed, write_named
from tokenloom.pipelines.media_to_text import MediaToTextPipeline
from tokenloom.pipelines.named_pictures import NamedPictures
from tokenloom.pipelines.text_to_image import TextToImagePipeline
from tokenloom.scripts import cli

WORLD = torch.stack([toy_picture(caption) for caption in CAPTIONS])


def world(held_out: int = 3) -> NamedPictures:
    """The twelve pictures, named by their upper colors: three of each name. The last are not known."""
    names = [caption.split()[0] for caption in CAPTIONS]
    return NamedPictures(WORLD, list(CAPTIONS), names, [n < len(CAPTIONS) - held_out for n in range(len(CAPTIONS))])


class Seeing(PictureClassifier):
    """Names a picture by the color of its upper half; the second likeliest is always the next name."""

    def __init__(self) -> None:
        super().__init__(PictureClassifierConfig(names=world().vocabulary, **TINY))

    def ranked(self, pictures: torch.Tensor, count: int) -> torch.Tensor:
        tops = [int(n) for picture in pictures for n in [self._name(picture)]]
        return torch.tensor([[(top + n) % 4 for n in range(min(count, 4))] for top in tops])

    def _name(self, picture: torch.Tensor) -> int:
        apart = [(from_uint8(toy_picture(caption))[:, 0, 0] - picture[:, 0, 0]).abs().sum() for caption in CAPTIONS]
        return self.config.names.index(CAPTIONS[int(torch.stack(apart).argmin())].split()[0])


class Painting(TextToImagePipeline):
    """Draws what it is asked for, or, if the seed of the drawing is odd, something else."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, prompt, *, decoder, generator, output_type, **settings):
        self.seeds += [g.initial_seed() for g in generator]
        rows = [(CAPTIONS.index(p) + 3 * (g.initial_seed() % 2)) % 12 for p, g in zip(prompt, generator, strict=True)]
        return type("Output", (), {"images": toy_pictures()[rows]})


def test_a_drawing_counts_when_its_name_is_among_the_first():
    found = judged(Seeing(), world(), [0, 3, 6], "ar", WORLD[[0, 6, 6]])
    assert found.found == {1: [True, False, True], 5: [True, True, True]} and found.known, "there are four names"
    assert found.share(1) == pytest.approx(2 / 3)
    assert found.nearest == [0, 6, 6] and found.distances == [0, 0, 0] and found.same == pytest.approx(2 / 3)


def test_nearness_is_the_root_mean_square_over_pixels_to_known_pictures_alone():
    pictures = world()
    gray = WORLD[:1].float().mul(0.9).round().to(torch.uint8)
    [(row, distance)] = nearest_known(gray, pictures)
    assert row == 0
    assert distance == pytest.approx(float((gray.float() - WORLD[0].float()).square().mean().sqrt()))
    for row, distance in nearest_known(WORLD[9:], pictures):
        assert row < 9 and distance > 0, "what is not known is no training picture"
    for own, (row, distance) in enumerate(nearest_known(WORLD[:9], pictures, but=list(range(9)))):
        assert row not in (own, *range(9, 12)) and distance > 0


def test_real_pictures_are_compared_with_the_others():
    found = judged(Seeing(), world(), [0, 1], "pictures", WORLD[:2])
    assert found.same == 0 and found.distance > 0 and found.share(1) == 1


def test_each_drawing_has_its_own_seed_whatever_the_batch():
    whole, parts = Painting(), Painting()
    rows = [4, 0, 8, 1, 2]
    one = draw_named(whole, world(), rows, "ar", 10)
    other = draw_named(parts, world(), rows, "ar", 10, batch_size=2)
    assert torch.equal(one, other) and whole.seeds == parts.seeds and len(set(whole.seeds)) == 5
    odd = [seed % 2 for seed in whole.seeds]
    expected = to_uint8(toy_pictures()[[(row + 3 * o) % 12 for row, o in zip(rows, odd, strict=True)]])
    assert torch.equal(one, expected)


def test_the_interval_is_that_of_two_more_of_each_verdict():
    found = Named(way="ar", known=True, rows=[0] * 6, found={5: [True] * 6})
    assert found.half_width(5) == pytest.approx(1.96 * (0.8 * 0.2 / 10) ** 0.5)


def test_reconstructions_are_what_the_tokenizer_makes_of_the_pictures():
    tokenizer = toy_pipeline().image_tokenizer
    found = reconstructed(tokenizer, WORLD, torch.device("cpu"))
    with torch.no_grad():
        expected = to_uint8(tokenizer.decode(tokenizer.encode(from_uint8(WORLD)), (SIZE, SIZE)))
    assert torch.equal(found, expected)


def test_a_model_that_writes_the_captions_has_their_names_first():
    pipeline = MediaToTextPipeline(learned()[0])
    assert write_named(pipeline, world(), list(range(9))).share(1) == 1
    wrong = NamedPictures(WORLD.roll(3, 0), list(CAPTIONS), world().names, world().known)
    found = write_named(pipeline, wrong, list(range(9)))
    assert found.share(1) == 0 and found.share(5) == 1, "there are four names"


def test_the_command_prints_a_line_for_each_way_and_writes_what_it_saw(tmp_path, capsys):
    captioned(tmp_path / "data", 24)
    learned()[0].save_pretrained(tmp_path / "model")
    judge, model, data = (str(tmp_path / name) for name in ("judge", "model", "data"))
    words = ["--data", data, "--name", "(.+), .+", "--size", str(SIZE), "--steps", "2", "--out", judge]
    with pytest.raises(SystemExit):  # pictures of 8 pixels are none for --size
        cli.main(["train-picture-judge", *words])
    names = tuple(sorted(CAPTIONS))
    config = PictureClassifierConfig(names=names, name_pattern="(.+), .+", size=SIZE, widths=(16,), num_blocks=(1,))
    PictureClassifier(config).save_pretrained(judge)
    capsys.readouterr()
    out = tmp_path / "out"
    command = ["evaluate-names", model, "--data", data, "--judge", judge, "--count", "4"]
    assert cli.main([*command, "--decoder", "ar,masked", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:9]] == ["pictures", "reconstructed", "ar", "masked"] * 2
    report = json.loads((out / "names.json").read_text())
    assert report["names"] == 12 and [len(row["asked"]) for row in report["results"]] == [4] * 4 + [1] * 4
    assert (out / "known.png").is_file() and (out / "held-out.png").is_file()
    assert cli.main([*command, "--captions"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["captions"] * 2


def test_a_judge_that_does_not_fit_is_refused(tmp_path, capsys):
    captioned(tmp_path / "data", 24)
    toy_pipeline().save_pretrained(tmp_path / "model")
    command = ["evaluate-names", str(tmp_path / "model"), "--data", str(tmp_path / "data"), "--judge"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, str(tmp_path)])
    assert stopped.value.code == 2 and "must be a folder of train-picture-judge" in capsys.readouterr().err
    for changes, message in (
        ({"size": 16}, "train one with --size 8"),
        ({"names": ("red", "blue")}, "the judge knows 24 of the names not"),
        ({"name_pattern": "(.+)!"}, "must find a name in every caption"),
    ):
        config = {"names": ("a", "b"), "name_pattern": "(.*)", "size": SIZE, "widths": (16,), "num_blocks": (1,)}
        PictureClassifier(PictureClassifierConfig(**(config | changes))).save_pretrained(tmp_path / "judge")
        assert cli.main([*command, str(tmp_path / "judge")]) == 1
        assert message in capsys.readouterr().err
