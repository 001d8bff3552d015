"""Prompts: what is stated of a scene, in one of several phrasings, among words that state nothing.

The number of objects of a group is always stated, its colour and size mostly. A prompt may deny (``no star``, ``a circle that is
not red``) or contradict itself (``a red circle ... the circle is blue``). Words without content fill it up to a length that is
drawn apart from what is stated, so that prompt length tells little about the number of elements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.shapes.scene import (
    COLORS,
    NUMBERS,
    SHAPES,
    SIZES,
    Group,
    Scene,
    count_question,
    noun,
    plural,
    relation,
    sample_scene,
)

DEFAULT_PROMPTS = 1000  # of the benchmark proper; a smaller one has the first of these
MAX_PROMPTS = 10_000
_PROMPTS, _EXTRA = 1, 6  # random streams of their own, apart from those of `make`

PHRASINGS = ("chain", "nested", "sentences", "listing", "inverted")
NEGATION = "negation"

#: Words of a prompt: the least and the most that its length is drawn from; what it states may take more.
LENGTHS = (24, 43)
_STATED = 0.8  # probability that a colour or a size is stated
_NOT_COLOR = 0.35  # of those colours that are not stated: share that is denied
_ABSENT, _CONFLICT = 0.15, 0.06  # shares of prompts

_OPENINGS = (
    "a picture of",
    "an image of",
    "please draw",
    "show me",
    "a simple drawing of",
    "we want to see",
    "my friend would like",
    "for our new book please draw",
    "this time i would like to have",
)
_SENTENCES = (
    ("please", ("draw", "make", "paint"), "it", ("with care", "as you like", "in your own way")),
    (("it", "this picture"), "is for", ("my", "our", "their"), ("wall", "book", "card", "game", "school", "friend")),
    (("we", "i", "my friends"), ("like", "love", "want"), ("simple", "plain", "flat", "new"), ("pictures", "drawings")),
    ("take", ("your", "some"), "time", ("please", "for it", "as before")),
    (("thank you", "thanks"), ("for your help", "my friend", "for this picture")),
    ("keep", ("the style", "the paper", "the page"), ("plain", "simple", "flat", "as before")),
    (("yesterday", "last week", "last year"), "we made", ("another", "some other"), ("picture", "drawing", "card")),
    (("the page", "the paper"), "can be", ("plain", "simple", "flat", "new")),
    (("our", "my"), ("school", "game", "book"), "has", ("many", "some", "few"), "pictures like this"),
    ("nothing else", ("is needed", "is asked for", "please")),
)


@dataclass(frozen=True)
class Conflict:
    """A second value that a prompt states of a group, which contradicts the first.

    Attributes:
        group: number of the group.
        attribute: ``color``, ``size`` or ``count``.
        value: the second value.
    """

    group: int
    attribute: str
    value: str | int


@dataclass(frozen=True)
class ScenePrompt:
    """What a prompt states.

    Attributes:
        scene: a scene that satisfies all of it, but for a contradiction.
        stated: for each group, which of ``color`` and ``size`` are stated; the count always is.
        not_color: for each group, the colour that it shall not have, or None.
        absent: a shape that shall not be there, or None.
        conflict: the contradiction, or None.
        phrasing: one of `PHRASINGS`.
        before, after: words that state nothing.
    """

    scene: Scene
    stated: tuple[tuple[str, ...], ...]
    not_color: tuple[str | None, ...]
    absent: str | None = None
    conflict: Conflict | None = None
    phrasing: str = "chain"
    before: str = ""
    after: str = ""

    @staticmethod
    def of(scene: Scene) -> ScenePrompt:
        """The prompt that states everything about ``scene`` in the first phrasing, and nothing else."""
        n = len(scene.groups)
        return ScenePrompt(scene, (("color", "size"),) * n, (None,) * n)

    @property
    def core(self) -> str:
        """What the prompt states, in the first phrasing: two prompts with the same core ask for the same."""
        return prompt_text(replace(self, phrasing=PHRASINGS[0], before="", after=""))

    def kinds(self) -> dict[str, Any]:
        """Phrasing, and whether the prompt nests descriptions, denies, or contradicts itself."""
        return {
            "phrasing": self.phrasing,
            "nested": self.phrasing in ("chain", "nested") and len(self.scene.groups) > 2,
            "negated": self.absent is not None or any(self.not_color),
            "contradictory": self.conflict is not None,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form; `from_json` reads it back."""
        return asdict(self) | {"scene": self.scene.to_json()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ScenePrompt:
        """The prompt that `to_json` wrote."""
        return ScenePrompt(
            Scene.from_json(value["scene"]),
            tuple(tuple(names) for names in value["stated"]),
            tuple(value["not_color"]),
            value["absent"],
            None if value["conflict"] is None else Conflict(**value["conflict"]),
            value["phrasing"],
            value["before"],
            value["after"],
        )


@dataclass(frozen=True)
class SceneElement:
    """One checkable part of a prompt.

    Attributes:
        element_id: stable within the prompt, e.g. ``circle``, ``circle.color``, ``circle.left_of.square``, ``star.absent``.
        text: the part as a phrase.
        skill: ``object``, ``color``, ``size``, ``counting``, ``spatial`` or ``negation``.
        question: a question whose answer is "yes" where the image satisfies the element.
        parents: ids of the elements without which the question has no subject.
    """

    element_id: str
    text: str
    skill: str
    question: str
    parents: tuple[str, ...]


def check_number(n_prompts: int) -> None:
    """Raise a `T2IEvalError` where ``n_prompts`` is not between 1 and `MAX_PROMPTS`."""
    if not 1 <= n_prompts <= MAX_PROMPTS:
        raise T2IEvalError(f"The number of shapes prompts is {n_prompts}; choose 1 to {MAX_PROMPTS}.")


def sample_prompts(n_prompts: int, seed: int) -> list[ScenePrompt]:
    """``n_prompts`` prompts, no two of which state the same, in whatever words.

    Raises:
        T2IEvalError: ``n_prompts`` is not between 1 and `MAX_PROMPTS`.
    """
    check_number(n_prompts)
    return _distinct(n_prompts, np.random.default_rng([seed, _PROMPTS]), frozenset())


def extra_prompts(n_prompts: int, seed: int, without: Collection[str]) -> list[ScenePrompt]:
    """Further prompts that state nothing that a prompt of the benchmark states.

    Args:
        n_prompts: how many, 1 to `MAX_PROMPTS`.
        seed: random seed of the drawing.
        without: the cores (`ScenePrompt.core`) that must not occur, as of `sample_prompts`.
    """
    check_number(n_prompts)
    return _distinct(n_prompts, np.random.default_rng([seed, _EXTRA]), frozenset(without))


def _distinct(n_prompts: int, rng: np.random.Generator, without: frozenset[str]) -> list[ScenePrompt]:
    prompts: dict[str, ScenePrompt] = {}
    while len(prompts) < n_prompts:
        prompt = sample_prompt(rng)
        if prompt.core not in without:
            prompts.setdefault(prompt.core, prompt)
    return list(prompts.values())


def sample_prompt(rng: np.random.Generator) -> ScenePrompt:
    """A random prompt about a random scene, filled to a length of its own (`LENGTHS`, in words)."""
    return fill(sample_statement(sample_scene(rng), rng), int(rng.integers(LENGTHS[0], LENGTHS[1] + 1)), rng)


def sample_statement(scene: Scene, rng: np.random.Generator) -> ScenePrompt:
    """A random statement about ``scene`` in a random phrasing, without filling words."""
    n = len(scene.groups)
    stated = tuple(tuple(name for name in ("color", "size") if rng.random() < _STATED) for _ in range(n))
    denied = tuple(
        _other(COLORS, group.color, rng) if "color" not in names and rng.random() < _NOT_COLOR else None
        for group, names in zip(scene.groups, stated, strict=True)
    )
    absent = None
    if n < 4 and rng.random() < _ABSENT:  # a picture of four groups has no room for a fifth
        unused = [shape for shape in SHAPES if scene.find(shape) is None]
        absent = unused[int(rng.integers(len(unused)))]
    conflict = None
    if rng.random() < _CONFLICT:
        i = int(rng.integers(n))
        attribute = ("count", *stated[i])[int(rng.integers(1 + len(stated[i])))]
        conflict = Conflict(i, attribute, other_value(attribute, getattr(scene.groups[i], attribute), rng))
    return ScenePrompt(scene, stated, denied, absent, conflict, PHRASINGS[int(rng.integers(len(PHRASINGS)))])


def fill(prompt: ScenePrompt, words: int, rng: np.random.Generator) -> ScenePrompt:
    """``prompt`` with an opening and sentences before and after it, up to at least ``words`` words (eight more at most)."""
    opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))] if rng.random() < 0.5 else ""
    if prompt.phrasing in ("sentences", "inverted"):
        opening = ""  # these begin with a whole sentence
    missing = words - len(prompt_text(prompt).split()) - len(opening.split())
    before: list[str] = []
    after: list[str] = []
    for i in rng.permutation(len(_SENTENCES)):
        if missing <= 0:
            break
        parts = [part if isinstance(part, str) else part[int(rng.integers(len(part)))] for part in _SENTENCES[i]]
        sentence = " ".join(parts)
        missing -= len(sentence.split())
        (before if rng.random() < 0.3 else after).append(sentence)
    return replace(
        prompt,
        before=" ".join([*(f"{sentence}." for sentence in before), *([opening] if opening else [])]),
        after="".join(f". {sentence}" for sentence in after),
    )


