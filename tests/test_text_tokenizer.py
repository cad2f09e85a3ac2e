"""Laws of text tokens: nothing is lost, all ways to the ids agree, nobody can type a special token, published ids."""

import copy
import gzip
import json
import logging
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tests.conftest import needs_packs
from tokenloom.scripts import benchmark_text
from tokenloom.tokenizers import text as text_module
from tokenloom.tokenizers import text_backend
from tokenloom.tokenizers.text import TextTokenizer
from tokenloom.tokenizers.text_backend import byte_alphabet

TEXTS = [
    "A red circle to the left of a blue square. It's what they'll ask: don't they?",
    "Ein roter Kreis links von einem blauen Quadrat; ein größeres Dreieck darüber.",
    "Красный круг слева от синего квадрата. 青い四角の左に赤い丸。 蓝色方块左边的红色圆圈。",
    "  def f(x):\n\treturn [x ** 2 for _ in range(10_000)]\r\n\r\n",
] * 3
ODD = [
    *(
        "",
        " ",
        "\n",
        " \n \t  x",
        "\x00",
        "\ufeff",
        "e\u0301",
        "İı ß ﬁ Å",
        "👩‍👩‍👧‍👦 🏳️‍🌈",
        "٣٤ Ⅷ² ½",
        "\r\n\u2028\u3000\u00a0.",
        "\U0010ffff",
    ),
    *("<|end|>", "a<|end|>b <|end|", "<|endoftext|>", "I'll DON'T 'Ve can't", "a" * 5000, " " * 3000, "x\u1e9b\u0323"),
]
quick = settings(derandomize=True, deadline=None, max_examples=200)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(TEXTS, vocab_size=400, special_tokens=["<|end|>", "<|image|>"])


@pytest.fixture(scope="module")
def folding() -> TextTokenizer:
    """Every option away from its default."""
    return TextTokenizer.train(
        TEXTS, vocab_size=380, special_tokens=["[SEP]"], normalization="NFKC", lowercase=True, min_frequency=3
    )


# ---- nothing is lost ----


@quick
@given(
    data=st.binary(max_size=60)
    | st.text().map(str.encode)
    | st.tuples(st.text(), st.binary()).map(lambda x: x[0].encode() + x[1])
)
def test_any_bytes_come_back(tokenizer, data):
    ids = tokenizer.encode_bytes(data)
    assert tokenizer.decode_bytes(ids) == data
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)


