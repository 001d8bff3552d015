"""Rationales against the truth, on the synthetic benchmark's own critiques and on small tables with known counts."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.rationales import complains, contradicts, named_faults, rationale_quality, true_faults
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.shapes.make import make_shapes
from t2i_eval_kedro.training.critiques import critiques

ELEMENTS = {
    "c": "circle",
    "c.color": "red circle",
    "c.count": "two circles",
    "r": "circle left of the star",
    "s": "star",
}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no circle . it is clear", {"c"}),
        ("The circle is blue, not red.", {"c.color"}),
        ("The circle isn't red.", {"c.color"}),
        ("not two circles , three . not circle left of star , above the star", {"c.count", "r"}),
        ("The circle is red. Nothing is wrong.", set()),
        ("nothing wrong . it is clear", set()),
        ("There is a star. The moon is missing.", set()),
        ("No star; the circle is red", {"s"}),
        ("", set()),
    ],
)
def test_a_fault_is_named_where_its_words_stand_with_a_denial(text: str, named: set[str]) -> None:
    assert named_faults(text, ELEMENTS) == named


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    assert named_faults(text, ELEMENTS) <= set(ELEMENTS)
    complains(text)


@pytest.mark.parametrize(
    ("score", "text", "contradiction"),
    [
        (10, "no circle", True),
        (9, "no circle", False),
        (4, "nothing wrong . it is clear", True),
        (4, "nothing wrong . it is very blurry", False),
        (6, "nothing wrong . it is clear", False),
        (4, "no circle", False),
    ],
)
def test_a_rationale_contradicts_a_score_that_it_cannot_mean(score: float, text: str, contradiction: bool) -> None:
    assert contradicts(score, text, named_faults(text, ELEMENTS)) == contradiction


def test_what_hangs_on_a_missing_object_is_no_fault_of_its_own() -> None:
    labels = {"c": False, "c.color": False, "r": False, "s": True}
    assert true_faults(labels, {"c.color": {"c"}, "r": {"c", "s"}}) == {"c"}


ITEMS = schema.ITEMS.frame(
    {"item_id": i, "benchmark": "b", "prompt_id": p, "prompt": p, "generator": "g", "image": "x"}
    for i, p in (("1", "p"), ("2", "p"), ("3", "q"))
)
PARTS = schema.ELEMENTS.frame(
    {"prompt_id": p, "element_id": e, "text": text, "skill": "x", "parents": above}
    for p in "pq"
    for e, text, above in (("c", "circle", ""), ("k", "red circle", "c"), ("s", "star", ""))
)
LABELS = {"1": (1, 0, 1), "2": (0, 0, 1), "3": (1, 1, 0.5)}
RATINGS = schema.ELEMENT_RATINGS.frame(
    {"item_id": i, "element_id": e, "rater_id": "r", "label": label}
    for i, values in LABELS.items()
    for e, label in zip("cks", values, strict=True)
)


def scored(*rows: tuple[str, float | None, str | None]) -> pd.DataFrame:
    who = {"judge": "m", "protocol": "reasoning", "run": 0, "dimension": "overall", "higher_is_better": True}
    return schema.SCORES.frame(
        who | {"item_id": i, "score": s, "status": "unparsed" if s is None else "ok", "explanation": text}
        for i, s, text in rows
    )


def test_the_figures_are_those_counted_by_hand() -> None:
    given = scored(
        ("1", 10, "not red circle. no star"),  # one of one fault, one false, and the score says that there is none
        ("2", 3, "no circle. not red circle"),  # one of one; what hangs on it is not false
        ("3", 4, "nothing wrong"),  # no fault, and a low score; people are divided on the star
    )
    (record,) = rationale_quality(ITEMS, PARTS, RATINGS, given, 50, 0.95, 0)
    assert (record["evaluator"], record["items"], record["true_faults"]) == ("m_reasoning", 3, 2)
    assert record["named"] == pytest.approx(4 / 3)
    assert record["named_true"]["value"] == 1
    assert record["false"]["value"] == pytest.approx(1 / 4)
    assert record["contradictions"]["value"] == pytest.approx(2 / 3)
    (record,) = rationale_quality(ITEMS, PARTS, RATINGS, scored(("1", 5, "no star"), ("2", None, "hm")), 50, 0.95, 0)
    assert record["items"] == 1
    assert (record["named_true"]["value"], record["false"]["value"]) == (0, 1)


def test_explanations_that_name_no_element_are_no_rationales() -> None:
    assert rationale_quality(ITEMS, PARTS, RATINGS, scored(("1", 5, "mostly right")), 50, 0.95, 0) == []


def test_critiques_of_a_teacher_that_never_errs_name_all_faults_and_nothing_else(load_wording) -> None:
    made = make_shapes(n_prompts=25, seed=5)
    wording = load_wording("compact")
    teacher = SimulatedBackend(made.items, wording, seed=0, error_rate=0, score_noise=0)
    phrases = {name: name for name in ("appearance", "attributes", "overall", "relations")}
    judged = judge_items(made.items, teacher, wording, phrases, ["decomposed"], name="teacher")
    thoughts = critiques(judged.transcripts, wording)
    overall = judged.scores[judged.scores["dimension"] == "overall"]
    truth = {
        item: json.loads(text)["elements"]
        for item, text in zip(made.items["item_id"], made.items["attributes"], strict=True)
    }
    labels = schema.ELEMENT_RATINGS.frame(
        {"item_id": item, "element_id": key, "rater_id": "truth", "label": float(value)}
        for item, elements in truth.items()
        for key, value in elements.items()
    )
    given = overall.assign(explanation=overall["item_id"].map(thoughts))
    (record,) = rationale_quality(made.items, made.elements, labels, given, 50, 0.95, 0)
    assert record["items"] == len(made.items)
    assert record["named_true"]["value"] > 0.97
    assert record["false"]["value"] < 0.03
    assert record["contradictions"]["value"] < 0.05


def test_a_plural_names_what_its_singular_does_and_short_words_stay() -> None:
    elements = {"b": "boxes", "d": "dress", "g": "gas"}
    assert named_faults("there is no box", elements) == {"b"}
    assert named_faults("there is no dress", elements) == {"d"}
    assert named_faults("there is no ga", elements) == set()


def test_a_parent_without_a_label_excuses_nothing() -> None:
    assert true_faults({"c.color": False}, {"c.color": {"c"}}) == {"c.color"}
