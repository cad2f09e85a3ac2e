"""Laws of pipelines/picture_sources.py: a batch is a function of its number, shares are kept, broken ones skipped."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.doubles import ToySource
from tokenloom.data.media import MediaError
from tokenloom.data.scene_clips import clip_batch
from tokenloom.data.scenes import KINDS
from tokenloom.pipelines import picture_sources
from tokenloom.pipelines.picture_sources import (
    HELD_OUT,
    LARGEST_BATCH,
    VALIDATION_NUMBER,
    FileSource,
    MixedSource,
    SceneFrameSource,
    SceneSource,
    divide,
    open_source,
    parse_spec,
    random_crop,
    whole,
)


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (6, 6)) -> Path:
    """Picture i is of one gray value i and its caption says so."""
    folder.mkdir(parents=True, exist_ok=True)
    for value in range(count):
        Image.new("RGB", size, (value, value, value)).save(folder / f"{value:03d}.png")
        (folder / f"{value:03d}.txt").write_text(f"gray {value}")
    return folder


def grays(source, numbers, count: int = 50) -> set[int]:
    return {int(value) for number in numbers for value in source(number, count)[0][:, 0, 0, 0]}


@pytest.mark.parametrize(
    "specs", [["scenes"], ["scene-clips"], ["leaves"], ["PICTURES"], ["scenes:2", "PICTURES:1"]], ids="+".join
)
def test_a_batch_is_a_function_of_its_number(specs, tmp_path):
    folder = write_pictures(tmp_path / "pictures", 30)
    specs = [spec.replace("PICTURES", str(folder)) for spec in specs]
    straight, jumping = open_source(specs, 16, 0, random_crop), open_source(specs, 16, 0, random_crop)
    batches = [straight(number, 6) for number in range(4)]
    for number in (3, 1, 3, 0, 2):
        images, captions = jumping(number, 6)
        assert torch.equal(images, batches[number][0]) and captions == batches[number][1]
    assert batches[0][0].shape == (6, 3, 16, 16) and batches[0][0].dtype == torch.uint8
    assert len({captions[0] for _, captions in batches}) > 1 or specs == ["leaves"]
    other = open_source(specs, 16, 1, random_crop)(0, 6)
    assert not torch.equal(other[0], batches[0][0])


def test_no_scene_is_drawn_twice_however_the_counts_change():
    source = MixedSource((SceneSource(16, seed=0), ToySource()), (1.0, 0.5))
    drawn = [parts[0] for parts in (source.parts(number, 6) for number in range(30))]
    counts = {len(pictures) for pictures, _ in drawn}
    assert counts == {4} or len(counts) > 1
    rows = [picture.numpy().tobytes() for pictures, _ in drawn for picture in pictures]
    assert len(rows) == len(set(rows))
    fewer, more = (SceneSource(16, seed=0)(3, count)[0] for count in (4, 7))
    assert torch.equal(fewer, more[:4])
    with pytest.raises(ValueError, match="a batch may hold 2048 scenes, got 2049; take smaller batches"):
        SceneSource(16, seed=0)(0, 2049)


def test_sources_of_one_mix_draw_by_numbers_of_their_own(tmp_path):
    """Else picture i of one folder would always come with picture i of the other."""
    folders = [str(write_pictures(tmp_path / name, 200)) for name in "ab"]
    one, other = open_source(folders, 6, 0, whole).sources
    assert one(0, 50)[1] != other(0, 50)[1] and one(0, 50)[1] == open_source(folders[:1], 6, 0, whole)(0, 50)[1]


def test_frames_of_scene_clips_are_different_frames_of_clips_that_are_drawn_anew():
    source, each = SceneFrameSource(16, seed=3), picture_sources.FRAMES_OF_CLIP
    drawn = [source(number, 2 * each + 1) for number in range(2)]
    for number, (pictures, captions) in enumerate(drawn):
        clips, requests = clip_batch(3, LARGEST_BATCH * number, 3, size=16)
        for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            clip, request = clips[place // each], requests[place // each]
            assert caption == request.text
            assert any(torch.equal(picture.permute(1, 2, 0), frame) for frame in clip)
        assert len(pictures) == 2 * each + 1
    assert not set(drawn[0][1]) & set(drawn[1][1])


def test_captions_of_scenes_are_of_every_kind_and_always_the_same(monkeypatch):
    monkeypatch.setattr(picture_sources, "CAPTIONS_OF_SCENES", 5)
    captions = list(SceneSource(16, seed=0).captions())
    assert captions == list(SceneSource(64, seed=9).captions()) and len(captions) == 5 * (len(KINDS) + 1)


# ---------------------------------------------------------------------------------------------------------------- files


def test_pictures_keep_their_captions_and_one_without_has_none(tmp_path):
    folder = write_pictures(tmp_path, 12)
    (folder / "003.txt").unlink()
    source = open_source([str(folder)], 6, 0, whole)
    images, captions = source(0, 60)
    for image, caption in zip(images, captions, strict=True):
        value = int(image[0, 0, 0])
        assert caption == ("" if value == 3 else f"gray {value}")
    assert sorted(source.captions()) == sorted(["", *(f"gray {value}" for value in range(12) if value != 3)])


def test_files_for_validation_are_never_trained_on(tmp_path):
    source = open_source([str(write_pictures(tmp_path, 100))], 6, 0, whole)
    trained, validated = grays(source, range(40)), grays(source, range(VALIDATION_NUMBER, VALIDATION_NUMBER + 3))
    assert len(validated) == 100 // HELD_OUT and len(trained) == 100 - len(validated)
    assert not trained & validated


def test_of_few_files_each_serves_both(tmp_path):
    source = open_source([str(write_pictures(tmp_path, 5))], 6, 0, whole)
    assert grays(source, [0]) == grays(source, [VALIDATION_NUMBER]) == set(range(5))


class Listed:
    """Examples of `FileSource` without files: picture i is gray i; those in `broken` raise."""

    def __init__(self, length: int, broken: tuple[int, ...] = ()):
        self.length, self.broken, self.read = length, broken, Counter()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read[index] += 1
        if index in self.broken:
            raise MediaError(f"{index}.png", "broken\npicture")
        return picture_sources.Example(str(index), f"number {index}", Image.new("RGB", (4, 4), (index,) * 3))

    def caption(self, index):
        if index in self.broken:
            raise MediaError(f"{index}.txt", "not text")
        return f"number {index}"


def test_pictures_that_lie_side_by_side_are_held_out_together():
    source = FileSource(Listed(40_000), 4, 0, whole)
    drawn, held = set(source.draw.for_training), torch.tensor(source.draw.for_validation)
    assert len(held) == 40_000 // HELD_OUT
    assert len(drawn) + len(held) == 40_000 and not drawn & set(held.tolist())
    assert int((held.diff() > 1).sum()) + 1 == len(held) // 40  # stretches of 40


def test_of_clips_whole_ones_are_held_out(monkeypatch):
    """Frames of one clip are alike, also those that lie far apart."""

    class Frames(Listed):
        clips = [range(start, start + 30) for start in range(0, 45 * 30, 30)]

    monkeypatch.setattr(picture_sources, "ClipFrames", Frames)
    source = FileSource(Frames(45 * 30), 4, 0, whole)
    assert (
        {index // 30 for index in source.draw.for_validation}
        == {19, 39}
        == set(range(45)) - {index // 30 for index in source.draw.for_training}
    )
    assert len(source.draw.for_validation) == 60
    Frames.clips = Frames.clips[:3]
    few = FileSource(Frames(90), 4, 0, whole).draw
    assert few.for_validation == [19, 39, 59, 79] and not set(few.for_validation) & set(few.for_training)


def test_a_broken_file_is_replaced_and_told_once(caplog):
    examples = Listed(6, broken=(2, 4))
    source = FileSource(examples, 4, 0, whole)
    with caplog.at_level(logging.WARNING):
        assert grays(source, range(3)) == {0, 1, 3, 5}
    assert sorted(record.message for record in caplog.records) == [
        "skipped 2.png: broken picture",
        "skipped 4.png: broken picture",
    ]
    assert source.draw.bad == {2: "2.png: broken picture", 4: "4.png: broken picture"}
    assert list(source.captions()) == ["number 0", "number 1", "number 3", "number 5"]


def test_files_that_are_all_broken_are_an_error_and_not_for_ever():
    with pytest.raises(ValueError, match=r"101 examples in a row cannot be read, the last: \d.png: broken picture"):
        FileSource(Listed(3, broken=(0, 1, 2)), 4, 0, whole)(0, 1)


def test_a_file_is_read_once_as_long_as_the_cache_has_room(monkeypatch):
    kept, passing = Listed(5), Listed(5)
    grays(FileSource(kept, 4, 0, whole), range(3))
    assert set(kept.read.values()) == {1}
    monkeypatch.setattr(picture_sources, "CACHE_BYTES", 100)  # two pictures of 4 x 4
    source = FileSource(passing, 4, 0, whole)
    images, _ = source(0, 50)
    assert sorted(passing.read.values())[:2] == [1, 1] and sorted(passing.read.values())[2] > 1
    assert torch.equal(images, FileSource(Listed(5), 4, 0, whole)(0, 50)[0])


# ---------------------------------------------------------------------------------------------------------------- crops


def ramp(width: int, height: int) -> Image.Image:
    """Red counts columns, green counts rows."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8))


