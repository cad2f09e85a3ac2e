"""Training on text alone: what is held out, windows that leave nothing out, runs that resume in the same bits."""

import json
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from tests.doubles import toy_config, toy_transformer
from tokenloom import TextToTextPipeline
from tokenloom.models.attention import plain_products
from tokenloom.models.encoder_decoder import nothing
from tokenloom.models.ngram import NGramModel
from tokenloom.pipelines.language_model import LanguageModel
from tokenloom.pipelines.train_language import (
    LanguageRecipe,
    Windows,
    gigaflops_per_step,
    split_texts,
    token_stream,
    train_language,
)
from tokenloom.pipelines.train_loop import TrainingError
from tokenloom.tokenizers.text import TextTokenizer

LINES = "".join(f"{n} and {n} make {2 * n}.\n" for n in range(60))
BYTES = TextTokenizer.train([LINES], vocab_size=256)
CONFIG = toy_config(image_levels=(), text_vocab_size=256)


def trained(out, *, resume=False, say=lambda line: None, text=LINES, **changes) -> TextToTextPipeline:
    recipe = LanguageRecipe(**({"steps": 6, "batch_size": 4, "window": 16, "checkpoint_every": 3} | changes))
    return train_language(CONFIG, recipe, [text], ["7 and 7 make 14.\n"], BYTES, out, resume=resume, say=say)


# ------------------------------------------------------------------------------------------------------------ the data


@pytest.mark.parametrize("texts", [[LINES], [LINES, "short", "", "déjà vu\n" * 50], ["x" * 100] * 30], ids=len)
def test_what_is_held_out_is_a_twentieth_and_nothing_is_lost(texts):
    known, held_out = split_texts(texts, seed=3)
    assert Counter("".join(known + held_out)) == Counter("".join(texts))
    share = len("".join(held_out)) / len("".join(texts))
    assert 0.05 <= share < 0.05 + 40 / len("".join(texts))
    assert split_texts(texts, seed=3) == (known, held_out)


def test_one_text_is_cut_at_the_end_of_a_line():
    known, held_out = split_texts([LINES])
    assert known[0] + held_out[0] == LINES and known[0].endswith("\n")


@pytest.mark.parametrize("texts", [[], ["", ""], ["a"]])
def test_too_little_text_is_refused(texts):
    with pytest.raises(ValueError, match="got too little"):
        split_texts(texts)


def test_the_stream_is_all_texts_with_end_after_each():
    stream = token_stream(["ab", "", "c"], BYTES, 999)
    assert stream.tolist() == [*BYTES.encode("ab"), 999, 999, *BYTES.encode("c"), 999]


@pytest.mark.parametrize("length", [24, 64, 67])
def test_an_epoch_reads_every_window_of_the_ring_once(length):
    recipe = LanguageRecipe(batch_size=1, window=8)
    windows = Windows(torch.arange(length), recipe)
    starts = []
    for epoch in range(3):
        read = torch.cat([windows(epoch * windows.per_epoch + slot) for slot in range(windows.per_epoch)])
        assert torch.equal(read, (read[:, :1] + torch.arange(8)) % length)
        assert len(read.unique()) == read.numel() == length // 8 * 8  # no token twice
        starts.append(read[:, 0].tolist())
    assert starts[0] != starts[1] != starts[2]


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    stream = torch.arange(100)
    recipe = LanguageRecipe(batch_size=5, window=8)
    forward = [Windows(stream, recipe)(number) for number in range(6)]
    again = Windows(stream, recipe)
    assert all(torch.equal(again(number), forward[number]) for number in (5, 0, 3))
    assert not torch.equal(Windows(stream, LanguageRecipe(batch_size=5, window=8, seed=1))(0), forward[0])


# -------------------------------------------------------------------------------------------------------- the training


