"""The grammar: a prompt says what its scene holds, and every element belongs to its prompt."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.scene import (
    COLORS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Scene,
    elements,
    layout_relations,
    layouts,
    plural,
    prompt_text,
    relation,
    sample_scene,
)

scenes = st.integers(0, 2**32).map(lambda seed: sample_scene(np.random.default_rng(seed)))

_NOUN = "|".join([*SHAPES, *(plural(shape) for shape in SHAPES)])
_GROUP = rf"(a|two|three) ({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({_NOUN})"
_RELATION = f"({'|'.join(RELATIONS)})"
_PROMPT = re.compile(rf"{_GROUP}(?: {_RELATION} {_GROUP}(?:, which (?:is|are) {_RELATION} {_GROUP})?)?")


def _parse(text: str) -> tuple[list[tuple[str, str, str, int]], list[str]]:
    """An independent reading of a prompt: (shape, colour, size, count) of each group, and the relations."""
    match = _PROMPT.fullmatch(text)
    assert match is not None, text
    fields = match.groups()
    groups = []
    for start in (0, 5, 10):
        if fields[start] is not None:
            number, size, color, noun = fields[start : start + 4]
            singular = next(shape for shape in SHAPES if noun in (shape, plural(shape)))
            assert (noun == singular) == (number == "a")
            groups.append((singular, color, size, {"a": 1, "two": 2, "three": 3}[number]))
    return groups, [field for field in (fields[4], fields[9]) if field is not None]


@given(scenes)
def test_prompt_says_exactly_what_the_scene_holds(scene: Scene) -> None:
    groups, relations = _parse(prompt_text(scene))
    assert groups == [(g.shape, g.color, g.size, g.count) for g in scene.groups]
    assert relations == [relation(a, b) for a, b in pairwise(scene.groups)]


@given(scenes)
def test_scene_is_well_formed(scene: Scene) -> None:
    assert 1 <= len(scene.groups) <= 3
    assert len({g.shape for g in scene.groups}) == len(scene.groups)
    assert len({g.quadrant for g in scene.groups}) == len(scene.groups)
    assert Scene.from_json(scene.to_json()) == scene


@given(scenes)
def test_elements_have_unique_ids_parents_and_questions_from_the_prompt(scene: Scene) -> None:
    found = elements(scene)
    ids = [element.element_id for element in found]
    assert len(set(ids)) == len(ids) == 4 * len(scene.groups) + len(scene.groups) - 1
    assert len({element.question for element in found}) == len(found)
    for element in found:
        assert set(element.parents) <= set(ids)
        assert (element.skill == "object") == (not element.parents)
        assert len(element.parents) == (2 if element.skill == "spatial" else len(element.parents) and 1)
        assert element.question.endswith(" ?")
        assert element.question == element.question.lower()


def test_elements_of_a_known_prompt() -> None:
    scene = Scene((Group("circle", "red", "large", 1, 0), Group("cross", "blue", "small", 2, 1)))
    assert prompt_text(scene) == "a large red circle left of two small blue crosses"
    assert [(e.element_id, e.question, e.skill) for e in elements(scene)] == [
        ("circle", "is there a circle ?", "object"),
        ("circle.color", "is the circle red ?", "color"),
        ("circle.size", "is the circle large ?", "size"),
        ("circle.count", "is there one circle ?", "counting"),
        ("cross", "is there a cross ?", "object"),
        ("cross.color", "is the cross blue ?", "color"),
        ("cross.size", "is the cross small ?", "size"),
        ("cross.count", "are there two crosses ?", "counting"),
        ("circle.left_of.cross", "is the circle left of the cross ?", "spatial"),
    ]


def test_layouts_are_all_paths_over_adjacent_quadrants() -> None:
    for n, count in ((1, 4), (2, 8), (3, 8)):
        assert len(set(layouts(n))) == count
        for layout in layouts(n):
            assert len(set(layout)) == n
            for (a, b), name in zip(pairwise(layout), layout_relations(layout), strict=True):
                row_step, column_step = b // 2 - a // 2, b % 2 - a % 2
                assert abs(row_step) + abs(column_step) == 1
                names = {(0, 1): "left of", (0, -1): "right of", (1, 0): "above", (-1, 0): "below"}
                assert name == names[row_step, column_step]


def test_numbers_cover_every_count() -> None:
    assert NUMBERS == ("one", "two", "three")