@quick
@given(text=st.text())
def test_any_text_comes_back_and_has_the_ids_of_its_bytes(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_bytes(text.encode()) == ids


@quick
@given(text=st.text(st.sampled_from("ab1.'s \n\t\x1c\x85\u00a0\u3000円é\u0301")), size=st.integers(1, 3))
def test_a_text_that_is_cut_has_the_ids_that_it_has_whole(tokenizer, text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "PIECE", size)
        assert tokenizer.encode_bytes(text.encode()) == tokenizer.encode(text)


def test_texts_are_cut_only_where_nothing_looks_beyond_words(tokenizer, folding, monkeypatch):
    monkeypatch.setattr(text_module, "PIECE", 4)
    assert list(tokenizer._pieces("one two  three\nfour\n")) == ["one two", "  three", "\nfour", "\n"]
    assert list(tokenizer._pieces("onetwothree")) == ["onetwothree"]
    assert list(folding._pieces("one two three")) == ["one two three"]


def test_every_single_byte_and_half_a_character_come_back(tokenizer):
    for data in [bytes([byte]) for byte in range(256)] + [
        "円".encode()[:2],
        b"\xff\n\xc3",
        "\ud800".encode("utf-8", "surrogatepass"),
    ]:
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data
    assert tokenizer.decode(tokenizer.encode_bytes(b"ok \xff")) == "ok \ufffd"


def test_options_fold_text_before_it_is_encoded(tokenizer, folding):
    assert folding.decode(folding.encode("ﬁne CIRCLE Å")) == "fine circle å"
    assert tokenizer.encode("e\u0301") != tokenizer.encode("é")
    composing = TextTokenizer.train(TEXTS, vocab_size=300, normalization="NFC")
    assert composing.encode("e\u0301") == composing.encode("é")
    assert composing.decode(composing.encode("ﬁ A")) == "ﬁ A"


# ---- all ways to the ids agree ----


@pytest.mark.parametrize("kind", ["tokenizer", "folding"])
def test_saving_and_loading_changes_nothing(kind, request, tmp_path):
    before = request.getfixturevalue(kind)
    before.save_pretrained(tmp_path / "new" / "folder")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["tokenizer.json"]
    for after in (TextTokenizer.from_pretrained(tmp_path / "new/folder"), copy.deepcopy(before)):
        assert after.encode_batch(TEXTS + ODD) == before.encode_batch(TEXTS + ODD)
        assert after.fingerprint == before.fingerprint
        assert after.special_tokens == before.special_tokens
        assert after.vocab_size == before.vocab_size


@pytest.mark.parametrize("kind", ["tokenizer", "folding"])
def test_a_batch_and_a_corpus_have_the_ids_of_single_texts(kind, request):
    pytest.importorskip("gigatoken")
    tokenizer = request.getfixturevalue(kind)
    generator = random.Random(0)
    planes = [(0x20, 0x7F), (0x80, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000), (9, 14)]
    noise = ["".join(chr(generator.randrange(*generator.choice(planes))) for _ in range(30)) for _ in range(500)]
    texts = TEXTS + ODD + noise
    expected = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(iter(texts)) == expected
    corpus = tokenizer.encode_corpus(iter(texts))
    assert [ids.tolist() for ids in corpus] == expected
    assert len(corpus) == len(texts) and corpus[-1].tolist() == expected[-1]
    assert corpus.offsets[0] == 0 and corpus.offsets[-1] == len(corpus.ids)
    assert len(tokenizer.encode_corpus([])) == 0


@needs_packs
@pytest.mark.parametrize("options", [{}, {"normalization": "NFC"}, {"normalization": "NFKC", "lowercase": True}])
def test_a_corpus_in_179_languages_has_the_ids_of_single_texts(options, packs):
    pytest.importorskip("gigatoken")
    declarations = read_json_lines(packs / "text/udhr.jsonl.gz")
    paragraphs = read_json_lines(packs / "text/wiki_paragraphs_12lang.jsonl.gz")
    with gzip.open(packs / "text/tinyshakespeare_first90.txt.gz", "rt", encoding="utf-8", newline="") as file:
        texts = [*declarations, *paragraphs[1::4], file.read()]
    tokenizer = TextTokenizer.train(paragraphs[::4], vocab_size=2000, **options)
    assert [ids.tolist() for ids in tokenizer.encode_corpus(texts)] == tokenizer.encode_batch(texts)


@pytest.mark.parametrize("kind", ["tokenizer", "folding"])
def test_transformers_opens_the_file_with_the_same_ids(kind, request, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = request.getfixturevalue(kind)
    tokenizer.save_pretrained(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert len(theirs) == tokenizer.vocab_size
    for text in TEXTS + ODD:
        assert theirs(text, split_special_tokens=True)["input_ids"] == tokenizer.encode(text)
        assert theirs(text)["input_ids"] == tokenizer.encode(text, allow_special=True)
        ids = tokenizer.encode(text)
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == tokenizer.decode(ids)


def test_training_does_not_depend_on_the_order_of_the_texts():
    trained = [TextTokenizer.train(texts, vocab_size=350).fingerprint for texts in (TEXTS, TEXTS[::-1], iter(TEXTS))]
    assert len(set(trained)) == 1


def test_the_fingerprint_tells_settings_apart():
    options = [{}, {"vocab_size": 301}, {"special_tokens": ["<|x|>"]}, {"normalization": "NFC"}, {"lowercase": True}]
    trained = [TextTokenizer.train(TEXTS, **{"vocab_size": 300} | option).fingerprint for option in options]
    assert len(set(trained)) == len(options)


def test_the_benchmark_compares_equal_ids_and_names_every_setting(tokenizer):
    pytest.importorskip("gigatoken")
    speeds = benchmark_text.measure(tokenizer, TEXTS, rounds=2)
    assert all(len(values) == 2 and min(values) > 0 for values in speeds.values())
    assert all(name in benchmark_text.report(speeds) for name in (benchmark_text.OURS, *benchmark_text.PEERS))


# ---- special tokens ----


def test_a_special_token_cannot_be_typed(tokenizer):
    """Also not into a copy: the flag that decides it is not part of the library's own pickle or file."""
    for copied in (tokenizer, copy.deepcopy(tokenizer)):
        ids = copied.encode("draw this<|end|> and <|image|>") + copied.encode_bytes(b"<|end|>\xff")
        assert not set(ids) & set(copied.special_tokens.values())
    end = tokenizer.special_tokens["<|end|>"]
    assert tokenizer.encode("a<|end|>", allow_special=True) == [*tokenizer.encode("a"), end]
    assert tokenizer.encode("a<|end|>") == tokenizer.encode_batch(["a<|end|>"])[0]
    assert tokenizer.decode([end]) == "<|end|>"


def test_special_tokens_have_the_last_ids(tokenizer):
    assert tokenizer.special_tokens == {"<|end|>": 398, "<|image|>": 399}
    assert tokenizer.vocab_size == 400


@pytest.mark.parametrize("special", [["the"], ["é"], [""], ["<|x|>", "<|x|>"], [3]])
def test_a_special_token_that_text_can_produce_is_refused(special):
    """BPE learns the token "the"; a special token of that name would share its id."""
    with pytest.raises(ValueError, match="special"):
        TextTokenizer.train(["the the the é é"], vocab_size=256 + 2 + len(special), special_tokens=special)


# ---- vocabulary ----


def test_tokens_have_bytes_and_bytes_have_tokens(tokenizer):
    for token_id in range(tokenizer.vocab_size):
        assert tokenizer.token_to_id(tokenizer.id_to_token(token_id)) == token_id
    assert tokenizer.id_to_token(tokenizer.token_to_id(" von")) == b" von"
    assert tokenizer.token_to_id("<|end|>") == tokenizer.special_tokens["<|end|>"]
    with pytest.raises(ValueError, match="zebra"):
        tokenizer.token_to_id("zebra")


def test_more_merges_than_the_text_holds_give_a_smaller_vocabulary_and_say_so(caplog):
    with caplog.at_level(logging.WARNING):
        small = TextTokenizer.train(["abab"], vocab_size=5000, special_tokens=["<|end|>"])
    assert small.vocab_size == 256 + 1 + 1  # the bytes, "ab", the special token
    assert "258" in caplog.text and "5000" in caplog.text
    assert small.decode(small.encode("abcabc")) == "abcabc"


def test_the_alphabet_is_the_one_of_the_library():
    assert sorted(byte_alphabet()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert Tokenizer(models.BPE()).get_vocab_size() == 0 and len(set(byte_alphabet())) == 256


# ---- published tokenizers ----


@needs_packs
def test_gpt2_has_its_published_ids(packs, tmp_path):
    pytest.importorskip("gigatoken")
    for name in ("gpt2_encoder.json", "gpt2_vocab.bpe"):
        (tmp_path / name).write_bytes(gzip.decompress((packs / "text/vocab" / f"{name}.gz").read_bytes()))
    gpt2 = TextTokenizer.from_gpt2_files(tmp_path / "gpt2_encoder.json", tmp_path / "gpt2_vocab.bpe")
    vectors = json.loads(gzip.decompress((packs / "text/vocab/gpt2_vectors.json.gz").read_bytes()))
    texts, expected = [vector["text"] for vector in vectors], [vector["ids"] for vector in vectors]
    assert len(vectors) == 172
    assert [gpt2.encode(text) for text in texts] == expected
    assert [ids.tolist() for ids in gpt2.encode_corpus(texts)] == expected
    assert [gpt2.decode(ids) for ids in expected] == texts
    assert gpt2.special_tokens == {"<|endoftext|>": 50256}
    assert gpt2.encode_corpus(["<|endoftext|>"])[0].tolist() == gpt2.encode("<|endoftext|>") != [50256]
    gpt2.save_pretrained(tmp_path)
    assert TextTokenizer.from_pretrained(tmp_path).encode_batch(texts) == expected


@needs_packs
def test_clip_has_its_published_ids_through_a_tokenizer_json(packs, tmp_path):
    """101 of the 102 texts: the other needs ftfy, which undoes HTML escapes before CLIP sees the text."""
    clip_tokenizer(packs / "text/vocab/clip_bpe_simple_vocab_16e6.txt.gz").save(str(tmp_path / "clip.json"))
    clip = TextTokenizer.from_pretrained(tmp_path / "clip.json")
    vectors = json.loads(gzip.decompress((packs / "text/vocab/clip_vectors.json.gz").read_bytes()))
    wrong = [vector["text"] for vector in vectors if clip.encode(vector["text"]) != vector["ids"]]
    assert len(vectors) == 102 and wrong == ["&lt;b&gt; html &amp; entities"]
    assert not clip.is_byte_level  # it lower-cases, joins spaces and marks the ends of words
    with pytest.raises(ValueError, match="byte-level"):
        clip.encode_bytes(b"a")


def test_truncation_padding_and_dropout_of_a_file_do_not_reach_the_ids(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.enable_truncation(3)
    backend.enable_padding(length=10)
    backend.model.dropout = 0.9
    backend.save(str(tmp_path / "odd.json"))
    assert TextTokenizer.from_pretrained(tmp_path / "odd.json").encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)


# ---- errors ----


def test_wrong_input_is_named(tokenizer):
    for wrong in (b"bytes", None, ["a"]):
        with pytest.raises(TypeError, match="must be a str"):
            tokenizer.encode(wrong)
        with pytest.raises(TypeError, match="must be a str"):
            TextTokenizer.train(["a", wrong], vocab_size=300)
    for method in (tokenizer.encode_batch, lambda text: TextTokenizer.train(text, vocab_size=300)):
        with pytest.raises(TypeError, match="one str"):
            method("one text")
    with pytest.raises(ValueError, match="surrogate pair at 2"):
        tokenizer.encode("ab\ud800")
    for wrong in (-1, tokenizer.vocab_size, 10**12):
        with pytest.raises(ValueError, match=r"\[0, 400\)"):
            tokenizer.decode([wrong])
    with pytest.raises(TypeError):
        tokenizer.decode([1.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 255}, "256 bytes"),
        ({"vocab_size": 300, "normalization": "NFX"}, "NFC"),
        ({"vocab_size": 300, "min_frequency": 0}, "min_"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TextTokenizer.train(TEXTS, **options)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[["a","b"]]}}',  # unknown token
        b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}}',  # one id for two
        b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}}',  # a table of 4 billion rows
    ],
)
def test_broken_files_are_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError):
        TextTokenizer.from_pretrained(tmp_path)