def test_arithmetic_is_what_torch_counts():
    recipe = LanguageRecipe(batch_size=4, window=16)
    model = toy_transformer(image_levels=(), text_vocab_size=256, width=64)
    before, ids = nothing(model, 4), torch.zeros(4, 16, dtype=torch.long)
    with plain_products(), FlopCounterMode(display=False) as counter:
        hidden, _ = model.write(ids, before.start, before)
        logits = hidden @ model.text_head().T  # head_loss does the same in place, where torch does not count
        F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    assert gigaflops_per_step(model.config, recipe) == pytest.approx(counter.get_total_flops() / 1e9, rel=0.02)


def test_it_learns_more_than_how_frequent_letters_are_and_tells_bits_per_byte(tmp_path):
    pipeline = trained(tmp_path, steps=150, batch_size=8, window=32, evaluate_every=75, checkpoint_every=150)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [row["validation_bits_per_byte"] for row in rows if "validation_bits_per_byte" in row]
    letters = LanguageModel(BYTES, NGramModel([torch.tensor(BYTES.encode(LINES))], order=1, num_tokens=256))
    assert len(told) == 2 and told[1] < min(told[0], letters.bits_per_byte("7 and 7 make 14.\n"))
    assert pipeline.bits_per_byte("7 and 7 make 14.\n") == pytest.approx(told[1], abs=1e-5)


def test_a_run_that_was_killed_ends_in_the_same_bits(tmp_path):
    whole = trained(tmp_path / "whole").transformer.state_dict()

    def killed(line: str) -> None:
        if line.startswith("step 5/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", say=killed)
    resumed = trained(tmp_path / "killed", resume=True).transformer.state_dict()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_a_run_goes_on_with_its_own_text_alone(tmp_path):
    trained(tmp_path)
    with pytest.raises(TrainingError, match="already holds a run"):
        trained(tmp_path)
    with pytest.raises(TrainingError, match="text was"):
        trained(tmp_path, resume=True, text=LINES[::-1])


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    for changes, told in (
        ({"window": 7}, "even number"),
        ({"window": 1 << 20}, "at most 65536 tokens"),
        ({"text": "short"}, "must fill a window of 16 tokens, got 6"),
    ):
        with pytest.raises(ValueError, match=told):
            trained(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="steps and batch_size"):
        LanguageRecipe(steps=0)


# --------------------------------------------------------------------------------------------------------- on the disk


def test_a_saved_model_says_the_same(tmp_path):
    pipeline = TextToTextPipeline(toy_transformer(image_levels=(), text_vocab_size=256), BYTES, window=12)
    pipeline.save_pretrained(tmp_path)
    loaded = TextToTextPipeline.from_pretrained(tmp_path)
    assert loaded.bits(LINES) == pipeline.bits(LINES)
    one, other = (model("7 and", torch.Generator().manual_seed(2), 50) for model in (pipeline, loaded))
    assert one == other and loaded.model.window == 12


def test_a_model_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train one with train-text"):
        TextToTextPipeline.from_pretrained(tmp_path)
    TextToTextPipeline(toy_transformer(image_levels=(), text_vocab_size=256), BYTES, window=12).save_pretrained(
        tmp_path
    )
    index = tmp_path / "text_model.json"
    saved = index.read_text()
    for broken in ("", "[]", "{}", '{"window": "wide", "text_tokenizer": ""}'):
        index.write_text(broken)
        with pytest.raises(ValueError, match="text_model.json is broken"):
            TextToTextPipeline.from_pretrained(tmp_path)
    index.write_text(saved)
    TextTokenizer.train([LINES], vocab_size=256, special_tokens=()).save_pretrained(tmp_path / "text_tokenizer")
    TextToTextPipeline.from_pretrained(tmp_path)  # the same tokenizer, made again
    TextTokenizer.train([LINES], vocab_size=256, lowercase=True).save_pretrained(tmp_path / "text_tokenizer")
    with pytest.raises(ValueError, match="not the one this model was trained with"):
        TextToTextPipeline.from_pretrained(tmp_path)
