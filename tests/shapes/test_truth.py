"""The truth of an item follows from what was asked for and what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.generators import GENERATORS, Painted, SimulatedGenerator, imagine
from t2i_eval_kedro.shapes.prompts import Conflict, ScenePrompt, elements, sample_prompt
from t2i_eval_kedro.shapes.render import Degradation, Flaw
from t2i_eval_kedro.shapes.scene import Group, Scene
from t2i_eval_kedro.shapes.truth import (
    clarity,
    describe,
    describe_appearance,
    element_truth,
    item_attributes,
    true_scores,
)

_CIRCLE = Group("circle", "red", "large", 1, 0)
_SQUARE = Group("square", "blue", "small", 2, 1)
_SCENE = Scene((_CIRCLE, _SQUARE))
_PROMPT = ScenePrompt.of(_SCENE)


def _item(prompt: ScenePrompt, *groups: Group, degradation: Degradation | None = None):
    return item_attributes(prompt, Painted(Scene(groups), degradation or Degradation(), ()))


@given(st.integers(0, 2**32), st.sampled_from(GENERATORS))
def test_truth_is_consistent_for_every_generator(seed: int, generator: SimulatedGenerator) -> None:
    rng = np.random.default_rng(seed)
    prompt = sample_prompt(rng)
    painted = imagine(prompt, generator, rng)
    attributes = item_attributes(prompt, painted)
    held = element_truth(attributes)
    assert set(held) == {element.element_id for element in elements(prompt)}
    for element in elements(prompt):
        assert not held[element.element_id] or all(held[parent] for parent in element.parents)
        seen = describe(attributes, element.element_id)
        if element.skill in ("color", "size"):
            assert held[element.element_id] == (seen == "it is " + element.text.split()[0])
        if element.skill == "spatial":
            stated = element.question.removesuffix(" ?").split(maxsplit=3)[3]
            assert held[element.element_id] == (seen == f"it is {stated}")
        if element.element_id.endswith(".absent"):
            assert held[element.element_id] == seen.startswith("no ")
    for score in true_scores(attributes).values():
        assert score is None or 0 <= score <= 10
    assert (true_scores(attributes)["relations"] is None) == (len(prompt.scene.groups) == 1)
    assert attributes["prompt_kind"] == prompt.kinds()


def test_describe_names_what_is_seen() -> None:
    attributes = _item(
        _PROMPT,
        replace(_CIRCLE, color="green", count=3, region=2),
        replace(_SQUARE, size="large", region=0),
        degradation=Degradation(0.7, 0.2, 0.4),
    )
    assert describe(attributes, "circle") == "there is a circle"
    assert describe(attributes, "circle.color") == "it is green"
    assert describe(attributes, "circle.count") == "there are three"
    assert describe(attributes, "square.size") == "it is large"
    assert describe(attributes, "circle.left_of.square") == "it is below the square"
    assert describe_appearance(attributes) == "very blurry and slightly hazy and grainy"
    assert element_truth(attributes) == {
        "circle": True,
        "circle.color": False,
        "circle.size": True,
        "circle.count": False,
        "square": True,
        "square.color": True,
        "square.size": False,
        "square.count": True,
        "circle.left_of.square": False,
    }


def test_a_missing_object_fails_all_that_is_asked_of_it() -> None:
    attributes = _item(_PROMPT, _CIRCLE)
    held = element_truth(attributes)
    assert {key for key, value in held.items() if not value} == {
        "square",
        "square.color",
        "square.size",
        "square.count",
        "circle.left_of.square",
    }
    assert describe(attributes, "square.color") == describe(attributes, "circle.left_of.square") == "no square"
    assert true_scores(attributes) == {
        "overall": pytest.approx(0.7 * (0.35 * 10 + 0.45 * 5 + 0.2 * 0), abs=1e-3),
        "appearance": 10.0,
        "attributes": 5.0,
        "relations": 0.0,
    }


def test_denials_hold_where_the_thing_is_not_there_or_the_colour_is_another() -> None:
    prompt = ScenePrompt(Scene((_CIRCLE,)), (("size",),), ("blue",), "ring")
    assert all(element_truth(_item(prompt, _CIRCLE)).values())
    ring = Group("ring", "red", "small", 1, 3)
    held = element_truth(_item(prompt, replace(_CIRCLE, color="blue"), ring))
    assert [key for key, value in held.items() if not value] == ["circle.not_color", "ring.absent"]
    attributes = _item(prompt, replace(_CIRCLE, color="blue"), ring)
    assert describe(attributes, "ring.absent") == "there is a ring"
    assert describe(attributes, "circle.not_color") == "it is blue"
    assert describe(_item(prompt, _CIRCLE), "ring.absent") == "no ring"
    assert not element_truth(_item(prompt, ring))["circle.not_color"]


def test_a_contradiction_cannot_be_satisfied() -> None:
    prompt = replace(_PROMPT, conflict=Conflict(0, "color", "green"))
    red, green = (element_truth(_item(prompt, replace(_CIRCLE, color=color), _SQUARE)) for color in ("red", "green"))
    assert (red["circle.color"], red["circle.color.conflict"]) == (True, False)
    assert (green["circle.color"], green["circle.color.conflict"]) == (False, True)
    assert true_scores(_item(prompt, _CIRCLE, _SQUARE))["attributes"] == pytest.approx(10 * 8 / 9, abs=1e-3)


def test_degradation_lowers_appearance_alone_and_overall() -> None:
    scores = true_scores(_item(_PROMPT, _CIRCLE, _SQUARE, degradation=Degradation(0.5, 0.2)))
    assert scores["appearance"] == pytest.approx(4.0)
    assert scores["attributes"] == scores["relations"] == 10.0
    assert scores["overall"] == pytest.approx(0.7 * (0.35 * 4 + 0.65 * 10) + 0.3 * 4, abs=1e-3)
    assert true_scores(_item(_PROMPT, _CIRCLE, degradation=Degradation(grain=0.3)))["appearance"] == pytest.approx(7.0)
    assert clarity(Degradation()) == clarity(Degradation(0.05, 0.05)) == "clear"
    assert clarity(Degradation(0.0, 0.4)) == "hazy"


def test_structural_faults_lower_structure_alone() -> None:
    painted = Painted(_SCENE, Degradation(), ())
    flaws = [Flaw("torn", 0, 1.0, 0.0), Flaw("extra", 1, 0.4, 0.0)]
    with_flaws, sound = (item_attributes(_PROMPT, painted, given) for given in (flaws, []))
    assert with_flaws["truth"]["structure"] == pytest.approx(10 * 0.5 * 0.8)
    assert sound["truth"]["structure"] == 10.0
    assert "structure" not in item_attributes(_PROMPT, painted)["truth"]
    assert {k: v for k, v in with_flaws["truth"].items() if k != "structure"} == item_attributes(_PROMPT, painted)[
        "truth"
    ]