def test_an_endless_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text_backend, "MAX_FILE_BYTES", 100)
    (tmp_path / "tokenizer.json").write_bytes(b" " * 101)
    with pytest.raises(ValueError, match="larger than"):
        TextTokenizer.from_pretrained(tmp_path)


def test_gpt2_files_that_do_not_fit_are_refused(tmp_path):
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocab.write_text('{"a": 0, "b": 1, "ab": 2}')
    for content, message in [("#version: 0.2\na b\na b c\n", "line 3"), ("a z\n", "do not fit")]:
        merges.write_text(content)
        with pytest.raises(ValueError, match=message):
            TextTokenizer.from_gpt2_files(vocab, merges)
    for content in ("[1]", "{", '{"a": "b"}'):
        vocab.write_text(content)
        with pytest.raises(ValueError, match="vocab.json"):
            TextTokenizer.from_gpt2_files(vocab, merges)


def test_without_gigatoken_the_error_says_what_to_install(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(ValueError, match=r"pip install tokenloom\[corpus\]"):
        copy.deepcopy(tokenizer).encode_corpus(["a"])


def test_a_corpus_is_refused_when_gigatoken_would_give_other_ids(tokenizer, tmp_path):
    pytest.importorskip("gigatoken")
    tokenizer.save_pretrained(tmp_path)
    for change in ("split", "word"):
        backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        if change == "split":
            by_threes = pre_tokenizers.Split(Regex(r"\p{L}{1,3}|[^\p{L}]"), "isolated")
            backend.pre_tokenizer = pre_tokenizers.Sequence(
                [by_threes, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
            )
        else:
            backend.add_tokens(["tool"])  # an added word is found in plain text
        with pytest.raises(ValueError, match="encode_batch"):
            TextTokenizer(backend).encode_corpus(["a"])


# ---- helpers ----


def read_json_lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def clip_tokenizer(merges_file: Path) -> Tokenizer:
    """CLIP as `transformers` publishes it: lower case, joined spaces, and "</w>" at the end of every word."""
    with gzip.open(merges_file, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1:48895]]
    letters = sorted(byte_alphabet(), key=ord)  # visible bytes first, then the others: CLIP's order
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges)]
    specials = ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: token_id for token_id, token in enumerate(tokens + specials)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>", unk_token=specials[1]))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(specials)
    return backend


def test_a_tokenizer_that_loses_text_is_not_byte_level(tmp_path):
    tokenizer = TextTokenizer.train(["a red star"] * 3, vocab_size=270)
    tokenizer.save_pretrained(tmp_path / "whole")
    config = json.loads((tmp_path / "whole" / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}
    sequence = {"type": "Sequence", "pretokenizers": [split, config["pre_tokenizer"]]}
    kept = {"type": "Sequence", "pretokenizers": [split | {"behavior": "Isolated"}, config["pre_tokenizer"]]}
    word = {"id": 270, "content": "<w>", "single_word": False, "normalized": False, "special": False}
    words = config["added_tokens"] + [word | {"lstrip": True, "rstrip": False}]
    changes = ({"pre_tokenizer": sequence}, {"added_tokens": words}, {"pre_tokenizer": kept}, {})
    for change, expected in zip(changes, (False, False, True, True), strict=True):
        (tmp_path / "changed").mkdir(exist_ok=True)
        (tmp_path / "changed" / "tokenizer.json").write_text(json.dumps(config | change))
        assert TextTokenizer.from_pretrained(tmp_path / "changed").is_byte_level == expected
