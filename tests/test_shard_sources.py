"""Laws of pipelines/shard_sources.py: from shards is learned what is learned from the files they were made of."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.doubles import CAPTIONS, SIZE, toy_image_tokenizer, toy_picture, toy_pictures, toy_text_tokenizer
from tests.test_clip_frames import RATE, clip
from tests.test_shards import rewritten
from tests.test_train_command import TOY, tokenloom_train, weights
from tests.test_train_model import batches_of, bits, recipe, run
from tokenloom.data.find_files import find_files
from tokenloom.data.loader import generator_of
from tokenloom.data.shard_reader import ShardReader
from tokenloom.pipelines import training_batches
from tokenloom.pipelines.picture_sources import HELD_OUT, VALIDATION_NUMBER, open_source, whole
from tokenloom.pipelines.shard_sources import open_training_clips, open_training_source
from tokenloom.pipelines.tokenize_files import tokenize_images, tokenize_texts, tokenize_videos
from tokenloom.pipelines.training_batches import codes_of
from tokenloom.scripts import cli
from tokenloom.tokenizers.frames import FramesTokenizer
from tokenloom.tokenizers.text import TextTokenizer

COUNT = 2 * HELD_OUT + 2  # pictures, of which two are held out


def tokenizer():
    """The toy tokenizer that `codes` holds."""
    made = toy_image_tokenizer(alive=False)
    made.start_linear(toy_pictures())
    return made


@pytest.fixture
def world(tmp_path) -> Path:
    """`pictures`, of which one has no caption and one a broken one; `words`, a tokenizer of their captions."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for number in range(COUNT):
        caption = CAPTIONS[number % len(CAPTIONS)]
        path = folder / ("deep" if number % 3 else ".") / f"{number:02}.png"
        Image.fromarray(toy_picture(caption).permute(1, 2, 0).contiguous().numpy()).save(path)
        path.with_suffix(".txt").write_text(f" {caption}\n")
    (folder / "00.txt").unlink()
    (folder / "deep" / "04.txt").write_bytes(b"\xff\xfe red")
    toy_text_tokenizer().save_pretrained(tmp_path / "words")
    return tmp_path


def make_shards(world: Path, *, size: int | None = SIZE, made_by=None, words: bool = True) -> Path:
    folder, out = world / "pictures", world / "shards"
    pictures = find_files([folder], "image")
    tokenize_images(pictures, out, made_by or tokenizer(), tokenizer_name="codes", size=size, show_progress=False)
    if words:
        texts, name = find_files([folder], "text"), str(world / "words")
        tokenize_texts(texts, out, TextTokenizer.from_pretrained(name), tokenizer_name=name, show_progress=False)
    return out


def opened(*specs: object, seed: int = 0):
    return open_training_source([*map(str, specs)], SIZE, seed, tokenizer())


# -------------------------------------------------------------------------------------------------- shards are pictures


def test_shards_give_the_codes_and_captions_of_the_pictures_in_their_order(world):
    pictures, shards = open_source([str(world / "pictures")], SIZE, 3, whole), opened(make_shards(world), seed=3)
    for number in (5, 0, 1, VALIDATION_NUMBER, 5):
        drawn, captions = pictures(number, 30)
        codes, same = shards(number, 30)
        assert codes.dtype == torch.long and torch.equal(codes, codes_of(drawn, tokenizer())) and captions == same
    assert list(shards.captions()) == list(pictures.captions())
    assert shards.sources[0].draw.bad.keys() == pictures.sources[0].draw.bad.keys() == {16}  # deep/04.png


@pytest.mark.parametrize("specs", ["PICTURES", "OTHERS:1 PICTURES:3", "PICTURES:2 OTHERS"])
def test_a_batch_is_the_same_of_shards_and_of_pictures_whatever_is_mixed_in(world, specs):
    made, others = make_shards(world), world / "others"
    others.mkdir()
    Image.new("RGB", (SIZE, SIZE), "teal").save(others / "teal.png")
    specs = specs.replace("OTHERS", str(others))
    each = [
        batches_of(tokenizer(), opened(*specs.replace("PICTURES", str(path)).split()))
        for path in (world / "pictures", made)
    ]
    for number in (1, 0, VALIDATION_NUMBER):
        one, other = (batches(number) for batches in each)
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("prompts", "real", "codes"))


