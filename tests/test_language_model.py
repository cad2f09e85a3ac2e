"""Laws of the one interface: bits per byte of any model in any spelling, and text of whole letters."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch

from tests.doubles import toy_transformer
from tokenloom.models.next_token import NextTokenTransformer
from tokenloom.models.ngram import NGramModel
from tokenloom.pipelines.language_model import LanguageModel
from tokenloom.tokenizers.text import TextTokenizer

TEXT = "the cat sat on the mat, the dog sat on the log; déjà vu, 日本\n"
BYTES = TextTokenizer.train([TEXT], vocab_size=256)
PIECES = TextTokenizer.train([TEXT] * 4, vocab_size=280)


class Chance:
    """A NextTokenModel to which all tokens are alike, and whose texts are always the same."""

    def __init__(self, num_tokens: int, text: Sequence[int] = ()):
        self.num_tokens, self.text = num_tokens, text

    def log_probabilities(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.full((len(ids),), -math.log(self.num_tokens), dtype=torch.float64)

    def continue_ids(self, ids: Sequence[int], generator: torch.Generator, temperature: float) -> Iterator[int]:
        yield from self.text


def models() -> list[LanguageModel]:
    ids = torch.tensor(BYTES.encode(TEXT))
    transformer = NextTokenTransformer(toy_transformer(image_levels=(), text_vocab_size=280), window=16, num_tokens=280)
    return [
        LanguageModel(BYTES, NGramModel([ids], order=3, num_tokens=256)),
        LanguageModel(PIECES, transformer),
        LanguageModel(BYTES, Chance(256, BYTES.encode(TEXT))),
    ]


def test_chance_costs_eight_bits_a_byte_and_pieces_cost_less_the_longer_they_are():
    assert LanguageModel(BYTES, Chance(256)).bits_per_byte(TEXT, "another") == pytest.approx(8)
    share = len(PIECES.encode(TEXT)) / len(TEXT.encode())
    assert LanguageModel(PIECES, Chance(280)).bits_per_byte(TEXT) == pytest.approx(math.log2(280) * share)


@pytest.mark.parametrize("model", models(), ids=("n-gram", "transformer", "chance"))
def test_bits_of_texts_add_up(model):
    texts = (TEXT, "", "the cat", "日本の")
    total = sum(sum(model.bits(text)) for text in texts)
    assert model.bits_per_byte(*texts) == pytest.approx(total / sum(len(text.encode()) for text in texts))
    assert all(len(model.bits(text)) == len(model.tokenizer.encode(text)) for text in texts)
    assert min(model.bits(TEXT)) >= 0


@pytest.mark.parametrize("model", models(), ids=("n-gram", "transformer", "chance"))
def test_a_text_goes_on_as_its_seed_says_and_is_as_long_as_was_asked(model):
    def written(length: int) -> str:
        return model.continue_text("the ", torch.Generator().manual_seed(1), length, 1.0)

    assert written(0) == ""
    assert written(40) == written(40)
    assert len(written(9).encode("utf-8", "replace").replace("�".encode(), b"?")) <= 9
    assert written(40).startswith(written(20).rstrip("�"))


@pytest.mark.parametrize("length", range(len(TEXT.encode()) + 3))
def test_a_letter_is_whole_or_left_out(length):
    model = LanguageModel(BYTES, Chance(256, BYTES.encode(TEXT)))
    expected = TEXT.encode()[:length].decode("utf-8", "ignore")
    assert model.continue_text("", torch.Generator(), length) == expected


def test_bytes_that_are_no_letter_are_shown():
    model = LanguageModel(BYTES, Chance(256, BYTES.encode_bytes(b"a\xff\x80b\xe6\x97")))
    assert model.continue_text("", torch.Generator(), 99) == "a\ufffd\ufffdb"


def test_what_has_no_meaning_is_refused():
    model = LanguageModel(BYTES, Chance(256))
    lossy = LanguageModel(TextTokenizer.train([TEXT], vocab_size=256, lowercase=True), Chance(256))
    with pytest.raises(ValueError, match="got an empty one"):
        model.bits_per_byte("", "")
    with pytest.raises(ValueError, match="changes the text"):
        lossy.bits_per_byte("The")
    for length, temperature in ((-1, 1.0), (1, -0.5), (1, math.nan), (1, math.inf)):
        with pytest.raises(ValueError, match="length and temperature must be"):
            model.continue_text("", torch.Generator(), length, temperature)
