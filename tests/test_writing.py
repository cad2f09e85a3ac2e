"""Laws of writing captions: text follows what is seen, token by token; a tiny model learns to tell pictures apart."""

import json

import pytest
import torch

from tests.doubles import (
    CAPTIONS,
    GRID,
    SIZE,
    toy_image_tokenizer,
    toy_pictures,
    toy_pipeline,
    toy_text_tokenizer,
    toy_transformer,
)
from tokenloom.data.media import write_png
from tokenloom.models.objectives import Batch, DecoderLosses
from tokenloom.models.optimizers import muon_and_adamw
from tokenloom.models.writing import write
from tokenloom.pipelines.caption_score import Written, true_shares, write_captions
from tokenloom.pipelines.clip_order import seen_frames
from tokenloom.pipelines.describe_files import picture_of
from tokenloom.pipelines.media_to_text import MediaToTextPipeline
from tokenloom.pipelines.text_to_image import TextToImagePipeline
from tokenloom.pipelines.worlds import CLIPS, SCENES
from tokenloom.scripts import cli
from tokenloom.tokenizers.sequence import prompt_batch

TEXTS = [[5, 6, 7], [8], [9, 10], [11, 5, 6, 7, 8]]


def frames_of(model, seed: int = 0, count: int = 1, rows: int = len(TEXTS)) -> torch.Tensor:
    """Shared ids (B, m, 1 + N) of random frames, BEGIN first."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.config.num_codes, (rows, count, model.config.num_positions), generator=generator)
    begin = codes.new_full((*codes.shape[:2], 1), model.vocabulary.special("begin_image"))
    return torch.cat([begin, model.vocabulary.to_shared(codes, "image")], dim=2)


@torch.no_grad()
def logits_of(model, frames: torch.Tensor, texts=TEXTS) -> torch.Tensor:
    seen, start = model.see(frames, torch.arange(frames.shape[1]).repeat(len(frames), 1))
    hidden, _ = model.write(prompt_batch(texts, model.vocabulary)[0], start, seen)
    return hidden @ model.text_head().T


@pytest.mark.parametrize("changes", [{}, {"num_frames": 4}, {"num_frames": 4, "factorized": True}], ids=str)
def test_token_by_token_gives_the_logits_of_the_whole_text(changes):
    model = toy_transformer(**changes)
    frames = frames_of(model, count=min(3, model.config.num_frames))
    whole = logits_of(model, frames)
    ids, _ = prompt_batch(TEXTS, model.vocabulary)
    with torch.no_grad():
        seen, start = model.see(frames, torch.arange(frames.shape[1]).repeat(len(frames), 1))
        for number, token in enumerate(ids.unbind(1)):
            hidden, seen = model.write(token[:, None], start + number, seen)
            torch.testing.assert_close(hidden[:, 0] @ model.text_head().T, whole[:, number], rtol=1e-4, atol=1e-4)


def test_a_later_token_changes_no_earlier_logit_and_every_code_that_is_seen_counts():
    model = toy_transformer(num_frames=4)
    frames = frames_of(model, count=3)
    before = logits_of(model, frames)
    changed = [[*text[:-1], 12] for text in TEXTS]
    for row, text in enumerate(TEXTS):
        assert torch.equal(before[row, : len(text)], logits_of(model, frames, changed)[row, : len(text)])
    for frame in range(3):
        for slot in range(1, 1 + model.config.num_positions):
            other = frames.clone()
            first = model.vocabulary.range("image").start
            other[:, frame, slot] = first + (other[:, frame, slot] - first + 1) % model.config.num_codes
            assert (logits_of(model, other)[:, 0] != before[:, 0]).any(-1).all()


def test_text_begins_one_past_the_largest_position_of_what_is_seen():
    model = toy_transformer(num_frames=9)
    frames = frames_of(model, count=2)
    _, start = model.see(frames, torch.tensor([[0, 1]] * 2 + [[0, 8]] * 2))
    height, width = GRID  # BEGIN of the empty prompt is at 0, that of the pictures at 1, and codes from 2 on
    assert start.tolist() == [1 + max(2, height, width) + 1] * 2 + [1 + 9 + 1] * 2


def learned(decoders=("ar",), steps: int = 220):
    """A tiny model that knows the twelve pictures by heart, and their tokenizers."""
    images, texts, model = toy_image_tokenizer(alive=False), toy_text_tokenizer(), toy_transformer(alive=False).train()
    images.start_linear(toy_pictures())
    prompts, real = prompt_batch([texts.encode(caption) for caption in CAPTIONS], model.vocabulary)
    codes = images.encode(toy_pictures()).flatten(1).unsqueeze(1)
    batch = Batch(prompts, real, codes, torch.zeros(len(codes), 1, dtype=torch.long), describe=True)
    losses = DecoderLosses(model, decoders)
    optimizers = muon_and_adamw(model.blocks, losses, muon_lr=0.05, adamw_lr=0.02)
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = (0.05 if "momentum" in group else 0.02) * (1 - step / steps)
        loss = losses(batch, torch.Generator())["text"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return TextToImagePipeline(model, images, texts, writes=True), float(loss.detach())


@pytest.fixture(scope="module")
def writer() -> TextToImagePipeline:
    pipeline, loss = learned()
    assert loss < 0.05
    return pipeline


def test_the_loss_of_a_text_is_that_of_its_tokens_and_of_end():
    model = toy_transformer()
    frames = frames_of(model)
    prompts, real = prompt_batch(TEXTS, model.vocabulary)
    codes = frames[:, :, 1:] - model.vocabulary.range("image").start
    batch = Batch(prompts, real, codes, torch.zeros(len(codes), 1, dtype=torch.long), describe=True)
    with torch.no_grad():
        loss = DecoderLosses(model, ("ar",))(batch, torch.Generator())["text"]
    log_p = logits_of(model, frames).log_softmax(-1)
    end = model.vocabulary.special("end")
    by_hand = [log_p[row, place, token] for row, text in enumerate(TEXTS) for place, token in enumerate([*text, end])]
    torch.testing.assert_close(loss, -torch.stack(by_hand).mean(), rtol=1e-4, atol=1e-5)


def test_a_tiny_model_learns_to_tell_the_pictures_apart_and_keeps_it_on_disk(writer, tmp_path):
    assert MediaToTextPipeline(writer)(toy_pictures()) == list(CAPTIONS)
    writer.save_pretrained(tmp_path)
    again = MediaToTextPipeline.from_pretrained(tmp_path)
    assert again(toy_pictures()) == list(CAPTIONS)


def test_a_caption_does_not_depend_on_its_batch_and_follows_its_generator(writer):
    pipeline = MediaToTextPipeline(writer)

    def captions(part: slice, temperature: float) -> list[str]:
        generators = [torch.Generator().manual_seed(n) for n in range(12)]
        return pipeline(toy_pictures()[part], generator=generators[part], temperature=temperature)

    for temperature in (0.0, 3.0):
        assert captions(slice(3, 8), temperature) == captions(slice(12), temperature)[3:8]
    assert captions(slice(12), 3.0) != captions(slice(12), 0.0)


def test_text_ends_at_end_or_where_the_numbers_run_out_and_holds_tokens_alone():
    model = toy_transformer()
    seen, start = model.see(frames_of(model), torch.zeros(len(TEXTS), 1, dtype=torch.long))
    ends = 0
    for seed in range(40):
        uniforms = torch.rand(4, 7, generator=torch.Generator().manual_seed(seed))
        texts = write(model, seen, start, uniforms, num_tokens=20, temperature=3.0)
        assert all(len(text) <= 7 and max(text, default=0) < 20 for text in texts)
        ends += sum(len(text) < 7 for text in texts)
    assert ends > 4
    with torch.no_grad():
        model.norm.weight.zero_()  # all are equally likely, and the first of them wins
    assert write(model, seen, start, torch.zeros(4, 3), num_tokens=20) == [[0, 0, 0]] * 4


def test_a_model_that_only_draws_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this model only draws; train it to write, too"):
        MediaToTextPipeline(toy_pipeline())


@pytest.mark.parametrize("shape", [(1, 3, SIZE, SIZE + 1), (1, 1, SIZE, SIZE), (3, SIZE, SIZE), (1, 3, 2, SIZE, SIZE)])
def test_other_shapes_are_refused(writer, shape):
    with pytest.raises(ValueError, match=r"pictures must be \(B, 3, 8, 8\), and clips"):
        MediaToTextPipeline(writer)(torch.zeros(shape))


@pytest.mark.parametrize(("frames", "seen"), [(1, [0]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (17, [0, 4, 8, 12, 16])])
def test_frames_are_seen_evenly_from_first_to_last(frames, seen):
    assert seen_frames(frames) == seen


# ------------------------------------------------------------------------------------------------------ the commands


def test_the_command_writes_a_line_per_picture_and_skips_the_broken_one(writer, tmp_path, capsys):
    writer.save_pretrained(tmp_path / "model")
    for number in (0, 5):
        write_png(tmp_path / "pictures" / f"{number}.png", toy_pictures()[number])
    (tmp_path / "pictures" / "9.png").write_bytes(b"no picture")
    out = tmp_path / "captions.jsonl"
    code = cli.main(
        ["image-to-text", str(tmp_path / "pictures"), "--model", str(tmp_path / "model"), "--out", str(out)]
    )
    printed = capsys.readouterr()
    expected = [(str(tmp_path / "pictures" / f"{number}.png"), CAPTIONS[number]) for number in (0, 5)]
    assert code == 1 and [tuple(line.split("\t")) for line in printed.out.splitlines()] == expected
    assert "9.png" in printed.err and "1 of 3 files could not be read" in printed.err
    assert [tuple(json.loads(line).values()) for line in out.read_text().splitlines()] == expected


def test_captions_that_were_written_are_kept_and_no_picture_is_lost(writer, tmp_path, monkeypatch):
    writer.save_pretrained(tmp_path / "model")
    for number in (0, 5, 7):
        write_png(tmp_path / "pictures" / f"{number}.png", toy_pictures()[number])
    out = tmp_path / "captions.jsonl"
    words = ["image-to-text", str(tmp_path / "pictures"), "--model", str(tmp_path / "model"), "--out"]
    before = (tmp_path / "pictures" / "5.png").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words, str(tmp_path / "pictures" / "5.png")])
    assert (tmp_path / "pictures" / "5.png").read_bytes() == before

    def read(path, *rest):
        if path.name == "7.png":
            raise KeyboardInterrupt
        if path.name == "5.png":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return picture_of(path, *rest)

    monkeypatch.setattr("tokenloom.pipelines.describe_files.picture_of", read)
    assert cli.main([*words, str(out)]) == 130
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [CAPTIONS[0]]


# -------------------------------------------------------------------------------------------------------- the score


class Saying:
    """Stands for a pipeline that writes what `say` makes of the captions that the examples were drawn from."""

    def __init__(self, world, per_kind: int, seed: int, say):
        generator = torch.Generator().manual_seed(seed)
        self.texts = [say(world.example(generator, k, 64)[0].text) for k in world.kinds for _ in range(per_kind)]
        self.pictures = toy_pipeline()
        self.pictures.image_tokenizer.config = type("Config", (), {"stride": 64 // GRID[0]})()

    def __call__(self, media) -> list[str]:
        said, self.texts = self.texts[: len(media)], self.texts[len(media) :]
        return said


@pytest.mark.parametrize("world", [SCENES, CLIPS], ids=lambda world: world.name)
def test_true_captions_count_and_others_do_not(world):
    kinds = len(world.kinds)
    assert true_shares(write_captions(Saying(world, 4, 7, str), 4, 7, world))["overall"] > 0.95
    assert true_shares(write_captions(Saying(world, 4, 7, lambda text: "a poem"), 4, 7, world))["overall"] == 0
    colors = {"red": "blue", "blue": "green", "green": "red", "yellow": "purple", "orange": "pink"}
    changed = write_captions(
        Saying(world, 4, 7, lambda text: " ".join(colors.get(word, word) for word in text.split())), 4, 7, world
    )
    recolored = [row for row in changed if row.text != row.drawn_from]
    assert len(recolored) > kinds and not any(row.true for row in recolored)


def test_overall_is_the_plain_mean_of_the_kinds():
    rows = [Written("a", "", "", True)] * 3 + [Written("a", "", "", False), Written("b", "", "", False)]
    assert true_shares(rows) == {"a": 0.75, "b": 0.0, "overall": 0.375}
