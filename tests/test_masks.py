"""Laws of models/masks.py, drawn by hand: x where the token of the row may look at the token of the column."""

import torch

from tokenloom.models.masks import causal_mask, frames_mask, packed_mask, same_place, segment_mask


def drawn(text: str) -> list[list[bool]]:
    return [[cell == "x" for cell in row.split()] for row in text.strip().splitlines()]


def test_a_causal_token_sees_itself_and_what_came_before():
    assert causal_mask(3).tolist() == drawn("""
        x . .
        x x .
        x x x
    """)


def test_a_segment_after_a_prompt_of_three_tokens_as_the_file_draws_it():
    past = torch.ones(2, 3, dtype=torch.bool)
    mask = segment_mask(past, torch.tensor([True, False]), 3)
    assert mask.shape == (2, 1, 3, 6)
    assert mask[0, 0].tolist() == drawn("""
        x x x x . .
        x x x x x .
        x x x x x x
    """)
    assert mask[1, 0].tolist() == drawn("""
        x x x x x x
        x x x x x x
        x x x x x x
    """)


def test_nobody_sees_the_padding_of_a_shorter_prompt():
    past = torch.tensor([[True, True, False]])
    assert segment_mask(past, torch.tensor([True]), 2)[0, 0].tolist() == drawn("""
        x x . x .
        x x . x x
    """)


def test_text_then_a_causal_picture_then_a_bidirectional_one():
    segments = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2]])
    causal = segments < 2
    assert packed_mask(segments, causal).shape == (1, 1, 8, 8)
    assert packed_mask(segments, causal)[0, 0].tolist() == drawn("""
        x . . . . . . .
        x x . . . . . .
        x x x . . . . .
        x x x x . . . .
        x x x x x . . .
        x x x x x x x x
        x x x x x x x x
        x x x x x x x x
    """)


def test_a_bidirectional_picture_in_the_middle_does_not_see_the_text_after_it():
    segments = torch.tensor([[0, 1, 1, 2, 2]])
    assert packed_mask(segments, segments != 1)[0, 0].tolist() == drawn("""
        x . . . .
        x x x . .
        x x x . .
        x x x x .
        x x x x x
    """)


def test_padding_sees_itself_alone_and_is_seen_by_nobody():
    segments = torch.tensor([[0, 1, 1, -1, -1]])
    assert packed_mask(segments, torch.tensor([[True, False, False, True, True]]))[0, 0].tolist() == drawn("""
        x . . . .
        x x x . .
        x x x . .
        . . . x .
        . . . . x
    """)


def test_each_sequence_of_a_batch_has_its_own_mask():
    segments = torch.tensor([[0, 1, 1], [0, 0, 1]])
    causal = torch.tensor([[True, False, False], [True, True, False]])
    both = packed_mask(segments, causal)
    for row in range(2):
        assert torch.equal(both[row], packed_mask(segments[row : row + 1], causal[row : row + 1])[0])


def test_two_given_frames_of_two_slots_after_a_padded_prompt():
    past = torch.tensor([[True, False]])
    assert frames_mask(past, frames=2, length=2)[0, 0].tolist() == drawn("""
        x . x x . .
        x . x x . .
        x . x x x x
        x . x x x x
    """)


def test_factorized_a_slot_sees_of_other_frames_only_its_own_place():
    past = torch.tensor([[True, True]])
    assert frames_mask(past, frames=3, length=2, factorized=True)[0, 0].tolist() == drawn("""
        x x x x . . . .
        x x x x . . . .
        x x x . x x . .
        x x . x x x . .
        x x x . x . x x
        x x . x . x x x
    """)
    allowed = same_place(torch.tensor([-1, -1, 0, 1]), 2)
    everything = torch.ones(1, 4, dtype=torch.bool)
    assert segment_mask(everything, torch.tensor([True]), 2, allowed)[0, 0].tolist() == drawn("""
        x x x . x .
        x x . x x x
    """)


def test_factorized_in_one_pass_frames_see_their_own_place_and_text_sees_all():
    """A text of one token, two frames of two slots, a text: a slot of a frame sees all text before it."""
    segments = torch.tensor([[0, 1, 1, 2, 2, 3]])
    places = torch.tensor([[-1, 0, 1, 0, 1, -1]])
    assert packed_mask(segments, torch.zeros_like(segments, dtype=torch.bool), places)[0, 0].tolist() == drawn("""
        x . . . . .
        x x x . . .
        x x x . . .
        x x . x x .
        x . x x x .
        x x x x x x
    """)