def other_value(attribute: str, value: str | int, rng: np.random.Generator) -> str | int:
    """Another value than ``value`` of ``color``, ``size`` or ``count``."""
    if attribute == "count":
        return 1 + int(_other(("0", "1", "2"), str(int(value) - 1), rng))
    return _other(COLORS if attribute == "color" else SIZES, str(value), rng)


def _other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    rest = [v for v in values if v != value]
    return rest[int(rng.integers(len(rest)))]


def prompt_text(prompt: ScenePrompt) -> str:
    """The prompt in words."""
    body = _BODIES[prompt.phrasing](prompt)
    if prompt.absent is not None:
        body += f", and no {prompt.absent}" if prompt.phrasing == "chain" else f". there is no {prompt.absent}"
    if prompt.conflict is not None:
        body += f". {_conflict_text(prompt.scene.groups[prompt.conflict.group], prompt.conflict)}"
    return f"{prompt.before} {body}{prompt.after}".strip()


def group_text(prompt: ScenePrompt, number: int) -> str:
    """Group ``number`` as a noun phrase, e.g. ``two small blue squares`` or ``a large circle that is not red``."""
    group = prompt.scene.groups[number]
    words = ["a" if group.count == 1 else NUMBERS[group.count - 1]]
    words += [getattr(group, name) for name in ("size", "color") if name in prompt.stated[number]]
    denied = prompt.not_color[number]
    return " ".join(words) + f" {noun(group)}" + (f" that {_be(group)} not {denied}" if denied else "")


