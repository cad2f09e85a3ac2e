"""Laws of AnyToAnyPipeline and its command: a pair is what its own pipeline makes, and what was not trained is refused.

The toys have one transformer for everything, and everything is small: pictures of 8 x 8, clips of 5 frames.
"""

from collections.abc import Iterable
from itertools import combinations_with_replacement, takewhile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.doubles import CAPTIONS, SIZE, toy_audio_tokenizer, toy_picture, toy_pictures, toy_pipeline
from tests.test_speech import toy_sound
from tokenloom.data.audio import read_audio
from tokenloom.data.media import fit, from_uint8, read_image, to_pil, to_tensor, write_png
from tokenloom.data.video import read_video
from tokenloom.data.write_audio import write_audio
from tokenloom.data.write_video import write_video
from tokenloom.pipelines.any_to_any import AnyToAnyPipeline, Pair
from tokenloom.pipelines.media_to_text import MediaToTextPipeline
from tokenloom.pipelines.open_models import shipped
from tokenloom.pipelines.prompt_items import KINDS, Sound, kind_of
from tokenloom.pipelines.speech_model import SpeechModel
from tokenloom.pipelines.text_to_image import TextToImagePipeline, seeded
from tokenloom.pipelines.text_to_speech import SpeechToSpeechPipeline, SpeechToTextPipeline, TextToSpeechPipeline
from tokenloom.pipelines.text_to_video import FPS, TextToVideoPipeline
from tokenloom.scripts import cli

FRAMES, STEPS = 5, 12
TEXT = "red over blue"
PICTURE, LAST = toy_pictures()[:2]
CLIP = toy_pictures()[:7].transpose(0, 1)  # (3, T, H, W), more frames than the model's
SOUND = Sound(toy_sound(0.1), 16_000)
QUICK = {"decoder": "masked", "num_inference_steps": 2}
HOT = {"temperature": 1.5}
PAIRS = [
    Pair(("text",), "image"),
    Pair(("text",), "video"),
    Pair(("text", "image"), "video"),
    Pair(("text", "image", "image"), "video"),
    Pair(("text", "video"), "video"),
    Pair(("image",), "text"),
    Pair(("video",), "text"),
    Pair(("text",), "audio"),
    Pair(("audio",), "text"),
    Pair(("audio",), "audio"),
]
each_pair = pytest.mark.parametrize(("given", "to"), PAIRS, ids=str)


def drawing(**changes) -> TextToImagePipeline:
    """One transformer for everything."""
    levels = toy_audio_tokenizer().config.levels[:2]
    pipeline = toy_pipeline(**({"num_frames": FRAMES, "sound_levels": levels, "sound_steps": STEPS} | changes))
    pipeline.writes = True
    return pipeline


def speaking(pictures: TextToImagePipeline, *tasks: str) -> SpeechModel:
    parts = pictures.transformer, toy_audio_tokenizer(), pictures.text_tokenizer
    return SpeechModel(*parts, voices=["ann"], tasks=tasks or ("answer", "speak", "write"))


@pytest.fixture(scope="module")
def pictures() -> TextToImagePipeline:
    return drawing()


@pytest.fixture(scope="module")
def speech(pictures) -> SpeechModel:
    return speaking(pictures)


@pytest.fixture(scope="module")
def anything(pictures, speech) -> AnyToAnyPipeline:
    return AnyToAnyPipeline(pictures, speech)


@pytest.fixture(scope="module")
def folder(pictures, speech, tmp_path_factory) -> Path:
    """Pictures and speech over one transformer."""
    folder = tmp_path_factory.mktemp("model")
    pictures.save_pretrained(folder)
    speech.save_pretrained(folder)
    return folder


def items_of(given: Iterable[str]) -> list[str | Tensor | Sound]:
    pictures = iter((PICTURE, LAST, PICTURE))
    others = {"text": TEXT, "video": CLIP, "audio": SOUND}
    return [next(pictures) if kind == "image" else others[kind] for kind in given]


def same(one: object, other: object) -> bool:
    if isinstance(one, Sound) and isinstance(other, Sound):
        return one.sample_rate == other.sample_rate and torch.equal(one.samples, other.samples)
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other


# ------------------------------------------------------------------------------------------------------------- pairs


