"""Captions of the built-in world: what is asked for, and many ways to say it.

A `Request` holds everything that a caption asks; `caption` puts it into words. The first paraphrase of every list is
the plain one, so `pick=first` gives the short captions of evaluation, and a random `pick` those of training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
RELATIONS = {
    "left of": ("to the left of", "left of", "on the left of", "to its left"),
    "right of": ("to the right of", "right of", "on the right of", "to its right"),
    "above": ("above", "over", "higher than", "above it"),
    "below": ("below", "under", "beneath", "below it"),
}  # of each, the last is said of the first object after the second: "a square with a cross to its left"
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")

SENTENCES = (
    "{scene}",
    "{scene}",
    "{scene}",
    "{scene}",
    "an image of {scene}",
    "a picture of {scene}",
    "a drawing of {scene}",
    "{there} {scene}",
)
SENTENCES_WITH_BACKGROUND = (
    "{scene} on a {background} background",
    "{scene} on a {background} background",
    "{scene} against a {background} background",
    "{scene}, {background} background",
    "an image of {scene} on a {background} background",
    "a picture of {scene} on a {background} background",
    "a drawing of {scene} against a {background} background",
    "{there} {scene} on a {background} background",
    "on a {background} background, {scene}",
    "on a {background} background {there} {scene}",
)
PAIRS = ("{a} and {b}", "{a} and {b}", "{b} and {a}", "{a} with {b}", "{b}, {a}", "both {a} and {b}")
GROUPS = ("{a}", "{a}", "{a}", "exactly {a}", "a group of {a}")
ARTICLES = ("a", "a", "a", "one", "")
PLACED = ("{a} at the {place}", "{a} at the {place}", "{a} {place}", "at the {place} {a}")


@dataclass(frozen=True)
class Named:
    """One noun phrase: `count` objects of a shape. None leaves color, size or place open."""

    count: int
    shape: str
    color: str | None = None
    size: str | None = None  # "small" or "large"
    place: str | None = None  # one of PLACES; said only by captions that say everything


@dataclass(frozen=True)
class Request:
    """All that a caption asks. With a relation, `named[0]` stands in that relation to `named[1]`."""

    kind: str
    text: str
    named: tuple[Named, ...]
    relation: str | None
    background: str


Pick = Callable[[Sequence[str]], str]


def first(options: Sequence[str]) -> str:
    """The plain paraphrase."""
    return options[0]


def noun_phrase(named: Named, article: str = "a") -> str:
    """ "an orange heart", "three small diamonds"; the article ("a", "one" or none) is for single objects."""
    noun = named.shape
    if named.count > 1:
        article = NUMBERS[named.count]
        noun += "es" if noun.endswith("ss") else "s"
    words = " ".join(word for word in (named.size, named.color, noun) if word)
    if article == "a" and words[0] in "aeiou":
        article = "an"
    return f"{article} {words}".strip()


def caption(
    named: Sequence[Named], relation: str | None = None, background: str | None = None, pick: Pick = first
) -> str:
    """The request in words; `background` None means that it goes unsaid."""
    sentence = pick(SENTENCES_WITH_BACKGROUND if background else SENTENCES)
    bare = sentence.startswith("{scene}")  # "red heart" alone is English, "an image of red heart" is not
    article = pick(ARTICLES if bare else ARTICLES[:-1])
    phrases = [noun_phrase(item, article) for item in named]
    if named[0].place is not None:
        scene = _placed(named, phrases, pick)
    elif relation is not None:
        scene = _related(phrases, relation, pick)
    elif len(phrases) == 2:
        scene = pick(PAIRS).format(a=phrases[0], b=phrases[1])
    else:
        scene = pick(GROUPS).format(a=phrases[0]) if named[0].count > 1 else phrases[0]
    there = "there are" if scene.split()[0] in ("both", "exactly", *NUMBERS[2:]) else "there is"
    return sentence.format(scene=scene, there=there, background=background)


def _related(phrases: Sequence[str], relation: str, pick: Pick) -> str:
    word = pick(RELATIONS[relation])
    if word == RELATIONS[relation][-1]:
        return f"{phrases[1]} with {phrases[0]} {word}"
    return f"{phrases[0]} {word} {phrases[1]}"


def _placed(named: Sequence[Named], phrases: Sequence[str], pick: Pick) -> str:
    pattern = pick(PLACED)
    items = [pattern.format(a=phrase, place=item.place) for item, phrase in zip(named, phrases, strict=True)]
    total = f"{NUMBERS[len(items)]} object{'s' if len(items) > 1 else ''}"
    return pick(("{items}", "{total}: {items}")).format(total=total, items=", ".join(items))
