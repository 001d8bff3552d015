from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.agreement import summarise
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, PromptElement, Wording
from t2i_eval_kedro.judging.protocols.pn_vqa import PnVqa
from t2i_eval_kedro.schema import UNPARSED
from t2i_eval_kedro.shapes.make import make_shapes

ELEMENTS = (
    PromptElement("1", "a cat", "is there a cat ?"),
    PromptElement("2", "black", "is the cat black ?", parents=("1",)),
)
SUBJECT = EvaluationItem("i", "a black cat", "i.png", elements=ELEMENTS)


def said(positive: float, negative: float, element: str) -> dict[str, Answer]:
    return {
        f"{task}/{element}": Answer("", probabilities={"no": 1 - p, "yes": p})
        for task, p in (("yes_no", positive), ("yes_no_negative", negative))
    }


def test_two_questions_an_element_at_once(wording: Wording) -> None:
    requests = PnVqa(wording).requests(SUBJECT, {})
    assert [request.step for request in requests] == ["yes_no/1", "yes_no_negative/1", "yes_no/2", "yes_no_negative/2"]
    assert requests[0].messages != requests[1].messages
    assert requests[0].question_id == requests[1].question_id


@given(p=st.floats(0, 1), n=st.floats(0, 1))
def test_an_element_is_the_mean_of_yes_to_the_one_and_no_to_the_other(compact: Wording, p: float, n: float) -> None:
    verdict = PnVqa(compact).verdict(SUBJECT, said(p, n, "1") | said(1, 0, "2"))
    assert verdict.elements["1"].value == pytest.approx((p + (1 - n)) / 2)
    assert verdict.scores["alignment"].value == pytest.approx(10 * ((p + (1 - n)) / 2 + 1) / 2)


def test_a_judge_that_always_says_yes_gets_one_half(compact: Wording) -> None:
    verdict = PnVqa(compact).verdict(SUBJECT, said(1, 1, "1") | said(1, 1, "2"))
    assert verdict.scores["alignment"].value == pytest.approx(5)


def test_half_an_answer_is_no_answer(compact: Wording) -> None:
    verdict = PnVqa(compact).verdict(
        SUBJECT, said(1, 0, "1") | {"yes_no/2": Answer("yes"), "yes_no_negative/2": Answer("?")}
    )
    assert verdict.elements["2"].status == verdict.scores["alignment"].status == UNPARSED


def test_a_teacher_that_sees_the_truth_agrees_with_the_raters(wording: Wording) -> None:
    shapes = make_shapes(24, seed=5)
    backend = SimulatedBackend(shapes.items, wording, seed=0, error_rate=0, score_noise=0)
    items = [EvaluationItem(row.item_id, row.prompt, row.image) for row in shapes.items.itertuples()]
    scores = judge(items, PnVqa(wording), backend, name="t").scores.assign(dimension="attributes")
    figures = summarise(shapes.items, shapes.ratings, scores, n_resamples=50)["evaluators"]["t_pn_vqa"]
    assert figures["attributes"]["spearman"]["value"] > 0.7