def single(pictures: TextToImagePipeline, speech: SpeechModel, given: tuple[str, ...], to: str) -> str | Tensor | Sound:
    """What the pipeline of a pair makes, called by itself."""
    seed = {"generator": seeded(3, 1)}
    frames = {
        ("text",): {},
        ("text", "image"): {"image": PICTURE[None]},
        ("text", "image", "image"): {"image": PICTURE[None], "last_image": LAST[None]},
        ("text", "video"): {"video": CLIP[None]},
    }
    if to == "video":
        return TextToVideoPipeline(pictures)(TEXT, output_type="pt", **frames[given], **seed, **QUICK).frames[0]
    if to == "image":
        return pictures(TEXT, output_type="pt", **seed, **QUICK).images[0]
    if to == "audio":
        say, answer = TextToSpeechPipeline(speech), SpeechToSpeechPipeline(speech)
        made = say(TEXT, **seed, **QUICK) if given == ("text",) else answer([SOUND.samples], **seed, **QUICK)
        return Sound(made.sounds[0], made.sample_rate)
    if given == ("audio",):
        return SpeechToTextPipeline(speech)([SOUND.samples], **seed, **HOT)[0]
    seen = PICTURE if given == ("image",) else CLIP[:, :FRAMES]
    return MediaToTextPipeline(pictures)(seen[None], **seed, **HOT)[0]


@each_pair
def test_a_pair_is_what_its_own_pipeline_makes_from_the_same_seed(anything, pictures, speech, given, to):
    expected, settings = single(pictures, speech, given, to), HOT if to == "text" else QUICK
    prompt = items_of(given)
    assert same(anything(prompt, to, generator=seeded(3, 1), **settings), expected)
    otherwise = prompt[0] if len(prompt) == 1 else [*prompt[1:], TEXT]
    assert same(anything(otherwise, to, generator=seeded(3, 1), **settings), expected)


@each_pair
def test_what_comes_out_may_be_given_again(anything, given, to):
    made = anything(items_of(given), to, generator=seeded(0, 1), **({} if to == "text" else QUICK))
    assert kind_of(made) == to
    known = [pair for pair in anything.knows() if pair.given == (to,) and pair.to == "text"]
    for _, then in known:
        assert isinstance(anything(made, then), str)


def test_of_two_pictures_the_first_begins_the_clip(anything):
    clip = anything([LAST, TEXT, PICTURE], "video", generator=seeded(0, 1), **QUICK)
    assert torch.equal(clip[:, 0], LAST) and torch.equal(clip[:, -1], PICTURE)


# ------------------------------------------------------------------------------------------------------ what is known


def all_but(known: Iterable[Pair]) -> list[Pair]:
    """Every pair of up to three things given that is not known."""
    given = [kinds for count in range(4) for kinds in combinations_with_replacement(KINDS, count)]
    return [pair for kinds in given for to in KINDS if (pair := Pair(kinds, to)) not in known]


PAIRS_OF_PICTURES = [Pair(("text",), "image")]
PAIRS_OF_CLIPS = [pair for pair in PAIRS if pair.to == "video"]
WHAT_IS_KNOWN = [
    (lambda: AnyToAnyPipeline(), []),
    (lambda: AnyToAnyPipeline(toy_pipeline()), PAIRS_OF_PICTURES),
    (lambda: AnyToAnyPipeline(toy_pipeline(num_frames=2)), PAIRS_OF_PICTURES + PAIRS_OF_CLIPS),
    (lambda: AnyToAnyPipeline(drawing(num_frames=1)), [*PAIRS_OF_PICTURES, Pair(("image",), "text")]),
    (lambda: AnyToAnyPipeline(speaking(drawing(), "write")), [Pair(("audio",), "text")]),
    (lambda: AnyToAnyPipeline(speaking(drawing(), "answer", "sing")), [Pair(("audio",), "audio")]),
    (
        lambda: AnyToAnyPipeline(toy_pipeline(), speaking(drawing(), "speak")),
        [Pair(("text",), to) for to in ("image", "audio")],
    ),
    (lambda: AnyToAnyPipeline(drawing(), speaking(drawing())), PAIRS),
]


@pytest.mark.parametrize(("load", "known"), WHAT_IS_KNOWN)
def test_what_was_not_trained_is_refused_in_one_line_that_names_what_was(load, known):
    pipeline = load()
    assert sorted(pipeline.knows()) == sorted(known)
    for pair in all_but(known):
        with pytest.raises(ValueError) as refused:
            pipeline(items_of(pair.given), pair.to)
        message = str(refused.value)
        assert f"got {pair}; " in message and "\n" not in message
        assert message.startswith(f"these weights know {', '.join(map(str, pipeline.knows())) or 'nothing'}, got")


def pairs_of_the_readme() -> dict[str, set[Pair]]:
    """Model -> the pairs whose cell of the README's table names it."""
    lines = (Path(cli.__file__).parents[1] / "README.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| given |"))
    table = [line.strip("|").split("|") for line in takewhile(bool, lines[start:])]
    (_, *kinds), _, *rows = [[cell.strip() for cell in row] for row in table]
    told: dict[str, set[Pair]] = {}
    for given, *cells in rows:
        for to, cell in zip(kinds, cells, strict=True):
            if cell:
                told.setdefault(cell.split("`")[1], set()).add(Pair(tuple(given.split(" + ")), to))
    return told


