"""Laws of the embedding pipeline: one vector each, alone or in a batch, and a head that fits its own model alone."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.doubles import CAPTIONS, awaken, toy_pictures, toy_pipeline
from tokenloom.data.media import write_png
from tokenloom.models.contrastive import ContrastiveConfig, ContrastiveHead
from tokenloom.pipelines import embed
from tokenloom.pipelines.embed import EmbeddingPipeline, fingerprint
from tokenloom.scripts import cli
from tokenloom.tokenizers.pretrained import SHIPPED


def toy_embedding(**changes) -> EmbeddingPipeline:
    config = ContrastiveConfig(
        trunk_width=32, layers=(1, 2), width=12, num_heads=2, embedding_size=6, storage_dtype="float32"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EmbeddingPipeline(toy_pipeline(**({"num_frames": 4} | changes)), ContrastiveHead(config))


@pytest.fixture(scope="module")
def pipeline() -> EmbeddingPipeline:
    return toy_embedding()


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(folder)
    return folder


def toy_clips() -> Tensor:
    """(12, 3, 3, 8, 8): each picture, the next one, and the one after that."""
    return torch.stack([toy_pictures().roll(-n, 0) for n in range(3)], dim=2)


def test_vectors_have_length_1_and_do_not_depend_on_their_batch(pipeline, monkeypatch):
    def vectors(part: slice) -> list[Tensor]:
        texts = [f"{caption} {'and more' * (n % 3)}" for n, caption in enumerate(CAPTIONS)]
        return [
            pipeline.embed_text(texts[part]),
            pipeline.embed_pictures(toy_pictures()[part]),
            pipeline.embed_clips(toy_clips()[part]),
        ]

    whole = vectors(slice(12))
    monkeypatch.setattr(embed, "BATCH", 5)
    for all_of_them, some, one, in_parts in zip(
        whole, vectors(slice(3, 6)), vectors(slice(7, 8)), vectors(slice(12)), strict=True
    ):
        assert all_of_them.shape == (12, 6) and not all_of_them.requires_grad
        torch.testing.assert_close(all_of_them.norm(dim=1), torch.ones(12))
        for part, rows in ((some, slice(3, 6)), (one, slice(7, 8)), (in_parts, slice(12))):
            torch.testing.assert_close(part, all_of_them[rows], rtol=1e-4, atol=1e-5)


def test_a_picture_is_a_clip_of_one_frame_and_the_order_of_frames_counts(pipeline):
    torch.testing.assert_close(
        pipeline.embed_clips(toy_pictures()[:, :, None]), pipeline.embed_pictures(toy_pictures())
    )
    backwards = pipeline.embed_clips(toy_clips().flip(2))
    assert ((pipeline.embed_clips(toy_clips()) - backwards).abs().amax(1) > 1e-4).all()


def test_nothing_gives_no_vectors(pipeline):
    assert pipeline.embed_text([]).shape == (0, 6)


def test_probabilities_are_over_the_texts(pipeline):
    text, media = pipeline.embed_text(CAPTIONS[:4]), pipeline.embed_pictures(toy_pictures()[:3])
    found = pipeline.probabilities(text, media)
    torch.testing.assert_close(found.sum(0), torch.ones(3))
    torch.testing.assert_close(found, (pipeline.scores(text, media) / 0.07).softmax(0))


def test_the_head_comes_back_with_its_model(pipeline, saved):
    again = EmbeddingPipeline.from_pretrained(saved)
    assert torch.equal(again.embed_pictures(toy_pictures()), pipeline.embed_pictures(toy_pictures()))
    assert torch.equal(again.embed_text(CAPTIONS), pipeline.embed_text(CAPTIONS))


def test_a_head_of_another_transformer_is_refused(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    other = toy_pipeline(num_frames=4)
    awaken(other.transformer, 5)
    other.transformer.save_pretrained(tmp_path / "transformer")
    with pytest.raises(ValueError, match=r"trained on another transformer; train one for this: tokenloom train-embed"):
        EmbeddingPipeline.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"reads layers \(1, 2\) of width 32, and the transformer has 2 of width 16"):
        toy_embedding(width=16)


def test_a_model_without_a_head_says_how_to_come_by_one(tmp_path, capsys):
    toy_pipeline().save_pretrained(tmp_path)
    assert cli.main(["embed", "--text", "red", "--model", str(tmp_path), "--out", str(tmp_path / "v.safetensors")]) == 1
    shown = capsys.readouterr().err
    assert "has no contrastive_head; train one for it: tokenloom train-embed" in shown and shown.count("\n") == 1


def test_a_broken_note_of_what_it_was_trained_on_is_one_line(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    for content in ("{", "[1, 2]", "null"):
        (tmp_path / "contrastive_head" / "trained_on.json").write_text(content)
        with pytest.raises(ValueError, match=r"trained_on.json is broken"):
            EmbeddingPipeline.from_pretrained(tmp_path)
    (tmp_path / "contrastive_head" / "trained_on.json").unlink()
    with pytest.raises(ValueError, match=r"trained_on.json cannot be read \(No such file"):
        EmbeddingPipeline.from_pretrained(tmp_path)


def test_the_fingerprint_tells_weights_apart_as_they_are_stored():
    model = toy_pipeline(storage_dtype="float16").transformer
    before = fingerprint(model)
    with torch.no_grad():
        weight = model.blocks[0].mlp_out.weight
        weight.copy_(weight.half().float())
    assert fingerprint(model) == before
    with torch.no_grad():
        weight[0, 0] += 1
    assert fingerprint(model) != before


def test_media_of_another_shape_or_range_are_refused(pipeline):
    with pytest.raises(ValueError, match=r"pictures must be \(B, 3, 8, 8\), and clips .*, got \(12, 3, 7, 8\)"):
        pipeline.embed_pictures(toy_pictures()[:, :, 1:])
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), got \(12, 3, 3, 8, 8\)"):
        pipeline.embed_pictures(toy_clips())
    with pytest.raises(ValueError, match=r"clips must be \(B, 3, T, H, W\), got \(12, 3, 8, 8\)"):
        pipeline.embed_clips(toy_pictures())
    with pytest.raises(ValueError, match=r"at most 4 frames, got \(12, 3, 6, 8, 8\)"):
        pipeline.embed_clips(toy_clips().repeat(1, 1, 2, 1, 1))
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\], got a peak of 2"):
        pipeline.embed_pictures(toy_pictures() / toy_pictures().abs().max() * 2)


def test_the_command_writes_a_row_each_and_passes_over_what_is_broken(pipeline, saved, tmp_path, capsys):
    folder = tmp_path / "files"
    for number, picture in enumerate(toy_pictures()[:2]):
        write_png(folder / f"{number}.png", picture)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "talk.wav").write_bytes(b"no sound")
    out = tmp_path / "vectors.safetensors"
    words = ["embed", str(folder), "--text", *CAPTIONS[:3], "--model", str(saved), "--out", str(out)]
    assert cli.main(words) == 1
    shown = capsys.readouterr()
    assert "broken.png" in shown.err and "1 of 3 files could not be read" in shown.err and "talk" not in shown.err
    vectors = load_file(out)["vectors"]
    torch.testing.assert_close(vectors[:3], pipeline.embed_text(CAPTIONS[:3]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors[3:], pipeline.embed_pictures(toy_pictures()[:2]), rtol=1e-4, atol=1e-5)
    rows = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert rows[:3] == [{"modality": "text", "text": text} for text in CAPTIONS[:3]]
    assert rows[3:] == [{"modality": "image", "file": str(folder / f"{n}.png")} for n in range(2)]
    cosines = pipeline.scores(vectors[:3], vectors[3:])
    for line, column in zip(shown.out.splitlines(), cosines.T, strict=False):
        file, text, cosine = line.split("\t")
        assert text == CAPTIONS[int(column.argmax())] and cosine == f"{float(column.max()):.3f}"


def test_a_sound_that_is_named_is_told_and_an_index_of_something_else_is_kept(saved, tmp_path, capsys):
    write_png(tmp_path / "a.png", toy_pictures()[0])
    (tmp_path / "talk.wav").write_bytes(b"no sound")
    (tmp_path / "index.jsonl").write_text("prompts\n")
    words = ["embed", str(tmp_path / "a.png"), str(tmp_path / "talk.wav"), "--model", str(saved), "--out"]
    assert cli.main([*words, str(tmp_path / "v.safetensors")]) == 1
    assert (
        "talk.wav: no vectors are made of audio files by this model, but of image and video" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words, str(tmp_path / "index.safetensors")])
    assert "index.jsonl is there already" in capsys.readouterr().err
    assert (tmp_path / "index.jsonl").read_text() == "prompts\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "a PATH or --text is needed"),
        (["--text", "red"], "--out is needed"),
        (["--text", "red", "--out", "vectors.npy"], "--out must end in .safetensors, got vectors.npy"),
    ],
)
def test_wrong_usage_of_the_command_is_one_line(words, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["embed", *words])
    assert stopped.value.code == 2 and told in capsys.readouterr().err


def test_one_text_may_come_alone(pipeline):
    assert torch.equal(pipeline.embed_text("red"), pipeline.embed_text(["red"]))


@pytest.mark.parametrize("name", sorted(folder.parent.name for folder in SHIPPED.glob(f"*/{embed.HEAD}")))
def test_every_head_that_ships_fits_its_model(name):
    found = EmbeddingPipeline.from_pretrained(name).embed_text(["two", "one two"])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
