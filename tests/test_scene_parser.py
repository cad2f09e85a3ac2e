"""Captions and back: every caption that the world can say is understood, and nothing else is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.data.scene_captions import Named, Request
from tokenloom.data.scene_parser import parse
from tokenloom.data.scenes import HELD_OUT_KINDS, KINDS, draw_example, prompts


def meaning(request: Request | None) -> object:
    """All that a request asks. Without a relation the order of what is named means nothing."""
    assert request is not None
    named = request.named if request.relation else sorted(request.named, key=repr)
    return request.kind, request.text, list(named), request.relation, request.background


@pytest.mark.parametrize("kind", [*KINDS, "full"])
def test_every_caption_is_understood(kind):
    generator = torch.Generator().manual_seed(0)
    for _ in range(1000):
        request, _ = draw_example(generator, kind)
        assert meaning(parse(request.text)) == meaning(request)


@pytest.mark.parametrize("kind", HELD_OUT_KINDS)
def test_every_prompt_of_the_evaluation_is_understood(kind):
    for request in [*prompts(kind, 200, seed=1), *prompts(kind, 200, seed=1, held_out=True)]:
        assert meaning(parse(request.text)) == meaning(request)


def test_the_order_of_a_relation_is_kept():
    square, cross = Named(1, "square", "blue"), Named(1, "cross", "red")
    told = parse("a blue square with a red cross to its left")
    assert told is not None and (told.named, told.relation) == ((cross, square), "left of")
    same = parse("A red cross to the left of a blue square.")
    assert same is not None and (same.named, same.relation) == (told.named, told.relation)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a dog",
        "a star and",
        "a star and a ring and a heart",
        "an star",
        "a orange heart",
        "two star",
        "a stars",
        "three crosss",
        "seven stars",
        "no star",
        "exactly a star",
        "two stars and a ring",
        "two stars left of a ring",
        "a star on a red background",
        "a big star",
        "three objects: a star at the top, a ring at the bottom",
        "a star at the top, a ring",
        "a star not left of a ring",
        "a star, " * 10_000,
    ],
)
def test_what_is_no_caption_is_not_understood(text):
    assert parse(text) is None


@settings(deadline=None)
@given(st.text(max_size=60))
def test_what_is_understood_of_any_text_is_understood_again(text):
    request = parse(text)
    assert request is None or parse(request.text) == request
