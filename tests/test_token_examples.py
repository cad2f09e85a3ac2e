"""Laws of data/token_examples.py: shards are examples to train on, each with the caption beside it."""

import pytest
import torch

from tests.test_tokenize_files import Bytes, ColorTokenizer, images, png, texts, write_files
from tokenloom.data.loader import Loader
from tokenloom.data.shard_reader import ShardReader
from tokenloom.data.token_examples import TokenExamples

FILES = {f"{n}.png": png(6 + n % 2, 4) for n in range(5)} | {"0.txt": b"zero", "3.txt": b"three", "deep/3.png": png()}


@pytest.fixture
def examples(tmp_path) -> TokenExamples:
    folder = write_files(tmp_path / "in", FILES)
    images([folder], tmp_path / "out")
    texts([folder], tmp_path / "out")
    media = ShardReader(tmp_path / "out" / "image", ColorTokenizer().fingerprint)
    return TokenExamples(media, ShardReader(tmp_path / "out" / "text", Bytes.fingerprint))


def test_every_file_is_an_example_with_its_own_caption(examples):
    assert [example.name for example in examples] == ["0.png", "1.png", "2.png", "3.png", "4.png", "deep/3.png"]
    captions = [None if e.caption is None else bytes(e.caption.tolist()) for e in examples]
    assert captions == [b"zero", None, None, b"three", None, None]
    assert [tuple(example.ids.shape) for example in examples[:2]] == [(4, 6), (4, 7)]
    assert examples[1].media == {"size": [4, 7]} and examples[1].ids.dtype == torch.int64
    assert torch.equal(examples[-1].ids, examples[0].ids)


def test_of_two_texts_of_one_name_the_caption_is_the_txt(tmp_path):
    folder = write_files(tmp_path / "in", {"cat.png": png(), "cat.md": b"notes", "cat.txt": b"a cat"})
    images([folder], tmp_path / "out")
    texts([folder], tmp_path / "out")
    examples = TokenExamples(ShardReader(tmp_path / "out" / "image"), ShardReader(tmp_path / "out" / "text"))
    assert [bytes(example.caption.tolist()) for example in examples] == [b"a cat"]


def test_without_captions_there_are_none(examples):
    assert TokenExamples(examples.media)[0].caption is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_makes_batches_of_them(examples, workers):
    def row(example, generator):
        return {"ids": example.ids[:, :6], "caption": [] if example.caption is None else example.caption.tolist()}

    loader = Loader(examples, row, batch_size=4, seed=0, workers=workers)
    batches = list(loader.iterate(num_steps=3))
    assert all(batch["ids"].shape == (4, 4, 6) for batch in batches)
    assert sum(caption == list(b"zero") for batch in batches for caption in batch["caption"]) == 2  # 12 of 6, twice
