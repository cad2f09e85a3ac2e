"""What the caption of a clip asks, from its words alone: `clip_captions.clip_caption` undone.

So a prompt that somebody typed can be judged by the detector, if it is a caption of the built-in clips.
"""

import re

from .clip_captions import (
    CLIP_PAIRS,
    CLIP_SENTENCES,
    CLIP_SENTENCES_WITH_BACKGROUND,
    VERBS,
    Act,
    ClipRequest,
    participle,
)
from .scene_captions import Named
from .scene_parser import MAX_LETTERS, PHRASE, one_of, parse_noun, template_patterns
from .scene_render import BACKGROUNDS, COLORS

SENTENCE_PATTERNS = template_patterns(
    (*CLIP_SENTENCES_WITH_BACKGROUND, *CLIP_SENTENCES),
    scene=r".+",
    doing=r".+",
    background=one_of(list(BACKGROUNDS)),
)
PAIR_PATTERNS = template_patterns(CLIP_PAIRS, a=PHRASE, b=PHRASE)


def _clause_patterns(doing: bool) -> list[tuple[str, re.Pattern[str]]]:
    """Motion, with its direction, and a pattern: "a star grows", or "a star growing"."""
    return [
        (motion, pattern)
        for motion, verbs in VERBS.items()
        for pattern in template_patterns(
            [f"{{actor}} {participle(words) if doing else words}" for words in verbs],
            actor=PHRASE,
            color=one_of(list(COLORS)),
            around=PHRASE,
        )
    ]


CLAUSE_PATTERNS = {"scene": _clause_patterns(doing=False), "doing": _clause_patterns(doing=True)}


def parse_clip(text: str) -> ClipRequest | None:
    """What a caption asks, or None if it is none of the clips. Case, outer blanks and a final stop do not matter.

    Two acts come in the order of the words; the request they were made from may name them in the other order.
    """
    words = " ".join(text.lower().split()).removesuffix(".") if len(text) <= MAX_LETTERS else ""
    for pattern in SENTENCE_PATTERNS:
        if match := pattern.fullmatch(words):
            parts = match.groupdict()
            for form, clauses in CLAUSE_PATTERNS.items():
                if form in parts and (acts := _acts(parts[form], clauses)):
                    return ClipRequest(text, acts, parts.get("background") or "white")
    return None


def _acts(scene: str, clauses: list[tuple[str, re.Pattern[str]]]) -> tuple[Act, ...] | None:
    if act := _act(scene, clauses):
        return (act,)
    for pattern in PAIR_PATTERNS:
        if match := pattern.fullmatch(scene):
            one, other = _act(match["a"], clauses), _act(match["b"], clauses)
            if one and other and _make_a_pair(one, other):
                return one, other
    return None


def _make_a_pair(one: Act, other: Act) -> bool:
    """Two objects of one shape could not be told apart, and an orbit leaves no room for a third object."""
    return one.actor.shape != other.actor.shape and one.around is None and other.around is None


def _act(clause: str, clauses: list[tuple[str, re.Pattern[str]]]) -> Act | None:
    for words, pattern in clauses:
        if not (match := pattern.fullmatch(clause)):
            continue
        parts = match.groupdict()
        actor, around = _single(parts["actor"]), _single(parts["around"]) if "around" in parts else None
        if actor is None or ("around" in parts and (around is None or around.shape == actor.shape)):
            continue
        motion, _, direction = words.partition(" ")
        color = parts.get("color")
        if color is None or color != actor.color:  # nothing turns into the color that it has
            return Act(actor, motion, direction or None, color, around)
    return None


def _single(phrase: str) -> Named | None:
    named = parse_noun(phrase)
    return named if named and named.count == 1 else None
