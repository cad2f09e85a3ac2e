"""Captions of the clips of the built-in world: who does what, and many ways to say it.

An `Act` is one clause, "a red square moves right". The first paraphrase of every list is the plain one, as in
`scene_captions`, so `pick=first` gives the captions of evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .scene_captions import ARTICLES, Named, Pick, first, noun_phrase

MOTIONS = ("moves", "grows", "shrinks", "turns", "appears", "disappears", "circles")
DIRECTIONS = ("left", "right", "up", "down")

VERBS = {
    "moves left": ("moves left", "moves to the left", "slides left", "goes to the left"),
    "moves right": ("moves right", "moves to the right", "slides right", "goes to the right"),
    "moves up": ("moves up", "slides up", "goes up", "rises"),
    "moves down": ("moves down", "slides down", "goes down", "sinks"),
    "grows": ("grows", "grows", "gets bigger", "becomes bigger"),
    "shrinks": ("shrinks", "shrinks", "gets smaller", "becomes smaller"),
    "turns": ("turns {color}", "turns {color}", "becomes {color}", "changes to {color}"),
    "appears": ("appears", "appears", "shows up"),
    "disappears": ("disappears", "disappears", "vanishes"),
    "circles": ("circles {around}", "circles {around}", "goes around {around}", "moves around {around}"),
}
PARTICIPLES = {
    "moves": "moving",
    "slides": "sliding",
    "goes": "going",
    "rises": "rising",
    "sinks": "sinking",
    "grows": "growing",
    "gets": "getting",
    "shrinks": "shrinking",
    "becomes": "becoming",
    "turns": "turning",
    "changes": "changing",
    "appears": "appearing",
    "shows": "showing",
    "disappears": "disappearing",
    "vanishes": "vanishing",
    "circles": "circling",
}

# {scene}: "a star grows"; {doing}: "a star growing"
CLIP_SENTENCES = (
    "{scene}",
    "{scene}",
    "{scene}",
    "{scene}",
    "a clip of {doing}",
    "a video of {doing}",
    "a clip in which {scene}",
    "there is {doing}",
)
CLIP_SENTENCES_WITH_BACKGROUND = (
    "{scene} on a {background} background",
    "{scene} on a {background} background",
    "{scene} against a {background} background",
    "{scene}, {background} background",
    "a clip of {doing} on a {background} background",
    "a video of {doing} on a {background} background",
    "a clip in which {scene} against a {background} background",
    "there is {doing} on a {background} background",
    "on a {background} background, {scene}",
    "on a {background} background {scene}",
)
CLIP_PAIRS = ("{a} while {b}", "{a} while {b}", "{b} while {a}", "{a} and {b}", "{a}, {b}")


@dataclass(frozen=True)
class Act:
    """One clause: a single object and what it does. What it has at the first frame is named, its size for example."""

    actor: Named
    motion: str  # one of MOTIONS
    direction: str | None = None  # one of DIRECTIONS, if it moves
    color: str | None = None  # at the last frame, if it turns
    around: Named | None = None  # the still object, if it circles one

    @property
    def things(self) -> tuple[Named, ...]:
        return (self.actor,) if self.around is None else (self.actor, self.around)


@dataclass(frozen=True)
class ClipRequest:
    """All that a caption of a clip asks."""

    text: str
    acts: tuple[Act, ...]
    background: str

    @property
    def kind(self) -> str:
        """The motion, or "two" where two objects move, each in its own way."""
        return self.acts[0].motion if len(self.acts) == 1 else "two"


def participle(words: str) -> str:
    """ "gets bigger" -> "getting bigger"."""
    verb, *rest = words.split(" ")
    return " ".join((PARTICIPLES[verb], *rest))


def clip_caption(acts: Sequence[Act], background: str | None = None, pick: Pick = first) -> str:
    """The acts in words; `background` None means that it goes unsaid."""
    sentence = pick(CLIP_SENTENCES_WITH_BACKGROUND if background else CLIP_SENTENCES)
    bare = sentence.startswith("{scene}")  # "red heart grows" alone may pass, "a clip of red heart growing" does not
    article = pick(ARTICLES if bare else ARTICLES[:-1])
    clauses = [_clause(act, article, pick, doing="{doing}" in sentence) for act in acts]
    scene = pick(CLIP_PAIRS).format(a=clauses[0], b=clauses[1]) if len(clauses) == 2 else clauses[0]
    return sentence.format(scene=scene, doing=scene, background=background)


def _clause(act: Act, article: str, pick: Pick, doing: bool) -> str:
    words = pick(VERBS[f"moves {act.direction}" if act.direction else act.motion])
    around = noun_phrase(act.around, article) if act.around else None
    words = words.format(color=act.color, around=around)
    return f"{noun_phrase(act.actor, article)} {participle(words) if doing else words}"