def test_whole_takes_the_middle_square():
    picture = whole(ramp(60, 20), 20, torch.Generator())
    assert picture.shape == (3, 20, 20)
    assert picture[0, 0].tolist() == list(range(20, 40)) and picture[1, :, 0].tolist() == list(range(20))


@pytest.mark.parametrize("size", [(64, 64), (200, 70), (16, 16), (7, 30), (1, 1)], ids=str)
def test_a_random_crop_is_a_square_from_inside_the_picture(size):
    generator = torch.Generator().manual_seed(0)
    corners = set()
    for _ in range(40):
        picture = random_crop(ramp(*size), 16, generator)
        assert picture.shape == (3, 16, 16) and picture.dtype == torch.uint8
        corners.add((int(picture[0, 0, 0]), int(picture[1, 0, 0])))
        assert picture[0].max() < size[0] and picture[1].max() < size[1]
    assert len(corners) > 20 or min(size) <= 16


def test_a_random_crop_shows_no_more_pixels_than_there_are():
    """At the size of the model, or more of the picture made smaller; a smaller picture is shown whole."""
    widths = []
    for seed in range(60):
        picture = random_crop(ramp(100, 100), 16, torch.Generator().manual_seed(seed))
        widths.append(int(picture[0].max()) - int(picture[0].min()))
    assert min(widths) in range(14, 25) and max(widths) in range(80, 100)