def test_the_table_of_the_readme_names_the_models_that_ship_and_no_other():
    assert set(shipped()) == set(pairs_of_the_readme())


@pytest.mark.parametrize("model", pairs_of_the_readme())
def test_the_shipped_weights_know_what_the_table_of_the_readme_says(model):
    assert set(AnyToAnyPipeline.from_pretrained(model).knows()) == pairs_of_the_readme()[model]


def test_the_first_model_that_knows_a_pair_does_it():
    draws, writes = toy_pipeline(seed=1), drawing(num_frames=1)
    both = AnyToAnyPipeline(draws, writes)
    made = both(TEXT, "image", generator=seeded(0, 1), **QUICK)
    assert torch.equal(made, draws(TEXT, output_type="pt", generator=seeded(0, 1), **QUICK).images[0])
    assert both([PICTURE], "text") == MediaToTextPipeline(writes)(PICTURE[None])[0]


@pytest.mark.parametrize(
    ("prompt", "to", "settings", "told"),
    [
        ([TEXT, 7], "image", {}, r"may hold texts, pictures \(3, H, W\), .* got int"),
        ([torch.zeros(1, 8, 8)], "text", {}, r"got a tensor \(1, 8, 8\)"),
        ([torch.zeros(1, 3, 8, 8)], "text", {}, r"got a tensor \(1, 3, 8, 8\)"),
        ([PICTURE * 9], "text", {}, "must lie in"),
        ([CLIP * 9, TEXT], "video", {}, "must lie in"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], "text", {}, "floats"),
        ([Sound(torch.zeros(2, 99), 16_000)], "text", {}, r"sounds must be \(B, 1, S\)"),
        ([Sound(torch.zeros(1, 16_000), 16_000)], "text", {}, "may have 12 steps"),
        ([Sound(torch.zeros(1, 99), 1)], "text", {}, "sample rates must be from"),
        ([""], "image", {}, "a prompt must say something"),
        ([TEXT], "image", {"decoder": "gan"}, "decoder must be one of"),
        ([PICTURE], "text", {"decoder": "masked"}, "text is written by \"ar\", got decoder 'masked'"),
        ([Path("a.xyz")], "text", {}, "a.xyz: its suffix does not tell what it holds"),
        ([Path("missing.png")], "text", {}, "missing.png: No such file"),
        ([TEXT], "picture", {}, "got text -> picture"),
        (None, "text", {}, "got NoneType"),
        ([PICTURE], "text", {"num_inference_steps": 3}, "text is written, not drawn, and knows no num_inference_steps"),
    ],
)
def test_nonsense_is_refused(anything, prompt, to, settings, told):
    with pytest.raises(ValueError, match=told):
        anything(prompt, to, **settings)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """The picture and the sound are not of the model's size and rate."""
    found = {kind: tmp_path / name for kind, name in zip(KINDS, ("a.txt", "a.png", "a.gif", "a.wav"), strict=True)}
    found["text"].write_text(f"\ufeff{TEXT}\n")
    write_png(found["image"], torch.rand(3, 3 * SIZE, 4 * SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    frames = torch.stack([toy_picture(caption) for caption in CAPTIONS[:7]], dim=1)  # uint8 (3, T, SIZE, SIZE)
    write_video(found["video"], frames, FPS)
    write_audio(found["audio"], toy_sound(0.2)[:, :1600], 8_000)
    return found


def contents(files: dict[str, Path]) -> dict[str, str | Tensor | Sound]:
    clip = torch.cat(list(read_video(files["video"])), dim=1)
    picture = to_tensor(read_image(files["image"]))
    sound = Sound(read_audio(files["audio"], sample_rate=None), 8_000)
    return {"text": TEXT, "image": picture, "video": from_uint8(clip), "audio": sound}


@each_pair
def test_a_file_is_what_it_holds_fitted_to_the_model(anything, files, given, to):
    held, settings = contents(files), HOT if to == "text" else QUICK
    by_path = anything([files[kind] for kind in given], to, generator=seeded(1, 1), **settings)
    assert same(by_path, anything([held[kind] for kind in given], to, generator=seeded(1, 1), **settings))


def test_a_clip_of_another_size_is_fitted_frame_by_frame(anything):
    large = torch.rand(3, 7, 3 * SIZE, 4 * SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fitted = torch.stack([to_tensor(fit(to_pil(frame), SIZE)) for frame in large.unbind(1)], dim=1)
    by_either = [anything([TEXT, clip], "video", generator=seeded(1, 1), **QUICK) for clip in (large, fitted)]
    assert same(*by_either) and torch.equal(by_either[0][:, :7], fitted)


def test_a_folder_may_hold_pictures_and_speech_over_one_transformer(folder, anything):
    loaded = AnyToAnyPipeline.from_pretrained(folder)
    assert loaded.knows() == anything.knows()
    assert loaded.models[0].transformer is loaded.models[1].transformer
    for given, to in [(("text",), "image"), (("audio",), "text")]:
        prompt, settings = items_of(given), HOT if to == "text" else QUICK
        one, other = (p(prompt, to, generator=seeded(2, 1), **settings) for p in (loaded, anything))
        assert same(one, other)
    with pytest.raises(ValueError, match=r"a folder with pipeline.json or speech.json, or one of .*tokenloom-mini"):
        AnyToAnyPipeline.from_pretrained(folder, "gpt2")


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def run(folder):
    def command(*words: object) -> int:
        return cli.main(["any-to-any", *map(str, words), "--model", str(folder)])

    return command


def test_the_command_writes_the_bytes_that_the_commands_of_the_pairs_write(run, folder, files, tmp_path):
    how = ["--seed", "3", "--decoder", "masked", "--steps", "2"]
    pairs = [
        (["text-to-image", TEXT], [TEXT, "--to", "image"], ".png"),
        (["text-to-speech", TEXT], [files["text"], "--to", "audio"], ".wav"),
        (["image-to-video", files["image"], TEXT], [files["image"], TEXT, "--to", "video"], ".gif"),
        (["extend", files["video"], TEXT], [TEXT, files["video"], "--to", "video"], ".mp4"),
    ]
    for number, (single, any_to_any, suffix) in enumerate(pairs):
        one, other = tmp_path / f"{number}{suffix}", tmp_path / "any" / f"{number}{suffix}"
        assert cli.main([*map(str, single), "--model", str(folder), *how, "--out", str(one)]) == 0
        assert run(*any_to_any, *how, "--out", other) == 0
        assert one.read_bytes() == other.read_bytes()


def test_text_is_printed_and_written_where_it_is_asked_for(run, anything, files, tmp_path, capsys):
    assert run(files["audio"], "--to", "text", "--out", tmp_path / "said.txt") == 0
    said = anything(files["audio"], "text")
    assert capsys.readouterr().out == f"{said}\n" == (tmp_path / "said.txt").read_text()
    assert run("red zebra", "--to", "image", "--steps", 1, "--decoder", "masked", "--out", tmp_path / "a.png") == 0
    assert "never held 'zebra'" in capsys.readouterr().err


def test_the_list_shows_what_is_known_and_a_typing_error_is_no_text(run, anything, tmp_path, capsys):
    assert run("--list") == 0
    assert capsys.readouterr().out.splitlines() == list(map(str, anything.knows()))
    assert run("cilp.mp4", TEXT, "--to", "video", "--out", tmp_path / "a.mp4") == 1
    assert "cilp.mp4: No such file" in capsys.readouterr().err
    assert run(tmp_path, "--to", "text") == 1
    assert f"{tmp_path}: Is a directory" in capsys.readouterr().err
    assert run(TEXT, "--to", "text") == 1
    assert "got text -> text; ask for one of these" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["red"], "an ITEM and --to are needed"),
        (["--to", "image", "--out", "a.png"], "an ITEM and --to are needed"),
        (["red", "--to", "image"], "--out is needed with --to image"),
        (["red", "--to", "image", "--out", "a.mp4"], "must be a file that ends in .png"),
        (["red", "--to", "image", "--out", "a.png", "--steps", "3"], "leave it out with image by ar"),
        (["a.wav", "--to", "text", "--guidance-scale", "2"], "leave it out with text by ar"),
        (["a.wav", "--to", "text", "--decoder", "diffusion"], "text is written by ar, got --decoder diffusion"),
    ],
)
def test_wrong_usage_is_told_before_models_are_loaded(words, told, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["any-to-any", *words, "--model", "no such model"])
    assert stop.value.code == 2 and told in capsys.readouterr().err


def test_what_is_given_is_not_written_over(tmp_path, capsys):
    write_png(tmp_path / "a.png", PICTURE)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["any-to-any", str(tmp_path / "a.png"), "red", "--to", "image", "--out", str(tmp_path / "a.png")])
    assert "would be lost" in capsys.readouterr().err and (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_floats_of_any_size_are_taken(anything, dtype):
    assert anything(PICTURE.to(dtype), "text") == anything(PICTURE.to(dtype).float(), "text")
    assert anything(CLIP.to(dtype), "text") == anything(CLIP.to(dtype).float(), "text")
