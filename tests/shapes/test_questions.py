"""Pre-training questions: their answers are what the picture shows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.questions import KINDS, adjacent, ask, captions, differences, sample_picture
from t2i_eval_kedro.shapes.render import Degradation
from t2i_eval_kedro.shapes.scene import NUMBERS, Group, Scene, elements, layouts, plural, prompt_text, sample_scene
from t2i_eval_kedro.shapes.truth import clarity, element_truth, item_attributes

seeds = st.integers(0, 2**32)
_SCENE = Scene((Group("circle", "red", "large", 1, 0), Group("square", "blue", "small", 2, 1)))


@given(seeds, st.sampled_from(sorted(KINDS)))
def test_answers_are_what_the_picture_shows(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    scene, degradation = sample_picture(rng)
    pair = ask(scene, degradation, kind, rng)
    if pair is None:
        assert kind in ("relation", "caption", "difference")
        return
    question, answer = pair
    named = [g for g in scene.groups if f" {g.shape} " in f" {question} " or f" {plural(g.shape)} " in question]
    if kind in ("color", "size"):
        assert answer == getattr(named[0], kind) if named else answer.startswith("no ")
    elif kind == "count":
        assert answer == (NUMBERS[named[0].count - 1] if named else "none")
    elif kind == "clarity":
        assert answer == clarity(degradation)
    elif kind == "caption":
        assert answer in captions(scene)
    elif kind == "relation":
        a, b = sorted(named, key=lambda g: question.index(g.shape))
        row, column = b.quadrant // 2 - a.quadrant // 2, b.quadrant % 2 - a.quadrant % 2
        assert answer == {(0, 1): "left of", (0, -1): "right of", (1, 0): "above", (-1, 0): "below"}[row, column]


@given(seeds)
def test_yes_no_questions_agree_with_the_truth_of_elements(seed: int) -> None:
    """Whatever a picture's own prompt states is answered "yes"."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    question, answer = ask(scene, Degradation(), "yes_no", rng) or ("", "")
    attributes = item_attributes(scene, scene, Degradation())
    assert all(element_truth(attributes).values())
    if question in {element.question for element in elements(scene)}:
        assert answer == "yes"
    elif "of the" not in question and "above" not in question and "below" not in question:
        assert answer == "no"


def test_yes_and_no_are_balanced_and_every_kind_occurs() -> None:
    rng = np.random.default_rng(0)
    answers = [ask(*sample_picture(rng), "yes_no", rng) for _ in range(2000)]
    assert 0.4 < np.mean([pair is not None and pair[1] == "yes" for pair in answers]) < 0.6
    assert sum(KINDS.values()) == pytest.approx(1.0)


@given(seeds, seeds)
def test_nothing_differs_exactly_where_the_description_is_a_caption(one: int, two: int) -> None:
    described = sample_scene(np.random.default_rng(one))
    rng = np.random.default_rng(two)
    layout = layouts(len(described.groups))[rng.integers(len(layouts(len(described.groups))))]
    seen = Scene(tuple(replace(g, quadrant=q) for g, q in zip(described.groups, layout, strict=True)))
    if rng.random() < 0.5:
        seen = Scene((replace(seen.groups[0], color="red"), *seen.groups[1:]))
    assert (differences(described, seen) == "nothing") == (prompt_text(described) in captions(seen))


def test_differences_name_what_is_seen() -> None:
    circle, square = _SCENE.groups
    seen = Scene((replace(circle, color="green", count=3, quadrant=1), replace(square, size="large", quadrant=0)))
    assert differences(_SCENE, seen) == (
        "the circle is green, three circles, the square is large, the circle is right of the square"
    )
    assert differences(_SCENE, Scene((square,))) == "no circle"
    assert differences(_SCENE, _SCENE) == "nothing"


def test_captions_of_a_scene_off_the_grid_of_relations() -> None:
    circle, square = _SCENE.groups
    diagonal = Scene((circle, replace(square, quadrant=3)))
    assert captions(diagonal) == []
    assert captions(_SCENE) == [
        "a large red circle left of two small blue squares",
        "two small blue squares right of a large red circle",
    ]
    assert all(adjacent(a, b) for a, b in pairwise(_SCENE.groups))
