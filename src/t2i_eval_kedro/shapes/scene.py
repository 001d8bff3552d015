"""Scenes, the grammar that writes a scene as a prompt, and the elements that a prompt asks for.

A scene has one to three groups, each in its own quadrant of the picture. A group is one to three equal objects. All
groups of a scene differ in shape, so that "the circle" names one group. Consecutive groups stand in adjacent quadrants
and a prompt states how::

    prompt   = group [relation group [", which" ("is" | "are") relation group]]
    group    = ("a" | "two" | "three") size color (shape | shape "s" | "crosses")
    relation = "left of" | "right of" | "above" | "below"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLORS = ("red", "green", "blue", "yellow", "purple")
SIZES = ("small", "large")
NUMBERS = ("one", "two", "three")
RELATIONS = ("left of", "right of", "above", "below")

#: Share of prompts with one, two and three groups.
GROUP_SHARES = (0.4, 0.4, 0.2)

_RELATION = {
    (0, 1): "left of",
    (2, 3): "left of",
    (1, 0): "right of",
    (3, 2): "right of",
    (0, 2): "above",
    (1, 3): "above",
    (2, 0): "below",
    (3, 1): "below",
}
_PATHS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0,), (1,), (2,), (3,)),
    2: ((0, 1), (1, 0), (2, 3), (3, 2), (0, 2), (2, 0), (1, 3), (3, 1)),
    3: ((0, 1, 3), (1, 3, 2), (3, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 3), (2, 3, 1), (3, 1, 0)),
}


@dataclass(frozen=True)
class Group:
    """``count`` equal objects in one quadrant (0 upper left, 1 upper right, 2 lower left, 3 lower right)."""

    shape: str
    color: str
    size: str
    count: int
    quadrant: int


@dataclass(frozen=True)
class Scene:
    """The groups of a picture, in the order in which a prompt names them."""

    groups: tuple[Group, ...]

    def find(self, shape: str) -> Group | None:
        """The group of this shape, or None."""
        return next((group for group in self.groups if group.shape == shape), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form; `from_json` reads it back."""
        return {"groups": [asdict(group) for group in self.groups]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Scene:
        """The scene that `to_json` wrote."""
        return Scene(tuple(Group(**group) for group in value["groups"]))


@dataclass(frozen=True)
class SceneElement:
    """One checkable part of a prompt.

    Attributes:
        element_id: stable within the prompt, e.g. ``circle``, ``circle.color``, ``circle.left_of.square``.
        text: the part as a phrase.
        skill: ``object``, ``color``, ``size``, ``counting`` or ``spatial``.
        question: a question whose answer is "yes" where the image satisfies the element.
        parents: ids of the elements without which the question has no subject.
    """

    element_id: str
    text: str
    skill: str
    question: str
    parents: tuple[str, ...]


def relation(first: Group, second: Group) -> str:
    """How ``first`` stands to ``second``; the two must be in adjacent quadrants."""
    return _RELATION[first.quadrant, second.quadrant]


def layouts(n_groups: int) -> tuple[tuple[int, ...], ...]:
    """All ways to put consecutive groups into adjacent quadrants."""
    return _PATHS[n_groups]


def layout_relations(layout: Sequence[int]) -> tuple[str, ...]:
    """The relations between consecutive groups under ``layout``."""
    return tuple(_RELATION[a, b] for a, b in pairwise(layout))


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random scene; the number of groups follows `GROUP_SHARES`, everything else is uniform."""
    n = 1 + int(rng.choice(len(GROUP_SHARES), p=GROUP_SHARES))
    shapes = rng.permutation(len(SHAPES))[:n]
    layout = layouts(n)[rng.integers(len(layouts(n)))]
    return Scene(
        tuple(
            Group(
                SHAPES[shape],
                COLORS[rng.integers(len(COLORS))],
                SIZES[rng.integers(len(SIZES))],
                int(rng.integers(1, 4)),
                quadrant,
            )
            for shape, quadrant in zip(shapes, layout, strict=True)
        )
    )


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return "crosses" if shape == "cross" else shape + "s"


def group_text(group: Group) -> str:
    """A group as a noun phrase, e.g. ``two small blue squares``."""
    if group.count == 1:
        return f"a {group.size} {group.color} {group.shape}"
    return f"{NUMBERS[group.count - 1]} {group.size} {group.color} {plural(group.shape)}"


def prompt_text(scene: Scene) -> str:
    """The scene as a prompt."""
    groups = scene.groups
    text = group_text(groups[0])
    if len(groups) > 1:
        text += f" {relation(groups[0], groups[1])} {group_text(groups[1])}"
    if len(groups) > 2:
        verb = "is" if groups[1].count == 1 else "are"
        text += f", which {verb} {relation(groups[1], groups[2])} {group_text(groups[2])}"
    return text


def count_question(shape: str, count: int) -> str:
    """The question whether there are exactly ``count`` objects of this shape."""
    return f"is there one {shape} ?" if count == 1 else f"are there {NUMBERS[count - 1]} {plural(shape)} ?"


def elements(scene: Scene) -> list[SceneElement]:
    """The elements of the scene's prompt: four for each group, then one for each stated relation."""
    out: list[SceneElement] = []
    for g in scene.groups:
        s, parent = g.shape, (g.shape,)
        number = NUMBERS[g.count - 1]
        out += [
            SceneElement(s, s, "object", f"is there a {s} ?", ()),
            SceneElement(f"{s}.color", f"{g.color} {s}", "color", f"is the {s} {g.color} ?", parent),
            SceneElement(f"{s}.size", f"{g.size} {s}", "size", f"is the {s} {g.size} ?", parent),
            SceneElement(
                f"{s}.count",
                f"{number} {s if g.count == 1 else plural(s)}",
                "counting",
                count_question(s, g.count),
                parent,
            ),
        ]
    for a, b in pairwise(scene.groups):
        stated = relation(a, b)
        out.append(
            SceneElement(
                f"{a.shape}.{stated.replace(' ', '_')}.{b.shape}",
                f"{a.shape} {stated} {b.shape}",
                "spatial",
                f"is the {a.shape} {stated} the {b.shape} ?",
                (a.shape, b.shape),
            )
        )
    return out
