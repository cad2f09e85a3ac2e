"""`tokenloom train-tokenizer`: a plan first, then a tokenizer in the folder, judged as it lies there."""

import json
import re

import av
import pytest
import torch
from PIL import Image

from tokenloom.data.write_audio import write_audio
from tokenloom.pipelines.clip_sources import open_clip_source
from tokenloom.pipelines.open_tokenizer import open_audio_tokenizer
from tokenloom.pipelines.picture_codec import ENTROPY_MODEL
from tokenloom.pipelines.picture_sources import VALIDATION_NUMBER, open_source, random_crop
from tokenloom.pipelines.train_audio_tokenizer import AudioTokenizerRecipe
from tokenloom.pipelines.train_image_tokenizer import diagnose
from tokenloom.pipelines.train_reconstruction import ReconstructionRecipe, to_range
from tokenloom.pipelines.train_text_tokenizer import BLOCK, TextTokenizerRecipe, texts_of, train_text_tokenizer
from tokenloom.pipelines.train_video_tokenizer import VALIDATION_CLIPS, VideoTokenizerRecipe
from tokenloom.pipelines.train_video_tokenizer import diagnose as diagnose_clips
from tokenloom.pipelines.training_cost import counted
from tokenloom.scripts import cli, train_tokenizer
from tokenloom.tokenizers import pretrained
from tokenloom.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from tokenloom.tokenizers.entropy_model import EntropyModel
from tokenloom.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from tokenloom.tokenizers.text import TextTokenizer
from tokenloom.tokenizers.units import UnitsTokenizerConfig
from tokenloom.tokenizers.video import VideoTokenizer, VideoTokenizerConfig

TOY = "--size 16 --stride 4 --levels 5,5,5 --widths 8 --encoder-blocks 1 --decoder-blocks 1 --batch-size 4".split()


def train(*words: object) -> int:
    return cli.main(["train-tokenizer", *map(str, words)])


