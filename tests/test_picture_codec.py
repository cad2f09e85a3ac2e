"""Laws of pipelines/picture_codec.py and compress_files.py: the codes come back as they were, and damage is told."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.doubles import toy_entropy_model, toy_image_tokenizer, toy_photo
from tokenloom.data.media import MAX_PIXELS, read_image, to_pil, to_tensor
from tokenloom.pipelines.compress_files import compress_files
from tokenloom.pipelines.picture_codec import HEADER, PictureCodec, has_entropy_model, open_picture_codec
from tokenloom.pipelines.rate_distortion import by_files, compare_with_formats
from tokenloom.scripts import cli

LEVELS = (9, 5, 3, 2)


def toy_codec(seed: int = 0) -> PictureCodec:
    return PictureCodec(toy_image_tokenizer(seed, levels=LEVELS), toy_entropy_model(seed, levels=LEVELS))


@pytest.fixture
def folder(tmp_path):
    """A codec as it lies on disk."""
    codec = toy_codec()
    codec.tokenizer.save_pretrained(tmp_path / "codec")
    codec.entropy_model.save_pretrained(tmp_path / "codec" / "entropy_model")
    return tmp_path / "codec"


def tokenloom(*words) -> int:
    return cli.main([*map(str, words)])


@pytest.mark.parametrize("size", [(48, 32), (17, 13), (1, 1), (3, 40)], ids=str)
def test_what_comes_back_is_what_the_tokenizer_makes_of_its_own_codes(size):
    codec, image = toy_codec(), toy_photo(*size)
    pixels = to_tensor(image).unsqueeze(0)
    expected = to_pil(codec.tokenizer.decode(codec.tokenizer.encode(pixels), (size[1], size[0]))[0])
    data = codec.compress(image)
    assert data == codec.compress(image)
    assert np.array_equal(np.asarray(codec.decompress(data)), np.asarray(expected))


def test_a_file_of_other_models_is_refused():
    data = toy_codec().compress(toy_photo())
    for other in (
        PictureCodec(toy_image_tokenizer(1, levels=LEVELS), toy_entropy_model(0, levels=LEVELS)),
        PictureCodec(toy_image_tokenizer(0, levels=LEVELS), toy_entropy_model(1, levels=LEVELS)),
    ):
        with pytest.raises(ValueError, match="compressed by other models"):
            other.decompress(data)


def test_a_tokenizer_and_an_entropy_model_of_other_levels_are_refused():
    with pytest.raises(ValueError, match="must have the levels of its tokenizer"):
        PictureCodec(toy_image_tokenizer(), toy_entropy_model(0, levels=LEVELS))


def test_damaged_files_are_refused_in_one_line():
    codec = toy_codec()
    data = codec.compress(toy_photo())
    for end in range(len(data)):
        with pytest.raises(ValueError) as caught:
            codec.decompress(data[:end])
        assert "\n" not in str(caught.value)
    for width, height in ((0, 32), (48, 0), (MAX_PIXELS, 2), (48, 33 + 4)):
        with pytest.raises(ValueError, match="damaged|cut off"):
            codec.decompress(HEADER.pack(b"TLP1", codec.fingerprint, width, height) + data[HEADER.size :])
    with pytest.raises(ValueError, match="must begin with TLP1"):
        codec.decompress(b"\x89PNG" + data[4:])


def test_a_picture_that_is_too_large_is_refused_before_it_is_read():
    image = Image.new("L", (1, 1)).resize((20_000, 5_001))  # one byte for a pixel
    with pytest.raises(ValueError, match="shrink it"):
        toy_codec().compress(image)


def test_the_header_is_as_documented():
    data = toy_codec().compress(toy_photo(48, 32))
    assert data[:4] == b"TLP1" and struct.unpack("<II", data[12:20]) == (48, 32)


def test_rate_distortion_counts_the_whole_file():
    codec = toy_codec()
    found, _ = compare_with_formats(by_files(codec), toy_photo())
    assert found.ours.bits_per_pixel == 8 * len(codec.compress(toy_photo())) / (48 * 32)


def test_commands_compress_and_decompress_what_can_be_and_tell_of_the_rest(folder, tmp_path, capsys):
    pictures, small, back = (tmp_path / name for name in ("pictures", "small", "back"))
    (pictures / "deep").mkdir(parents=True)
    toy_photo(seed=1).save(pictures / "one.png")
    toy_photo(seed=2).save(pictures / "deep" / "two.bmp")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    assert tokenloom("compress", pictures, "--out", small, "--tokenizer", folder) == 1
    shown = capsys.readouterr()
    assert "2 pictures compressed, 1 failed" in shown.out and "skipped broken.png: " in shown.err
    sizes = [sum(path.stat().st_size for path in folder.rglob("*.*")) for folder in (small, pictures)]
    sizes[1] -= (pictures / "broken.png").stat().st_size
    assert f"; {sizes[0]:,} bytes of files that had {sizes[1]:,}" in shown.out
    assert sorted(path.relative_to(small).as_posix() for path in small.rglob("*.*")) == ["deep/two.tlp", "one.tlp"]

    (small / "bad.tlp").write_bytes((small / "one.tlp").read_bytes()[:-4])
    assert tokenloom("decompress", small, "--out", back, "--tokenizer", folder) == 1
    shown = capsys.readouterr()
    assert "2 pictures decompressed, 1 failed" in shown.out and "skipped bad.tlp: " in shown.err
    codec = open_picture_codec(folder)
    for name, seed in (("one", 1), ("deep/two", 2)):
        expected = codec.decompress(codec.compress(toy_photo(seed=seed)))
        assert np.array_equal(np.asarray(read_image(back / f"{name}.png")), np.asarray(expected))

    assert tokenloom("decompress", small / "one.tlp", "--out", tmp_path / "none") == 1  # of none that ships
    assert "compressed by models that are not here" in capsys.readouterr().err


def test_a_picture_that_memory_does_not_hold_costs_the_others_nothing(tmp_path, capsys, monkeypatch):
    for number in range(2):
        toy_photo(seed=number).save(tmp_path / f"{number}.png")
    codec = toy_codec()
    compress = codec.compress

    def starved(image):
        if np.array_equal(np.asarray(image), np.asarray(toy_photo(seed=0))):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
        return compress(image)

    monkeypatch.setattr(codec, "compress", starved)
    files = {path.name: path for path in sorted(tmp_path.glob("*.png"))}
    done = compress_files(files, tmp_path / "out", codec, show_progress=False)
    assert done.files == 1 and "not enough memory" in done.failed["0.png"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1.tlp"]


def test_a_tokenizer_without_entropy_model_compresses_nothing(tmp_path, capsys):
    toy_image_tokenizer().save_pretrained(tmp_path / "codes")
    toy_photo().save(tmp_path / "one.png")
    assert not has_entropy_model(tmp_path / "codes")
    words = ["compress", tmp_path / "one.png", "--out", tmp_path / "out", "--tokenizer", tmp_path / "codes"]
    assert tokenloom(*words) == 1
    assert "has no entropy_model" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_picture_that_is_there_is_kept_unless_it_may_be_replaced(folder, tmp_path, capsys):
    toy_photo().save(tmp_path / "a.png")
    original = (tmp_path / "a.png").read_bytes()
    assert tokenloom("compress", tmp_path / "a.png", "--out", tmp_path, "--tokenizer", folder) == 0
    assert tokenloom("decompress", tmp_path / "a.tlp", "--out", tmp_path, "--tokenizer", folder) == 1
    assert "a.png is there already" in capsys.readouterr().err and (tmp_path / "a.png").read_bytes() == original
    assert tokenloom("decompress", tmp_path / "a.tlp", "--out", tmp_path, "--tokenizer", folder, "--overwrite") == 0
    assert (tmp_path / "a.png").read_bytes() != original


def test_the_small_file_of_another_picture_is_kept_too(folder, tmp_path, capsys):
    """Beside each other a.png and a.bmp keep their endings, but apart both would be a.tlp."""
    toy_photo(seed=1).save(tmp_path / "a.png")
    toy_photo(seed=2).save(tmp_path / "a.bmp")
    compress = ["compress", "--out", tmp_path / "small", "--tokenizer", folder]
    assert tokenloom(*compress, tmp_path / "a.png") == 0
    first = (tmp_path / "small" / "a.tlp").read_bytes()
    assert tokenloom(*compress, tmp_path / "a.bmp") == 1
    assert "a.tlp is there already" in capsys.readouterr().err
    assert (tmp_path / "small" / "a.tlp").read_bytes() == first
    assert tokenloom(*compress, tmp_path / "a.bmp", "--overwrite") == 0
    assert (tmp_path / "small" / "a.tlp").read_bytes() != first
