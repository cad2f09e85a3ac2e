"""Captions of clips and back: every caption that the world can say is understood, and nothing else is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.data.clip_captions import PARTICIPLES, VERBS, Act, clip_caption, participle
from tokenloom.data.clip_parser import parse_clip
from tokenloom.data.scene_captions import Named
from tokenloom.data.scene_clips import CLIP_KINDS, clip_prompts, draw_clip
from tokenloom.data.scene_parser import parse


def meaning(request):
    """All that a clip is asked to show; the order of the acts means nothing."""
    assert request is not None
    return request.kind, request.text, sorted(request.acts, key=repr), request.background


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_every_caption_is_understood(kind):
    generator = torch.Generator().manual_seed(0)
    for held_out in (False, True):
        for _ in range(400):
            request, _ = draw_clip(generator, kind, held_out)
            assert meaning(parse_clip(request.text)) == meaning(request)
            assert parse(request.text) is None  # no picture is asked for
        for request in clip_prompts(kind, 100, seed=1, held_out=held_out):
            assert meaning(parse_clip(request.text)) == meaning(request)


@pytest.mark.parametrize(
    ("acts", "background", "text"),
    [
        ([Act(Named(1, "square", "red"), "moves", direction="right")], None, "a red square moves right"),
        (
            [Act(Named(1, "star", "blue", "small"), "grows"), Act(Named(1, "ring"), "moves", direction="up")],
            None,
            "a small blue star grows while a ring moves up",
        ),
        ([Act(Named(1, "heart"), "turns", color="orange")], "navy", "a heart turns orange on a navy background"),
        (
            [Act(Named(1, "ring"), "circles", around=Named(1, "cross", "orange"))],
            None,
            "a ring circles an orange cross",
        ),
    ],
)
def test_the_plain_paraphrase(acts, background, text):
    assert clip_caption(acts, background) == text
    request = parse_clip(text)
    assert request is not None and (list(request.acts), request.background) == (acts, background or "white")


def test_every_verb_has_a_participle():
    assert {words.split(" ")[0] for verbs in VERBS.values() for words in verbs} == set(PARTICIPLES)
    assert participle("gets bigger") == "getting bigger"


def test_both_forms_and_any_case_are_understood():
    told = parse_clip("a star grows while a ring moves up")
    same = parse_clip("  A clip of a star growing while a ring moving up. ")
    assert told is not None and same is not None and told.acts == same.acts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a star",
        "a star flies",
        "a star grow",
        "a star growing",
        "a clip of a star grows",
        "a clip in which a star growing",
        "stars grow",
        "two stars grows",
        "a star turns",
        "a star turns beige",
        "a red star turns red",
        "a star moves right left",
        "a star circles",
        "a star circles a star",
        "a star circles two rings",
        "a star circles a ring while a heart grows",
        "a star grows while a star shrinks",
        "a star grows while a ring",
        "a star grows while a ring shrinks while a heart grows",
        "an star grows",
        "a star grows on a red background",
        "a star grows, " * 10_000,
    ],
)
def test_what_is_no_caption_is_not_understood(text):
    assert parse_clip(text) is None


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error_and_what_is_understood_keeps_its_words(text):
    request = parse_clip(text)
    assert request is None or request.text == text