@pytest.fixture
def photos(tmp_path):
    """Four captioned pictures of soft color ramps, one broken, one with a caption that is not text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    ramp = torch.linspace(0, 255, 24)
    for number in range(4):
        x, y = torch.meshgrid(ramp.roll(6 * number), ramp, indexing="ij")
        pixels = torch.stack([x, y, (x + y) / 2], dim=-1).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a ramp turned {number} times over and over")
    (folder / "broken.png").write_bytes(b"not a picture")
    (folder / "3.txt").write_bytes(b"\xff")
    return folder


def test_an_image_tokenizer_is_planned_trained_saved_and_judged_as_it_lies_there(photos, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    assert train("image", "--data", photos, "--out", out, *TOY, "--steps", 3, "--storage", "float16") == 0
    lines = capsys.readouterr().out.splitlines()
    for word in ("M parameters", "GFLOP each", "GB", "hours", "t* ="):
        assert word in " ".join(lines[:3])
    tokenizer = ImageTokenizer.from_pretrained(out)
    assert tokenizer.config.storage_dtype == "float16" and tokenizer.config.levels == (5, 5, 5)
    source = open_source([str(photos)], 16, 0, random_crop)
    scores, _, _ = diagnose(tokenizer, to_range(source(VALIDATION_NUMBER, 256)[0]))
    assert lines[-1] == f"{out}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
    assert (out / "reconstructions.png").is_file() and (out / "levels.png").is_file()
    told = [record.message for record in caplog.records if "broken.png" in record.message]
    assert told and all(message.startswith("skipped ") for message in told)


def test_with_a_price_of_bits_a_tokenizer_is_for_files_and_its_codes_are_too_many_for_ids(photos, tmp_path, capsys):
    out, words = tmp_path / "out", [*TOY]
    del words[words.index("--levels") : words.index("--levels") + 2]
    assert train("image", "--data", photos, "--out", out, *words, "--bits", 0.03, "--steps", 2) == 0
    assert "2^131 codes" in capsys.readouterr().out
    levels = ImageTokenizer.from_pretrained(out).config.levels
    assert EntropyModel.from_pretrained(out / ENTROPY_MODEL).config.levels == levels
    assert cli.main(["compress", str(photos / "0.png"), "--out", str(tmp_path / "small"), "--tokenizer", str(out)]) == 0
    assert (tmp_path / "small" / "0.tlp").is_file()


def test_a_run_goes_on_where_it_was_and_refuses_what_would_spoil_it(photos, tmp_path, capsys):
    words = ["image", "--data", photos, "--out", tmp_path / "out", *TOY]
    assert train(*words, "--steps", 2) == 0
    assert train(*words, "--steps", 2) == 1
    assert "add --resume" in capsys.readouterr().err
    assert train(*words, "--steps", 2, "--resume") == 0
    assert train(*words, "--steps", 2, "--resume", "--seed", 1) == 1
    assert "must keep its settings" in capsys.readouterr().err


def test_init_starts_from_the_weights_of_another(photos, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train("image", "--data", photos, "--out", first, *TOY, "--steps", 1) == 0
    words = ["image", "--data", photos, "--out", second, "--size", 16, "--batch-size", 4, "--steps", 1]
    rest = ["--init", first, "--learning-rate", "1e-9"]
    assert train(*words, *rest, "--storage", "float16") == 0
    found, started = ImageTokenizer.from_pretrained(second), ImageTokenizer.from_pretrained(first)
    assert found.config.storage_dtype == "float16"
    for name, tensor in started.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    deeper = ["--resume", "--encoder-blocks", "2"]
    assert train(*words[:4], tmp_path / "third", *words[5:], *rest, *deeper) == 0
    assert len(ImageTokenizer.from_pretrained(tmp_path / "third").encoder.scales[0]) == 2
    with pytest.raises(SystemExit):
        train(*words, *rest, "--levels", "8,8")
    assert "leave out what differs" in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "code"), [(250, 0), (1, 1)])
def test_one_picture_must_reach_35_dB(photos, steps, code, capsys):
    words = "--size 16 --stride 4 --widths 24 --encoder-blocks 1 --decoder-blocks 1".split()
    assert train("image", "--data", photos, *words, "--overfit-one", "--steps", steps) == code
    shown = capsys.readouterr()
    told = re.search(r"reached ([\d.]+) dB", shown.out) if code == 0 else re.search(r"got ([\d.]+)", shown.err)
    assert told and (float(told[1]) >= 35) == (code == 0)


@pytest.fixture
def films(tmp_path):
    """Two clips of soft colors that drift, 20 and 30 frames of 24 x 24."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number, length in enumerate((20, 30)):
        corners = torch.rand(1, 3, 4, 3, 3, generator=torch.Generator().manual_seed(number)) * 255
        frames = torch.nn.functional.interpolate(corners, size=(length, 24, 24), mode="trilinear")[0]
        with av.open(folder / f"{number}.mkv", "w") as out:
            stream = out.add_stream("ffv1", rate=12)
            stream.width, stream.height, stream.pix_fmt = 24, 24, "bgr0"
            for pixels in frames.permute(1, 2, 3, 0).round().to(torch.uint8).numpy():
                frame = av.VideoFrame.from_ndarray(pixels.copy(), format="rgb24").reformat(format="bgr0")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return folder