# ---------------------------------------------------------------------------------------------------------------- mixed


@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [((3, 1), 8, (6, 2)), ((1, 1), 4, (2, 2)), ((1, 1, 1), 6, (2, 2, 2)), ((1,), 3, (3,)), ((0.2, 0.6), 8, (2, 6))],
)
def test_each_source_has_its_share_of_every_batch(shares, count, expected):
    sources = tuple(
        ToySource([name], seed=n) for n, name in enumerate(["red over blue", "blue over red", "red over green"])
    )
    mixed = MixedSource(sources[: len(shares)], shares)
    images, captions = mixed(3, count)
    assert len(images) == len(captions) == count
    assert tuple(captions.count(source.names[0]) for source in mixed.sources) == expected
    assert list(mixed.captions()) == [source.names[0] for source in mixed.sources]


@pytest.mark.parametrize("shares", [(4, 0.5, 3, 7, 0.25, 0.25), (9, 1), (0.001, 1), (1, 1, 1)])
def test_over_many_batches_each_source_has_its_share_also_one_below_an_example_a_batch(shares):
    batches = torch.tensor([divide(8, shares, number) for number in range(7, 20_007)]).double()
    due = 8 * torch.tensor(shares).double() / sum(shares)
    assert (batches.sum(1) == 8).all()
    assert ((batches == due.floor()) | (batches == due.ceil())).all()
    torch.testing.assert_close(batches.mean(0), due, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scenes", ("scenes", 1.0)),
        ("scenes:3", ("scenes", 3.0)),
        ("a/b.tar:0.5", ("a/b.tar", 0.5)),
        ("C:/pictures", ("C:/pictures", 1.0)),
        ("C:/pictures:2", ("C:/pictures", 2.0)),
        (":2", (":2", 1.0)),
    ],
)
def test_a_spec_is_a_name_and_perhaps_a_share(text, expected):
    assert parse_spec(text) == expected


@pytest.mark.parametrize("share", ["0", "-1", "nan", "inf"])
def test_shares_that_are_no_positive_numbers_are_refused(share):
    with pytest.raises(ValueError, match="shares must be positive, got"):
        open_source(["scenes", f"scenes:{share}"], 16, 0, whole)


def test_no_source_and_an_empty_folder_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="pictures must come from somewhere"):
        open_source([], 16, 0, whole)
    with pytest.raises(ValueError) as caught:
        open_source([str(tmp_path)], 16, 0, whole)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
