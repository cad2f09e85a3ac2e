"""Laws of tokenizers/sequence.py: what a sequence of segments looks like, drawn by hand, and how a batch is padded."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tokenloom.tokenizers.sequence import Packed, Segment, media_positions, pack, prompt_batch, text_positions
from tokenloom.tokenizers.vocabulary import Vocabulary

VOCABULARY = Vocabulary(10, {"image": (4,)})
BEGIN, BEGIN_IMAGE, MASK = (VOCABULARY.special(name) for name in ("begin", "begin_image", "mask"))
IMAGE = VOCABULARY.range("image").start
SPEAKING = Vocabulary(10, {"image": (4,), "audio": (3, 3)})


def text(*ids: int) -> Segment:
    return Segment("text", torch.tensor(ids, dtype=torch.long))


def picture(ids: list[list[int]], **options) -> Segment:
    return Segment("image", torch.tensor(ids), **options)


def digits(positions: Tensor) -> list[str]:
    return ["".join(map(str, place)) for place in positions.tolist()]


def only(packed: Packed) -> list[list[int]]:
    """The ids of each sequence, where a token is one id."""
    assert packed.ids.shape[2] == 1
    return packed.ids[..., 0].tolist()


def test_the_example_of_the_file_a_prompt_of_two_tokens_and_a_picture_of_four_codes():
    packed = pack([[text(5, 6), picture([[0, 1], [2, 3]], causal=False, given=False)]], VOCABULARY)
    codes = [IMAGE, IMAGE + 1, IMAGE + 2, IMAGE + 3]
    assert only(packed) == [[BEGIN, 5, 6, BEGIN_IMAGE, *codes]]
    assert digits(packed.positions[0]) == ["000", "111", "222", "333", "444", "445", "454", "455"]
    assert packed.segments.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
    assert packed.causal.tolist() == packed.given.tolist() == [[True] * 3 + [False] * 5]
    assert packed.starts.tolist() == [[0] * 3 + [3] * 5]
    assert packed.places.tolist() == [[-1, -1, -1, 0, 1, 2, 3, 4]]


def test_nothing_closes_a_picture_and_what_follows_starts_past_its_largest_position():
    packed = pack([[picture([[0, 1, 2]]), text(7)]], VOCABULARY)
    assert only(packed) == [[BEGIN_IMAGE, IMAGE, IMAGE + 1, IMAGE + 2, BEGIN, 7]]
    assert digits(packed.positions[0]) == ["000", "111", "112", "113", "444", "555"]
    assert packed.segments.tolist() == [[0, 0, 0, 0, 1, 1]]


def test_frames_of_a_clip_share_their_start_whatever_their_order_and_text_starts_past_all_of_them():
    packed = pack([[text(), picture([[0, 1]], frame=3), picture([[2, 0]], frame=1), text(7)]], VOCABULARY)
    assert only(packed) == [[BEGIN, BEGIN_IMAGE, IMAGE, IMAGE + 1, BEGIN_IMAGE, IMAGE + 2, IMAGE, BEGIN, 7]]
    assert digits(packed.positions[0]) == ["000", "411", "522", "523", "211", "322", "323", "666", "777"]
    assert packed.starts.tolist() == [[0, *[1] * 6, 6, 6]]
    assert packed.places.tolist() == [[-1, 0, 1, 2, 0, 1, 2, -1, -1]]


def test_a_step_of_sound_is_the_codes_of_all_codebooks_on_the_diagonal_of_text():
    sound = Segment("audio", torch.tensor([[0, 2], [1, -1]]))
    packed = pack([[text(5), sound, text()]], SPEAKING)
    one, other = (SPEAKING.range("audio", book).start for book in range(2))
    begin, mask = SPEAKING.special("begin_audio"), SPEAKING.special("mask")
    first = SPEAKING.special("begin")
    assert packed.ids.tolist() == [[[first, -1], [5, -1], [begin, -1], [one, other + 2], [one + 1, mask], [first, -1]]]
    assert digits(packed.positions[0]) == ["000", "111", "222", "333", "444", "555"]


def test_codes_that_are_hidden_are_read_as_mask():
    assert only(pack([[picture([[-1, 1]])]], VOCABULARY)) == [[BEGIN_IMAGE, MASK, IMAGE + 1]]


def test_shorter_sequences_are_padded_on_the_right_and_marked():
    packed = pack([[text(1, 2, 3)], [text(4)]], VOCABULARY)
    assert only(packed) == [[BEGIN, 1, 2, 3], [BEGIN, 4, -1, -1]]
    assert packed.segments.tolist() == [[0, 0, 0, 0], [0, 0, -1, -1]]
    assert packed.causal.all() and packed.given.all()


def test_a_sequence_is_packed_the_same_whatever_its_batch():
    short, long = [text(1), picture([[0]])], [text(*range(9)), picture([[0, 1], [2, 3]])]
    alone, batch = pack([short], VOCABULARY), pack([long, short], VOCABULARY)
    for field in fields(Packed):
        assert torch.equal(getattr(batch, field.name)[1, : alone.ids.shape[1]], getattr(alone, field.name)[0])


def test_positions_start_where_they_are_told():
    assert torch.equal(text_positions(3, start=4), text_positions(7)[4:])
    assert torch.equal(media_positions((2, 3), start=5), media_positions((2, 3)) + 5)
    assert torch.equal(media_positions((1, 2, 3)), media_positions((2, 3)))


def test_prompts_begin_with_begin_and_say_which_tokens_are_real():
    ids, real = prompt_batch([[3, 4], [], [5]], VOCABULARY)
    assert ids.tolist() == [[BEGIN, 3, 4], [BEGIN, 0, 0], [BEGIN, 5, 0]]
    assert real.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert ids.dtype == torch.long and real.dtype == torch.bool


def test_a_batch_of_prompts_is_their_packed_text():
    prompts = [[3, 4], [], [5]]
    ids, real = prompt_batch(prompts, VOCABULARY)
    packed = pack([[text(*prompt)] for prompt in prompts], VOCABULARY)
    assert torch.equal(ids, packed.ids[..., 0].clamp(min=0)) and torch.equal(real, packed.segments == 0)


@pytest.mark.parametrize("wrong", [-1, 10, 11, 10_000])
def test_tokens_outside_the_text_vocabulary_are_refused(wrong):
    """Unchecked, they would be read as special tokens or as codes."""
    with pytest.raises(ValueError, match=r"text ids must lie in \[0, 10\)"):
        prompt_batch([[1], [2, wrong]], VOCABULARY)
    with pytest.raises(ValueError, match=r"text ids must lie in \[0, 10\)"):
        pack([[text(1, wrong)]], VOCABULARY)
