"""Laws of tokenizers/vocabulary.py: one id space, ranges that neither overlap nor leave a gap, and their return."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.tokenizers.vocabulary import MEDIA, Vocabulary

codebooks = st.dictionaries(
    st.sampled_from(MEDIA), st.lists(st.integers(1, 50), min_size=1, max_size=3).map(tuple), max_size=3
)
vocabularies = st.builds(Vocabulary, st.integers(1, 100), codebooks)


def ranges(vocabulary: Vocabulary) -> list[tuple[str, int]]:
    return [("text", 0), *((name, k) for name, sizes in vocabulary.codebooks.items() for k in range(len(sizes)))]


@settings(max_examples=60, deadline=None)
@given(vocabularies)
def test_ranges_and_special_tokens_cover_the_id_space_without_overlap(vocabulary):
    ids = [vocabulary.special(name) for name in vocabulary.specials]
    for name, codebook in ranges(vocabulary):
        ids += vocabulary.range(name, codebook)
    assert sorted(ids) == list(range(vocabulary.size))


@settings(max_examples=30, deadline=None)
@given(vocabularies)
def test_local_ids_come_back_from_shared_ids(vocabulary):
    for name, codebook in ranges(vocabulary):
        local = torch.arange(len(vocabulary.range(name, codebook)))
        shared = vocabulary.to_shared(local, name, codebook)
        assert shared.tolist() == list(vocabulary.range(name, codebook))
        assert torch.equal(vocabulary.to_local(shared, name, codebook), local)


def test_text_keeps_its_own_ids_and_codes_come_last():
    """Drawn by hand: 10 of text, 7 specials, 4 image codes, then audio's 3 and 2."""
    vocabulary = Vocabulary(10, {"audio": (3, 2), "image": (4,)})
    assert vocabulary.specials == ("begin", "end", "mask", "begin_image", "end_image", "begin_audio", "end_audio")
    assert vocabulary.special("begin") == 10 and vocabulary.special("end_audio") == 16
    spans = [
        vocabulary.range("text"),
        vocabulary.range("image"),
        vocabulary.range("audio"),
        vocabulary.range("audio", 1),
    ]
    assert spans == [range(10), range(17, 21), range(21, 24), range(24, 26)]
    assert vocabulary.size == 26


@settings(max_examples=20, deadline=None)
@given(vocabulary=vocabularies)
def test_a_saved_vocabulary_comes_back(tmp_path_factory, vocabulary):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.json"
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary


def test_ids_of_another_range_are_refused():
    vocabulary = Vocabulary(10, {"image": (4,)})
    with pytest.raises(ValueError, match=r"image ids must lie in \[0, 4\), got 0 to 4"):
        vocabulary.to_shared(torch.tensor([0, 4]), "image")
    with pytest.raises(ValueError, match="image ids are 15 to 18, got 3 to 16"):
        vocabulary.to_local(torch.tensor([16, 3]), "image")
    assert vocabulary.to_shared(torch.empty(0, dtype=torch.long), "image").numel() == 0


@pytest.mark.parametrize(("modality", "codebook"), [("video", 0), ("image", 1), ("image", -1), ("smell", 0)])
def test_a_range_that_is_not_there_is_refused(modality, codebook):
    with pytest.raises(ValueError, match="the vocabulary has"):
        Vocabulary(10, {"image": (4,)}).range(modality, codebook)


@pytest.mark.parametrize(("text", "books"), [(0, {}), (5, {"image": (0,)}), (5, {"smell": (4,)})])
def test_empty_ranges_and_unknown_modalities_are_refused(text, books):
    with pytest.raises(ValueError, match="every range must hold an id|modalities are"):
        Vocabulary(text, books)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"text_size": 0, "codebooks": {}}), '{"text_size": 3}'])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="vocabulary.json") as caught:
        Vocabulary.load(path)
    assert "\n" not in str(caught.value)
