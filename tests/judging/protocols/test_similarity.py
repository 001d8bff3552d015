from __future__ import annotations

import math

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem
from t2i_eval_kedro.judging.protocols.similarity import Similarity
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

SUBJECT = EvaluationItem("i", "a cat", "i.png")


def test_the_request_is_the_prompt_and_the_image() -> None:
    (request,) = Similarity().requests(SUBJECT, {})
    assert (request.messages[0].text, request.messages[0].images) == ("a cat", ("i.png",))
    assert Similarity().requests(SUBJECT, {request.step: Answer("0.3")}) == []


@pytest.mark.parametrize(
    ("answer", "value", "status"),
    [
        (Answer("0.31"), 3.1, OK),
        (Answer("-0.2"), 0.0, OK),
        (Answer("1.0001"), 10.0, OK),
        (Answer("3"), None, UNPARSED),
        (Answer("nan"), None, UNPARSED),
        (Answer("no image", status=FAILED), None, FAILED),
    ],
)
def test_the_score_is_the_cosine_where_it_is_positive(answer: Answer, value: float | None, status: str) -> None:
    score = Similarity().verdict(SUBJECT, {"similarity": answer}).scores["alignment"]
    assert score.value == (None if value is None else pytest.approx(value))
    assert score.status == status


def test_a_damaged_cosine_is_a_number_from_minus_one_to_one_or_nothing() -> None:
    with mostly_reached() as reached:

        @given(text=damaged(st.floats(-1, 1).map(str), most=1))
        def check(text: str) -> None:
            score = Similarity().verdict(SUBJECT, {"similarity": Answer(text)}).scores["alignment"]
            try:
                cosine = float(text) if "_" not in text else math.nan
            except ValueError:
                cosine = math.nan
            if -1.001 <= cosine <= 1.001:
                assert score.value == pytest.approx(10 * min(max(cosine, 0), 1))
            else:
                assert (score.value, score.status) == (None, UNPARSED)
            reached[score.status == OK] += 1

        check()
