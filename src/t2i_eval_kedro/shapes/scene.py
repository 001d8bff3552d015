"""Scenes: groups of equal objects in the regions of a picture.

A picture is a grid of 4 x 4 cells. A region is a quadrant (2 x 2 cells) or, where a scene has five groups, half of one.
A scene has one to five groups, each in a region of its own; a group is one to three equal objects, as many as its region
has cells at most. All groups of a scene differ in shape, so that "the circle" names one group. Consecutive groups stand
side by side or one above the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise, permutations
from typing import Any

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = ("red", "green", "blue", "yellow", "purple")
SIZES = ("small", "large")
NUMBERS = ("one", "two", "three")
RELATIONS = ("left of", "right of", "above", "below")
CELLS = 4  # in a row of the picture, and rows
MAX_GROUPS = 5

#: Share of scenes with one to five groups.
GROUP_SHARES = (0.25, 0.33, 0.24, 0.11, 0.07)


@dataclass(frozen=True)
class Group:
    """``count`` equal objects in one region.

    Regions 0 to 3 are the quadrants (upper left, upper right, lower left, lower right); 4 + 4 q + h is half of
    quadrant q, h being 0 for its left, 1 for its right, 2 for its upper and 3 for its lower half.
    """

    shape: str
    color: str
    size: str
    count: int
    region: int

    @property
    def quadrant(self) -> int:
        """The quadrant that the group stands in."""
        return self.region if self.region < 4 else (self.region - 4) // 4


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


def region_cells(region: int) -> tuple[int, ...]:
    """The numbers of the region's cells, row by row."""
    top, bottom, left, right = _bounds(region)
    return tuple(CELLS * row + column for row in range(top, bottom) for column in range(left, right))


@cache
def _bounds(region: int) -> tuple[int, int, int, int]:
    """First row, row after the last, first column, column after the last."""
    quadrant, half = (region, None) if region < 4 else divmod(region - 4, 4)
    top, left = 2 * (quadrant // 2), 2 * (quadrant % 2)
    bottom, right = top + 2, left + 2
    if half == 0:
        right -= 1
    elif half == 1:
        left += 1
    elif half == 2:
        bottom -= 1
    elif half == 3:
        top += 1
    return top, bottom, left, right


@cache
def _region_relation(first: int, second: int) -> str | None:
    top, bottom, left, right = _bounds(first)
    other_top, other_bottom, other_left, other_right = _bounds(second)
    if top < other_bottom and other_top < bottom:
        return "left of" if right <= other_left else "right of" if other_right <= left else None
    if left < other_right and other_left < right:
        return "above" if bottom <= other_top else "below"
    return None


def relation(first: Group, second: Group) -> str | None:
    """How ``first`` stands to ``second``; None where they are neither side by side nor one above the other."""
    return _region_relation(first.region, second.region)


@cache
def layouts(n_groups: int) -> tuple[tuple[int, ...], ...]:
    """All ways to give ``n_groups`` regions of their own, consecutive ones side by side or one above the other."""
    if n_groups < MAX_GROUPS:
        partitions: list[tuple[int, ...]] = [(0, 1, 2, 3)]
    else:
        partitions = [
            (*(q for q in range(4) if q != split), 4 + 4 * split + first, 4 + 4 * split + first + 1)
            for split in range(4)
            for first in (0, 2)
        ]
    return tuple(
        path
        for regions in partitions
        for path in permutations(regions, n_groups)
        if all(_region_relation(a, b) is not None for a, b in pairwise(path))
    )


def layout_relations(layout: Sequence[int]) -> tuple[str | None, ...]:
    """The relations between consecutive groups under ``layout``."""
    return tuple(_region_relation(a, b) for a, b in pairwise(layout))


def fits(counts: Sequence[int], layout: Sequence[int]) -> bool:
    """Whether each region of ``layout`` has a cell for each object of its group."""
    return all(count <= len(region_cells(region)) for count, region in zip(counts, layout, strict=True))


def sample_scene(rng: np.random.Generator, max_groups: int = MAX_GROUPS) -> Scene:
    """A random scene of at most ``max_groups`` groups.

    The number of groups follows `GROUP_SHARES`; everything else is uniform, but for groups in half a quadrant, which have
    one or two objects.
    """
    shares = np.array(GROUP_SHARES[:max_groups])
    n = 1 + int(rng.choice(len(shares), p=shares / shares.sum()))
    shapes = rng.permutation(len(SHAPES))[:n]
    layout = layouts(n)[rng.integers(len(layouts(n)))]
    return Scene(
        tuple(
            Group(
                SHAPES[shape],
                COLORS[rng.integers(len(COLORS))],
                SIZES[rng.integers(len(SIZES))],
                int(rng.integers(1, 1 + min(len(NUMBERS), len(region_cells(region))))),
                region,
            )
            for shape, region in zip(shapes, layout, strict=True)
        )
    )


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return "crosses" if shape == "cross" else shape + "s"


def noun(group: Group) -> str:
    """The name of the group's objects: ``circle``, or ``circles`` where there are several."""
    return group.shape if group.count == 1 else plural(group.shape)


def count_question(shape: str, count: int) -> str:
    """The question whether there are exactly ``count`` objects of this shape."""
    return f"is there one {shape} ?" if count == 1 else f"are there {NUMBERS[count - 1]} {plural(shape)} ?"