def test_a_video_tokenizer_is_planned_trained_saved_resumed_and_goes_on(films, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other"
    words = ["video", "--data", films, *TOY, "--frames", 9, "--group", 4, "--steps", 2, "--motion", 0.2]
    assert train(*words, "--out", out, "--storage", "float16") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("video tokenizer: 4 x 4 x 4") and "9 x 16 x 16" in lines[1]
    tokenizer = VideoTokenizer.from_pretrained(out)
    assert tokenizer.config.storage_dtype == "float16" and tokenizer.config.widths == (8,)
    source = open_clip_source([str(films)], 9, 16, 12, 0)
    scores, _, _ = diagnose_clips(tokenizer, to_range(source(VALIDATION_NUMBER, VALIDATION_CLIPS)[0]))
    assert lines[-1] == f"{out}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
    assert train(*words, "--out", out, "--storage", "float16") == 1
    assert train(*words, "--out", out, "--storage", "float16", "--resume") == 0
    rest = ["--size", 16, "--frames", 9, "--steps", 1, "--learning-rate", 0, "--init", out]
    assert train("video", "--data", films, "--out", other, *rest) == 0
    assert VideoTokenizer.from_pretrained(other).fingerprint == tokenizer.fingerprint


def test_what_video_starts_from_must_be_here_and_of_clips(films, tmp_path, monkeypatch, capsys):
    def online(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(pretrained, "hf_hub_download", online)
    words = ["video", "--data", films, "--out", tmp_path / "out", "--size", 16, "--frames", 9]
    for name, told in (("no/where", "no video tokenizer called 'no/where'"), ("tokenloom-photo", "tokenizer of clips")):
        assert train(*words, "--init", name) == 1
        assert told in capsys.readouterr().err


def test_one_clip_must_reach_33_dB(films, capsys):
    words = "--size 16 --stride 4 --widths 24 --encoder-blocks 1 --decoder-blocks 1 --frames 5 --overfit-one".split()
    assert train("video", "--data", films, *words, "--steps", 250) == 0
    assert float(re.search(r"reached ([\d.]+) dB", capsys.readouterr().out)[1]) >= 33
    assert train("video", "--data", films, *words, "--steps", 1) == 1
    assert "one clip must reach 33.0 dB" in capsys.readouterr().err


def test_a_text_tokenizer_reads_captions_and_files(photos, tmp_path, capsys):
    notes = tmp_path / "notes.txt"
    notes.write_text("Ramps, ramps and more ramps.\n" * 30)
    out = tmp_path / "out"
    words = ["text", "--data", photos, notes, "--out", out, "--vocab-size", 290, "--lowercase"]
    assert train(*words, "--special-tokens", "<|end|>") == 0
    tokenizer = TextTokenizer.from_pretrained(out)
    assert tokenizer.special_tokens == {"<|end|>": tokenizer.vocab_size - 1}
    assert tokenizer.decode(tokenizer.encode("RAMPS turned")) == "ramps turned"
    assert len(tokenizer.encode("ramps")) < 3 and "bytes per token" in capsys.readouterr().out


def test_long_texts_are_read_in_blocks_that_lose_nothing(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("line of text\n\n  indented\n" * (BLOCK // 8))
    blocks = list(texts_of([str(path)]))
    assert "".join(blocks) == path.read_text() and len(blocks) > 1
    assert max(map(len, blocks)) < BLOCK + 40


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["text", "--data", "scenes", "--out", "x", "--stride", "8"], "--stride is no option of text"),
        (["image", "--data", "scenes", "--out", "x", "--vocab-size", "300"], "--vocab-size is no option of image"),
        (["image", "--data", "scenes", "--out", "x", "--group", "4"], "--group is no option of image"),
        (["video", "--data", "scenes", "--out", "x", "--lowercase"], "--lowercase is no option of video"),
        (["video", "--data", "scenes", "--out", "x", "--frames", "16"], "must be 1 + n x 4"),
        (["video", "--data", "scenes", "--out", "x", "--frames", "13", "--group", "8"], "must be 1 + n x 8"),
        (["video", "--data", "scenes", "--out", "x", "--rate", "0"], "--rate: a number of 0.01 to 1000"),
        (["image", "--data", "scenes"], "--out DIR is needed"),
        (["image", "--data", "scenes", "--out", "x", "--size", "20"], "a multiple of the stride 8"),
        (["image", "--data", "scenes", "--out", "x", "--levels", "8,x"], "argument --levels"),
        (["image", "--data", "scenes", "--out", "x", "--levels", "1"], "needs at least 2 levels"),
        (["image", "--data", "scenes:0", "--out", "x"], "a share must be above 0, got 'scenes:0'"),
        (["image", "--data", "scenes", "--out", "x", "--freeze-encoder", "--freeze-decoder"], "nothing is left to"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(words, told, capsys):
    with pytest.raises(SystemExit) as stop:
        train(*words)
    assert stop.value.code == 2 and told in capsys.readouterr().err


def test_nothing_to_learn_from_is_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    assert train("image", "--data", tmp_path / "empty", "--out", tmp_path / "out") == 1
    assert train("text", "--data", tmp_path / "latin.txt", "--out", tmp_path / "out") == 1
    assert train("image", "--data", tmp_path, "--out", tmp_path / "out", *TOY, "--steps", 1) == 1
    shown = capsys.readouterr().err.splitlines()
    assert ["no pictures found" in shown[0], "must be UTF-8" in shown[1], "must have contrast" in shown[2]] == [
        True
    ] * 3
    with pytest.raises(ValueError, match="needs texts, got none"):
        train_text_tokenizer([], TextTokenizerRecipe(), tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_the_plan_counts_the_arithmetic_of_the_convolutions():
    tokenizer = ImageTokenizer(ImageTokenizerConfig())
    macs = 0
    for name, weight in tokenizer.named_parameters():
        if weight.ndim == 4:
            fine = "scales.0" in name or ("stem" in name and "encoder" in name) or name == "decoder.head.weight"
            macs += weight.numel() * (16**2 if fine else 8**2)
    flop = [counted(tokenizer, (torch.zeros(2, 3, side, side),)).flop for side in (64, 128)]
    assert flop == [3 * 2 * macs, 4 * 3 * 2 * macs]


def test_a_sound_tokenizer_is_trained_saved_judged_and_goes_on_from_another(tmp_path, capsys):
    folder, out = tmp_path / "sounds", tmp_path / "out"
    for number in range(3):
        noise = torch.randn(1, 24_000, generator=torch.Generator().manual_seed(number)) * 0.1
        write_audio(folder / f"{number}.wav", noise.clamp(-1, 1), 16_000)
    words = ["audio", "--data", folder, "--batch-size", 2, "--steps", 1]
    assert train(*words, "--out", out, "--width", 16, "--fine-width", 8, "--storage", "float16") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "8 codebooks of 1024 codes, 0.50 to 4.00 kb/s" in lines[0] and lines[-1].startswith(f"{out}: mel_of_2 ")
    tokenizer = open_audio_tokenizer(out)
    assert isinstance(tokenizer, AudioTokenizer) and tokenizer.config.width == 16
    assert train(*words, "--out", tmp_path / "second", "--init", out, "--learning-rate", "1e-9") == 0
    ours, others = (AudioTokenizer.from_pretrained(path).state_dict() for path in (out, tmp_path / "second"))
    assert all(torch.allclose(ours[name], others[name], atol=1e-3) for name in ours)
    assert train(*words, "--out", tmp_path / "third", "--init", "mulaw") == 1
    assert "must be a learned tokenizer of sounds" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        train(*words, "--out", tmp_path / "fourth", "--stride", 8)
    assert stop.value.code == 2 and "--stride is no option of audio" in capsys.readouterr().err


def test_help_tells_the_defaults_of_the_recipes():
    shown = " ".join(train_tokenizer.build_parser().format_help().split())
    recipe, config, text = ReconstructionRecipe(), ImageTokenizerConfig(), TextTokenizerRecipe()
    video, clips = VideoTokenizerConfig(), VideoTokenizerRecipe()
    sound, sounds, units = AudioTokenizerConfig(), AudioTokenizerRecipe(), UnitsTokenizerConfig()
    for option, value in {
        "--steps N": recipe.steps,
        "--batch-size N": recipe.batch_size,
        "--learning-rate RATE": recipe.learning_rate,
        "--seed S": recipe.seed,
        "--stride {4,8,16}": config.stride,
        "--group N": video.group,
        "--window N": video.window,
        "--turns N": video.turns,
        "--motion WEIGHT": clips.motion,
        "--width N": sound.width,
        "--fine-width N": sound.fine_width,
        "--phases WEIGHT": sounds.phases,
        "--num-units N": units.num_units,
        "--unit-rate {25,50}": units.unit_rate,
        "--vocab-size N": text.vocab_size,
        "--min-frequency N": text.min_frequency,
    }.items():
        assert re.search(rf"{re.escape(option)} [^-]*default: {value}\b", shown), option
    for option in ("levels", "widths", "encoder_blocks", "decoder_blocks"):
        values = json.dumps(getattr(config, option))[1:-1].replace(" ", "")
        assert re.search(rf"--{option.replace('_', '-')} N,N,\.\.\. [^-]*; {values}", shown), option


def test_a_run_goes_on_with_pictures_of_its_size_alone(photos, tmp_path, capsys):
    words = ["image", "--data", photos, "--out", tmp_path / "out", *TOY, "--steps", 2]
    assert train(*words) == 0
    assert train(*words, "--size", 24, "--resume") == 1
    assert "recipe.data was" in capsys.readouterr().err


def test_a_folder_of_texts_alone_gives_its_texts(tmp_path):
    (tmp_path / "b.md").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    assert list(texts_of([str(tmp_path)])) == ["first", "second"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")  # beside pictures they are captions
    assert list(texts_of([str(tmp_path)])) == ["first"]