def _be(group: Group) -> str:
    return "is" if group.count == 1 else "are"


def _conflict_text(group: Group, conflict: Conflict) -> str:
    if conflict.attribute != "count":
        return f"the {noun(group)} {_be(group)} {conflict.value}"
    count = int(conflict.value)
    other = replace(group, count=count)
    return f"there {_be(other)} {NUMBERS[count - 1]} {noun(other)}"


def _pairs(prompt: ScenePrompt) -> list[tuple[Group, str, Group]]:
    groups = prompt.scene.groups
    return [(a, str(relation(a, b)), b) for a, b in pairwise(groups)]


def _chain(prompt: ScenePrompt) -> str:
    text = group_text(prompt, 0)
    for i, (a, stated, _) in enumerate(_pairs(prompt)):
        text += f"{f', which {_be(a)}' if i else ''} {stated} {group_text(prompt, i + 1)}"
    return text


def _nested(prompt: ScenePrompt) -> str:
    text = group_text(prompt, 0)
    for i, (a, stated, _) in enumerate(_pairs(prompt)):
        link = " and" if prompt.not_color[i] else f" that {_be(a)}"
        text += f"{link} {stated} {group_text(prompt, i + 1)}"
    return text


def _sentences(prompt: ScenePrompt) -> str:
    text = f"there {_be(prompt.scene.groups[0])} {group_text(prompt, 0)}"
    for i, (a, stated, _) in enumerate(_pairs(prompt)):
        text += f". the {noun(a)} {_be(a)} {stated} {group_text(prompt, i + 1)}"
    return text


