"""Items made ahead are those that would have been made here, in order, whoever asks and however."""

import os

import pytest
import torch

from tokenloom.data.made_ahead import MadeAhead


def squares(number: int) -> tuple[torch.Tensor, int]:
    return torch.tensor([number, number * number]), os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_items_come_in_order_whatever_the_workers(workers, stride):
    made = MadeAhead(squares, workers, stride)
    numbers = range(5, 5 + 12 * stride, stride)
    items = [made(number) for number in numbers]
    assert [item[0].tolist() for item in items] == [[n, n * n] for n in numbers]
    makers = {process for _, process in items}
    assert makers == {os.getpid()} if workers == 0 else len(makers) == workers and os.getpid() not in makers


def test_a_number_out_of_turn_is_made_and_the_next_ones_follow_it():
    made = MadeAhead(squares, 2)
    assert [made(n)[0][0].item() for n in (0, 1, 7, 8, 3)] == [0, 1, 7, 8, 3]


def test_what_cannot_be_made_is_told_to_who_asks():
    def fails(number: int) -> int:
        raise ValueError(f"no item {number}; ask for another")

    with pytest.raises(ValueError, match="no item 4; ask for another"):
        MadeAhead(fails, 1)(4)


@pytest.mark.parametrize(("workers", "stride"), [(-1, 1), (0, 0)])
def test_impossible_numbers_are_refused(workers, stride):
    with pytest.raises(ValueError, match="must not be negative and stride at least 1"):
        MadeAhead(squares, workers, stride)
