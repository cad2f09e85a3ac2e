"""What a caption asks, from its words alone: `scene_captions.caption` undone.

So a prompt that somebody typed can be judged by the detector, if it is a caption of the built-in world. A phrase is
taken apart by a pattern and put together again by the grammar: only what comes out as it went in has been understood.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from .scene_captions import (
    ARTICLES,
    GROUPS,
    NUMBERS,
    PAIRS,
    PLACED,
    PLACES,
    RELATIONS,
    SENTENCES,
    SENTENCES_WITH_BACKGROUND,
    Named,
    Request,
    noun_phrase,
)
from .scene_render import BACKGROUNDS, COLORS, SHAPES

MAX_OBJECTS = 6
MAX_LETTERS = 1000  # the longest caption has about 400


def one_of(words: Sequence[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


def template_patterns(templates: Sequence[str], **parts: str) -> list[re.Pattern[str]]:
    """Each different template once, as a pattern: what is in braces becomes a group of that name."""
    patterns = []
    for template in dict.fromkeys(templates):
        literal = re.sub(r"\\{(\w+)\\}", lambda group: f"(?P<{group[1]}>{parts[group[1]]})", re.escape(template))
        patterns.append(re.compile(literal))
    return patterns


NOUN = re.compile(
    rf"(?:(?P<article>{one_of([word for word in {*ARTICLES, 'an', *NUMBERS[2:]} if word])}) )?"
    rf"(?:(?P<size>small|large) )?(?:(?P<color>{one_of(list(COLORS))}) )?(?P<shape>{one_of(list(SHAPES))})(?:s|es)?"
)
PHRASE = r"[^,:]+?"
SENTENCE_PATTERNS = template_patterns(
    (*SENTENCES_WITH_BACKGROUND, *SENTENCES),
    scene=r".+",
    there=r"there (?:is|are)",
    background=one_of(list(BACKGROUNDS)),
)
RELATION_PATTERNS = [
    (relation, re.compile(pattern))
    for relation, words in RELATIONS.items()
    for pattern in (
        *(rf"(?P<a>{PHRASE}) {re.escape(word)} (?P<b>{PHRASE})" for word in words[:-1]),
        rf"(?P<b>{PHRASE}) with (?P<a>{PHRASE}) {re.escape(words[-1])}",
    )
]
PAIR_PATTERNS = template_patterns(PAIRS, a=PHRASE, b=PHRASE)
GROUP_PATTERNS = template_patterns(GROUPS, a=PHRASE)
PLACED_PATTERNS = template_patterns(PLACED, a=PHRASE, place=one_of(PLACES))
TOTAL = re.compile(rf"(?P<total>{one_of(NUMBERS[1:])}) objects?: ")


def parse(text: str) -> Request | None:
    """What a caption asks, or None if it is none of this world. Case, outer blanks and a final stop do not matter.

    Two objects without a relation come in the order of the words: the request they were made from may name them in the
    other order, and asks the same.
    """
    words = " ".join(text.lower().split()).removesuffix(".") if len(text) <= MAX_LETTERS else ""
    for pattern in SENTENCE_PATTERNS:
        if match := pattern.fullmatch(words):
            for named, relation in _scenes(match["scene"]):
                if sum(item.count for item in named) <= MAX_OBJECTS:
                    background = match.groupdict().get("background") or "white"
                    return Request(_kind(named, relation), text, named, relation, background)
    return None


def _kind(named: tuple[Named, ...], relation: str | None) -> str:
    if named[0].place is not None:
        return "full"
    if relation is not None:
        return "position"
    colored = any(item.color for item in named)
    if len(named) == 2:
        return "binding" if colored else "two"
    return "counting" if named[0].count > 1 else "colors" if colored else "single"


def _scenes(scene: str) -> Iterator[tuple[tuple[Named, ...], str | None]]:
    """The ways to read the scene of a sentence: what is named, and the relation."""
    if placed := _placed(scene):
        yield placed, None
    for relation, pattern in RELATION_PATTERNS:
        if (match := pattern.fullmatch(scene)) and (pair := _pair(match)):
            yield pair, relation
    for pattern in PAIR_PATTERNS:
        if (match := pattern.fullmatch(scene)) and (pair := _pair(match)):
            yield pair, None
    for pattern in GROUP_PATTERNS:
        if (match := pattern.fullmatch(scene)) and (one := parse_noun(match["a"])):
            if one.count > 1 or match["a"] == scene:  # "exactly a star" is no caption
                yield (one,), None


def parse_noun(phrase: str) -> Named | None:
    """ "three small diamonds" -> Named: `noun_phrase` undone."""
    match = NOUN.fullmatch(phrase)
    if not match:
        return None
    article = match["article"] or ""
    count = NUMBERS.index(article) if article in NUMBERS else 1
    named = Named(count, match["shape"], match["color"], match["size"])
    return named if noun_phrase(named, "a" if article == "an" else article) == phrase else None


def _pair(match: re.Match[str]) -> tuple[Named, ...] | None:
    """Two single objects, in the order of `a` and `b` where a relation needs it."""
    one, other = parse_noun(match["a"]), parse_noun(match["b"])
    return (one, other) if one and other and one.count == other.count == 1 else None


def _placed(scene: str) -> tuple[Named, ...] | None:
    """Phrases with their places, "a red star at the top left, a ring centre", with or without their number before."""
    total = TOTAL.match(scene)
    named = []
    for item in scene[total.end() if total else 0 :].split(", "):
        found = [
            replace(noun, place=match["place"])
            for pattern in PLACED_PATTERNS
            if (match := pattern.fullmatch(item)) and (noun := parse_noun(match["a"])) and noun.count == 1
        ]
        if not found:
            return None
        named.append(found[0])
    return tuple(named) if not total or NUMBERS.index(total["total"]) == len(named) else None