def _listing(prompt: ScenePrompt) -> str:
    names = [group_text(prompt, i) for i in range(len(prompt.scene.groups))]
    text = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    sentences = [f"the {noun(a)} {_be(a)} {stated} the {noun(b)}" for a, stated, b in _pairs(prompt)]
    return text + (f". {', '.join(sentences)}" if sentences else "")


def _inverted(prompt: ScenePrompt) -> str:
    groups = prompt.scene.groups
    if len(groups) == 1:
        return f"in the image there {_be(groups[0])} {group_text(prompt, 0)}"
    sentences = []
    for i, (a, stated, _) in enumerate(_pairs(prompt)):
        first = f"there {_be(a)} {group_text(prompt, 0)}" if i == 0 else f"{_be(a)} the {noun(a)}"
        sentences.append(f"{stated} {group_text(prompt, i + 1)} {first}")
    return ". ".join(sentences)


_BODIES = {
    "chain": _chain,
    "nested": _nested,
    "sentences": _sentences,
    "listing": _listing,
    "inverted": _inverted,
}


def prompt_words() -> set[str]:
    """Every word that a prompt can hold, punctuation apart."""
    words = {"a", "an", "the", "and", "no", "not", "which", "that", "is", "are", "there", "in", "image"}
    for sentence in _SENTENCES:
        for part in sentence:
            for words_of in (part,) if isinstance(part, str) else part:
                words.update(words_of.split())
    for opening in _OPENINGS:
        words.update(opening.split())
    return words | {"left", "right", "of", "above", "below", *SHAPES, *map(plural, SHAPES), *COLORS, *SIZES, *NUMBERS}


def elements(prompt: ScenePrompt) -> list[SceneElement]:
    """The elements of the prompt, group by group, then relations, what shall be absent, and a contradiction."""
    out: list[SceneElement] = []
    for g, stated, denied in zip(prompt.scene.groups, prompt.stated, prompt.not_color, strict=True):
        s, parent = g.shape, (g.shape,)
        out.append(SceneElement(s, s, "object", f"is there a {s} ?", ()))
        out += [_attribute(s, name, getattr(g, name)) for name in ("color", "size") if name in stated]
        if denied:
            question = f"is the {s} not {denied} ?"
            out.append(SceneElement(f"{s}.not_color", f"{s} not {denied}", NEGATION, question, parent))
        out.append(_attribute(s, "count", g.count))
    for a, stated_relation, b in _pairs(prompt):
        out.append(
            SceneElement(
                f"{a.shape}.{stated_relation.replace(' ', '_')}.{b.shape}",
                f"{a.shape} {stated_relation} {b.shape}",
                "spatial",
                f"is the {a.shape} {stated_relation} the {b.shape} ?",
                (a.shape, b.shape),
            )
        )
    if prompt.absent is not None:
        name = prompt.absent
        out.append(SceneElement(f"{name}.absent", f"no {name}", NEGATION, f"is there no {name} ?", ()))
    if prompt.conflict is not None:
        conflict = prompt.conflict
        element = _attribute(prompt.scene.groups[conflict.group].shape, conflict.attribute, conflict.value)
        out.append(replace(element, element_id=f"{element.element_id}.conflict"))
    return out


def _attribute(shape: str, name: str, value: str | int) -> SceneElement:
    if name == "count":
        count = int(value)
        text = f"{NUMBERS[count - 1]} {shape if count == 1 else plural(shape)}"
        return SceneElement(f"{shape}.count", text, "counting", count_question(shape, count), (shape,))
    return SceneElement(f"{shape}.{name}", f"{value} {shape}", name, f"is the {shape} {value} ?", (shape,))
