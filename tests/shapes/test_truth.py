"""The truth of an item agrees with both scenes, and the generators commit the faults that they are set to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.generators import GENERATORS, SimulatedGenerator, imagine
from t2i_eval_kedro.shapes.render import Degradation
from t2i_eval_kedro.shapes.scene import Group, Scene, elements, relation, sample_scene
from t2i_eval_kedro.shapes.truth import (
    clarity,
    describe,
    describe_appearance,
    element_truth,
    item_attributes,
    true_scores,
)

_PERFECT = SimulatedGenerator("shapes-perfect", 0, 0, 0, 0, 0, (0, 0, 0), (0, 0, 0))
_CIRCLE = Group("circle", "red", "large", 1, 0)
_SQUARE = Group("square", "blue", "small", 2, 1)
_PROMPT = Scene((_CIRCLE, _SQUARE))


@given(st.integers(0, 2**32))
def test_a_perfect_generator_satisfies_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    attributes = item_attributes(scene, *imagine(scene, _PERFECT, rng))
    assert all(element_truth(attributes).values())
    scores = true_scores(attributes)
    assert {v for v in scores.values() if v is not None} == {10.0}
    assert (scores["relations"] is None) == (len(scene.groups) == 1)


@given(st.integers(0, 2**32), st.sampled_from(GENERATORS))
def test_truth_is_consistent_for_every_generator(seed: int, generator: SimulatedGenerator) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    painted, degradation = imagine(scene, generator, rng)
    assert painted.groups
    assert len({g.shape for g in painted.groups}) == len(painted.groups)
    attributes = item_attributes(scene, painted, degradation)
    held = element_truth(attributes)
    assert set(held) == {element.element_id for element in elements(scene)}
    for element in elements(scene):
        assert not held[element.element_id] or all(held[parent] for parent in element.parents)
        seen = describe(attributes, element.element_id)
        if element.skill in ("color", "size") and held[element.element_id]:
            assert seen == "it is " + element.text.split()[0]
        if element.skill == "spatial":
            stated = element.question.removesuffix(" ?").split(maxsplit=3)[3]
            assert held[element.element_id] == (seen == f"it is {stated}")
    for score in true_scores(attributes).values():
        assert score is None or 0 <= score <= 10


@pytest.mark.parametrize(
    ("fault", "skill"),
    [("color", "color"), ("count", "counting"), ("size", "size"), ("relation", "spatial"), ("missing", "object")],
)
def test_each_fault_breaks_its_own_skill(fault: str, skill: str) -> None:
    generator = replace(_PERFECT, **{fault: 1.0})
    rng = np.random.default_rng(3)
    for _ in range(50):
        scene = sample_scene(rng)
        if fault == "relation" and len(scene.groups) == 1:
            continue
        held = element_truth(item_attributes(scene, *imagine(scene, generator, rng)))
        failed = {e.skill for e in elements(scene) if not held[e.element_id]}
        if fault == "missing":
            assert skill in failed
        else:
            assert failed == {skill}


def test_generators_differ_in_name_and_main_fault() -> None:
    assert len({g.name for g in GENERATORS}) == len(GENERATORS) >= 6
    rates = np.array([[g.color, g.count, g.missing, g.relation, max(g.blur[0], g.haze[0])] for g in GENERATORS[1:]])
    assert set(rates.argmax(axis=1)) == {0, 1, 2, 3, 4}
    assert rates.min(axis=0).min() > 0


def test_describe_names_what_is_seen() -> None:
    painted = Scene((replace(_CIRCLE, color="green", count=3, quadrant=2), replace(_SQUARE, size="large", quadrant=0)))
    attributes = item_attributes(_PROMPT, painted, Degradation(0.7, 0.2))
    assert describe(attributes, "circle") == "there is a circle"
    assert describe(attributes, "circle.color") == "it is green"
    assert describe(attributes, "circle.count") == "there are three"
    assert describe(attributes, "square.size") == "it is large"
    assert describe(attributes, "circle.left_of.square") == "it is below the square"
    assert describe_appearance(attributes) == "very blurry and slightly hazy"
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
    attributes = item_attributes(_PROMPT, Scene((_CIRCLE,)), Degradation())
    held = element_truth(attributes)
    assert {key for key, value in held.items() if not value} == {
        "square",
        "square.color",
        "square.size",
        "square.count",
        "circle.left_of.square",
    }
    assert describe(attributes, "square.color") == describe(attributes, "circle.left_of.square") == "no square"
    scores = true_scores(attributes)
    assert scores == {
        "overall": pytest.approx(0.7 * (0.35 * 10 + 0.45 * 5 + 0.2 * 0), abs=1e-3),
        "appearance": 10.0,
        "attributes": 5.0,
        "relations": 0.0,
    }


def test_degradation_lowers_appearance_alone_and_overall() -> None:
    scores = true_scores(item_attributes(_PROMPT, _PROMPT, Degradation(0.5, 0.2)))
    assert scores["appearance"] == pytest.approx(4.0)
    assert scores["attributes"] == scores["relations"] == 10.0
    assert scores["overall"] == pytest.approx(0.7 * (0.35 * 4 + 0.65 * 10) + 0.3 * 4, abs=1e-3)
    assert clarity(Degradation()) == clarity(Degradation(0.05, 0.05)) == "clear"
    assert clarity(Degradation(0.0, 0.4)) == "hazy"


def test_relation_refuses_quadrants_that_are_not_adjacent() -> None:
    with pytest.raises(KeyError):
        relation(_CIRCLE, replace(_SQUARE, quadrant=3))
    with pytest.raises(KeyError):
        relation(replace(_CIRCLE, quadrant=1), replace(_SQUARE, quadrant=2))