def test_training_on_shards_ends_in_the_bits_of_training_on_the_pictures(world, tmp_path):
    made = recipe(steps=2)
    run(tmp_path / "a", tokenizer(), opened(world / "pictures"), made)
    run(tmp_path / "b", tokenizer(), opened(make_shards(world)), made)
    a, b = bits(tmp_path / "a"), bits(tmp_path / "b")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_commands_end_in_the_same_weights_without_the_pictures_and_after_a_kill(world, monkeypatch):
    tokenizer().save_pretrained(world / "codes")
    common = ["--tokenizer", world / "codes", *TOY, "--steps", 3, "--checkpoint-every", 1, "--decoder", "ar,diffusion"]
    assert tokenloom_train("--data", world / "pictures", "--out", world / "a", *common) == 0

    words = ["tokenize", world / "pictures", "--out", world / "shards", "--size", SIZE, "--workers", 1]
    words += ["--tokenizer", world / "codes", "--text-tokenizer", world / "words"]
    assert cli.main([*map(str, words)]) == 0
    (world / "pictures").rename(world / "gone")

    draw = training_batches.Batches.__call__

    def killed(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return draw(self, number)

    words = ["--data", world / "shards", "--out", world / "b", *common]
    monkeypatch.setattr(training_batches.Batches, "__call__", killed)
    assert tokenloom_train(*words) == 130
    monkeypatch.setattr(training_batches.Batches, "__call__", draw)
    assert tokenloom_train(*words, "--resume") == 0
    one, other = weights(world / "a" / "final"), weights(world / "b" / "final")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_pictures_of_another_grid_are_left_out_and_counted_in_one_line(world, caplog):
    Image.new("RGB", (3 * SIZE, SIZE)).save(world / "pictures" / "wide.png")
    shards = make_shards(world, size=None)
    with caplog.at_level(logging.WARNING, logger="tokenloom.pipelines.shard_sources"):
        codes, _ = opened(shards)(0, 30)
    assert codes.shape == (30, 2, 2)
    (line,) = [record.message for record in caplog.records if "left out" in record.message]
    assert f"left out 1 of {COUNT + 1} files: not pictures of 2 x 2 codes (--size {SIZE})" in line
    with pytest.raises(ValueError, match=rf"4 x 4 codes \(--size 16\), and none of {COUNT + 1} files does; tokenize"):
        open_training_source([str(shards)], 16, 0, tokenizer())


def test_shards_of_another_tokenizer_are_refused(world):
    shards = make_shards(world, made_by=toy_image_tokenizer(seed=4))
    theirs, ours = toy_image_tokenizer(seed=4).fingerprint[:12], tokenizer().fingerprint[:12]
    with pytest.raises(
        ValueError, match=f"of tokenizer codes .{theirs}., and the one in use is another .{ours}.; give"
    ):
        opened(shards)


def test_captions_whose_tokenizer_has_changed_are_refused(world):
    shards = make_shards(world)
    TextTokenizer.train(["other words " * 9], vocab_size=270).save_pretrained(world / "words")
    with pytest.raises(ValueError, match="/words .*, and the one in use is another .*; put back the one that it was"):
        opened(shards)


@pytest.mark.parametrize("texts", ["none", "of other names"])
def test_shards_without_captions_say_how_to_add_them(world, texts):
    shards = make_shards(world, words=False)
    if texts != "none":
        for path in (world / "pictures").rglob("*.txt"):
            path.rename(path.with_name(f"about-{path.name}"))
        make_shards(world)
    with pytest.raises(ValueError, match=r"no image has a caption there; put NAME\.txt beside each .* --modality text"):
        opened(shards)


def test_a_folder_of_one_modality_is_not_enough(world):
    make_shards(world)
    with pytest.raises(ValueError, match="must hold shards of modality image, got text; name others"):
        opened(world / "shards" / "text")


def test_a_manifest_that_lies_about_its_ids_is_refused_before_they_are_read(world):
    """Ids beyond the codebook would be looked up beyond the end of a table."""
    shards = make_shards(world)
    rewritten(shards / "image", lambda manifest: manifest.update(vocab_size=13))
    with pytest.raises(ValueError, match="its ids must be below 12, as its tokenizer's are, and the manifest says 13"):
        opened(shards)


# ---------------------------------------------------------------------------------------------------------------- clips


@pytest.fixture
def clips(tmp_path) -> Path:
    """Shards of clips of 30 and 20 frames that get lighter, and of one of 4; with captions but for the second."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, data in {"a": clip(30), "b": clip(20, shades=7), "short": clip(4)}.items():
        (folder / f"{name}.mkv").write_bytes(data)
    (folder / "a.txt").write_text("clip a")
    return clip_shards(folder, tmp_path / "shards")


def clip_shards(folder: Path, out: Path, made_by=None) -> Path:
    made_by = made_by or FramesTokenizer(tokenizer())
    tokenize_videos(find_files([folder], "video"), out, made_by, fps=RATE, size=SIZE, show_progress=False)
    words = TextTokenizer.from_pretrained(toy_words(folder.parent))
    name = str(toy_words(folder.parent))
    tokenize_texts(find_files([folder], "text"), out, words, tokenizer_name=name, show_progress=False)
    return out


def toy_words(folder: Path) -> Path:
    toy_text_tokenizer().save_pretrained(folder / "words")
    return folder / "words"


def opened_clips(*specs: object, num_frames: int = 6, rate: float = RATE, seed: int = 0):
    return open_training_clips([*map(str, specs)], num_frames, SIZE, rate, seed, tokenizer())


def test_pieces_are_frames_that_follow_each_other_in_the_shards(clips, caplog):
    reader = ShardReader(clips / "video")
    ids = {name: reader.ids(reader.files[f"{name}.mkv"]) for name in "ab"}
    pieces = {
        name: {tuple(part.flatten().tolist()) for part in ids[name].unfold(0, 6, 1).movedim(-1, 1)} for name in "ab"
    }
    codes, captions = opened_clips(clips)(0, 40)
    assert codes.shape == (40, 6, 2, 2) and codes.dtype == torch.long and set(captions) == {"clip a", ""}
    for piece, caption in zip(codes, captions, strict=True):
        assert tuple(piece.flatten().tolist()) in pieces["a" if caption else "b"]
    assert len({tuple(piece.flatten().tolist()) for piece in codes}) > 3  # beginning at many moments
    assert "left out 1 of 3 files: not clips of 6 frames or more of 2 x 2 codes" in caplog.text


def test_a_batch_of_clips_depends_on_its_number_alone(clips):
    straight, jumping = opened_clips(clips), opened_clips(clips)
    batches = [straight(number, 3) for number in range(4)]
    for number in (3, 1, 2, 0):
        codes, captions = jumping(number, 3)
        assert torch.equal(codes, batches[number][0]) and captions == batches[number][1]


def test_a_step_learns_the_frames_it_would_learn_of_the_clip(clips):
    """Of codes and of pixels the same frames are chosen, and given the same place in time."""
    pixels = torch.randint(256, (4, 3, 6, SIZE, SIZE), generator=generator_of(0), dtype=torch.uint8)
    made = tokenizer()
    codes = FramesTokenizer(made).encode(pixels.float() / 127.5 - 1)
    one, other = batches_of(made), batches_of(made)
    one.clips, other.clips = (lambda number, count, drawn=drawn: (drawn, [""] * count) for drawn in (pixels, codes))
    for number in range(4):
        a, b = (batches.encode(batches.clips_drawn(number, generator_of(number))) for batches in (one, other))
        assert torch.equal(a.codes, b.codes) and torch.equal(a.frames, b.frames)


def test_clips_of_another_rate_length_or_tokenizer_are_refused(clips, tmp_path):
    for wrong in ({"rate": RATE / 2}, {"num_frames": 31}):
        with pytest.raises(
            ValueError, match=r"must hold clips of \d+ frames or more of 2 x 2 codes .* none of 3 files"
        ):
            opened_clips(clips, **wrong)
    strided = clip_shards(tmp_path / "clips", tmp_path / "strided", FramesTokenizer(tokenizer(), stride=2))
    with pytest.raises(ValueError, match="and the one in use is another .*; give its tokenizer"):
        opened_clips(strided)
