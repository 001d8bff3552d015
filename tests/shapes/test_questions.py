"""Pre-training questions: their answers are what the pictures show and what the words mean."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.shapes.generators import Painted
from t2i_eval_kedro.shapes.prompts import Conflict, ScenePrompt, prompt_text
from t2i_eval_kedro.shapes.questions import (
    LAST_PAIR_KINDS,
    LAST_PICTURE_KINDS,
    LAST_TEXT_KINDS,
    LEVEL_WORDS,
    PAIR_KINDS,
    PICTURE_KINDS,
    TEXT_KINDS,
    YES_NO,
    Shown,
    ask,
    ask_pair,
    ask_text,
    description,
    parts,
    paths,
    sample_degradation,
    sample_picture,
    vary,
    wrong_parts,
    yes_no,
)
from t2i_eval_kedro.shapes.render import Degradation
from t2i_eval_kedro.shapes.scene import NUMBERS, Group, Scene, plural, region_cells, sample_scene
from t2i_eval_kedro.shapes.truth import clarity, element_truth, item_attributes

seeds = st.integers(0, 2**32)
_CIRCLE, _SQUARE = Group("circle", "red", "large", 1, 0), Group("square", "blue", "small", 2, 1)
_SCENE = Scene((_CIRCLE, _SQUARE))
_KINDS = sorted(LAST_PICTURE_KINDS)


@given(seeds, st.sampled_from(_KINDS))
def test_answers_are_what_the_picture_shows(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    shown = sample_picture(rng)
    scene = shown.scene
    pair = ask(shown, kind, rng)
    if pair is None:
        assert kind in ("relation", "caption", "difference", "faults", "match", "total", "yes_no", "spatial")
        return
    question, answer = pair.question, pair.answer
    named = [g for g in scene.groups if f" {g.shape} " in f" {question} " or f" {plural(g.shape)} " in question]
    if kind in ("color", "size"):
        assert answer == getattr(named[0], kind) if named else answer.startswith("no ")
    elif kind == "count":
        assert answer == (NUMBERS[named[0].count - 1] if named else "none")
    elif kind == "clarity":
        assert answer == clarity(shown.degradation)
    elif kind == "caption":
        assert answer in [prompt_text(ScenePrompt.of(order)) for order in paths(scene)]
    elif kind == "relation":
        a, b = sorted(named, key=lambda g: question.index(g.shape))
        (top, left), (other_top, other_left) = (np.divmod(region_cells(g.region), 4) for g in (a, b))
        expected = {
            "left of": max(left) < min(other_left),
            "right of": min(left) > max(other_left),
            "above": max(top) < min(other_top),
            "below": min(top) > max(other_top),
        }
        assert expected[answer]
    elif kind == "total":
        assert int(answer) == sum(g.count for g in scene.groups)
    elif kind == "faults":
        assert 0 <= int(answer) <= 10


@given(seeds, st.sampled_from(sorted(YES_NO)))
def test_yes_no_questions_are_answered_by_what_is_there(seed: int, skill: str) -> None:
    rng = np.random.default_rng(seed)
    shown = sample_picture(rng)
    pair = yes_no(shown, skill, rng)
    if pair is None:
        assert skill == "relation"
        return
    words = pair.question.split()
    group = next((g for g in shown.scene.groups if g.shape in words or plural(g.shape) in words), None)
    if skill in ("object", "absent"):
        assert pair.answer == ("yes" if (group is None) == (skill == "absent") else "no")
    if skill == "color":
        assert pair.answer == ("yes" if group is not None and group.color in words else "no")
    if skill == "size":
        assert pair.answer == ("yes" if group is not None and group.size in words else "no")
    if skill == "not_color":
        assert pair.answer == ("yes" if group is not None and group.color not in words else "no")
    if skill == "count":
        assert pair.answer == ("yes" if group is not None and NUMBERS[group.count - 1] in words else "no")


@pytest.mark.parametrize("skill", sorted(YES_NO))
def test_yes_and_no_are_balanced_in_every_skill(skill: str) -> None:
    rng = np.random.default_rng(0)
    pairs = [yes_no(sample_picture(rng), skill, rng) for _ in range(1500)]
    assert 0.42 < np.mean([pair.answer == "yes" for pair in pairs if pair is not None]) < 0.58


def test_a_question_turned_round_has_the_other_answer() -> None:
    rng = np.random.default_rng(1)
    shown = Shown(Scene((_CIRCLE,)), Degradation())
    pairs = [ask(shown, "yes_no", rng) for _ in range(600)]
    turned = {
        p.question.removesuffix(" is it wrong ?"): p.answer for p in pairs if p and p.question.endswith("is it wrong ?")
    }
    plain = {p.question: p.answer for p in pairs if p and not p.question.endswith("is it wrong ?")}
    common = set(turned) & set(plain)
    assert len(common) > 10
    assert all({turned[question], plain[question]} == {"yes", "no"} for question in common)


@given(seeds, st.integers(0, 3))
def test_nothing_is_wrong_exactly_where_every_element_holds(seed: int, changes: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_picture(rng).scene
    prompt = description(scene, rng, changes)
    if prompt is None:
        assert not paths(scene)
        return
    held = element_truth(item_attributes(prompt, Painted(scene, Degradation(), ())))
    assert bool(wrong_parts(prompt, scene)) != all(held.values())


def test_what_is_wrong_is_named_as_it_is_seen() -> None:
    prompt = ScenePrompt.of(_SCENE)
    seen = Scene((replace(_CIRCLE, color="green", count=3, region=1), replace(_SQUARE, size="large", region=0)))
    assert wrong_parts(prompt, seen) == [
        "the circle is green",
        "three circles",
        "the square is large",
        "the circle is right of the square",
    ]
    assert wrong_parts(prompt, Scene((_SQUARE,))) == ["no circle"]
    assert wrong_parts(prompt, _SCENE) == []
    assert wrong_parts(
        replace(prompt, absent="ring"), Scene((*_SCENE.groups, Group("ring", "red", "small", 1, 3)))
    ) == ["a ring"]
    contradictory = replace(prompt, conflict=Conflict(1, "color", "green"))
    assert wrong_parts(contradictory, _SCENE) == ["the square is blue"]
    denied = ScenePrompt(Scene((_CIRCLE,)), (("size",),), ("red",))
    assert wrong_parts(denied, Scene((_CIRCLE,))) == ["the circle is red"]


@given(seeds, st.integers(0, 4))
def test_a_varied_scene_is_well_formed(seed: int, changes: int) -> None:
    rng = np.random.default_rng(seed)
    scene = vary(sample_scene(rng), changes, rng)
    groups = scene.groups
    assert groups
    assert len({g.shape for g in groups}) == len(groups)
    cells = [cell for g in groups for cell in region_cells(g.region)]
    assert len(set(cells)) == len(cells)
    assert all(1 <= g.count <= len(region_cells(g.region)) for g in groups)
    assert paths(scene)


@given(seeds, st.sampled_from(sorted(LAST_PAIR_KINDS)))
def test_pair_questions_choose_the_better_picture_and_swap_with_it(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    two = [Shown(vary(scene, int(rng.integers(3)), rng), sample_degradation(rng)) for _ in range(2)]
    answers = []
    for order in (two, two[::-1]):
        pair = ask_pair(order[0], order[1], scene, kind, np.random.default_rng(seed))
        answers.append(pair)
    if None in answers or kind.startswith("either"):
        return
    assert answers[0].question == answers[1].question
    assert {pair.answer for pair in answers} == {"first", "second"}
    if kind == "clearer":
        better = two[0] if answers[0].answer == "first" else two[1]
        worse = two[1] if better is two[0] else two[0]
        assert (1 - better.degradation.blur) * (1 - better.degradation.haze) > (1 - worse.degradation.blur) * (
            1 - worse.degradation.haze
        )


@given(seeds, st.sampled_from(sorted(TEXT_KINDS)))
def test_arithmetic_of_numerals_and_words_is_right(seed: int, kind: str) -> None:
    pair = ask_text(kind, np.random.default_rng(seed))
    levels = [w for w in re.split(r"[ ,?]+", pair.question) if w.isdigit() or w in LEVEL_WORDS]
    words = pair.answer in LEVEL_WORDS
    rank = LEVEL_WORDS.index if words else int
    if kind == "sum":
        assert sum(map(int, levels)) == int(pair.answer) <= 10
    elif kind == "mean":
        values = [rank(level) for level in levels]
        assert abs(rank(pair.answer) - np.mean(values)) <= 0.5
    elif kind == "order":
        choose = max if "more" in pair.question else min
        assert rank(pair.answer) == choose(rank(level) for level in levels)
    elif kind == "translation":
        if words:
            assert abs(2.5 * rank(pair.answer) - int(levels[0])) <= 1.25
        else:
            assert abs(int(pair.answer) - 2.5 * LEVEL_WORDS.index(levels[0])) <= 0.5


def test_words_and_numerals_are_asked_alike() -> None:
    rng = np.random.default_rng(2)
    for kind in ("order", "mean"):
        answers = [ask_text(kind, rng).answer for _ in range(1000)]
        assert 0.45 < np.mean([answer in LEVEL_WORDS for answer in answers]) < 0.55


def test_the_parts_of_a_description() -> None:
    prompt = ScenePrompt(_SCENE, (("color", "size"), ()), (None, "green"), "ring", Conflict(0, "size", "small"))
    assert parts(prompt) == "circle red large one, square not green two, circle left of square, no ring, small circle"


@pytest.mark.parametrize(
    "shares", [PICTURE_KINDS, PAIR_KINDS, TEXT_KINDS, LAST_PICTURE_KINDS, LAST_PAIR_KINDS, LAST_TEXT_KINDS, YES_NO]
)
def test_shares_sum_to_one(shares: dict[str, float]) -> None:
    assert sum(shares.values()) == pytest.approx(1.0)
