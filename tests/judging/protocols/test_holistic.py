from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.holistic import Holistic
from t2i_eval_kedro.judging.protocols.response_schemas import ScoreListSchema
from t2i_eval_kedro.schema import FAILED, OK, STATUSES, UNPARSED

SUBJECT = EvaluationItem("i", "a black banana", "i.png")
SC = Answer('{"score": [8], "reasoning": "it is black"}')
PQ = Answer('{"score": [9, 4], "reasoning": "one scratch"}')


@pytest.fixture
def holistic(load_wording) -> Holistic:
    return Holistic(load_wording("full"))


def test_quality_is_asked_without_the_prompt(holistic: Holistic) -> None:
    sc, pq = holistic.requests(SUBJECT, {})
    assert "a black banana" in sc.messages[0].text
    assert "banana" not in pq.messages[0].text
    assert '{"score": [<naturalness>, <artifacts>], "reasoning": "<why>"}' in pq.messages[0].text
    assert sc.messages[0].images == pq.messages[0].images == ("i.png",)
    assert holistic.requests(SUBJECT, {"holistic_sc": SC, "holistic_pq": PQ}) == []


def test_the_smallest_scores_and_their_geometric_mean(holistic: Holistic) -> None:
    scores = holistic.verdict(SUBJECT, {"holistic_sc": SC, "holistic_pq": PQ}).scores
    assert {name: score.value for name, score in scores.items()} == {
        "alignment": 8,
        "appearance": 4,
        "overall": pytest.approx(math.sqrt(32)),
    }
    assert scores["overall"].explanation == "it is black one scratch"


def test_what_was_mended_is_counted(holistic: Holistic) -> None:
    verdict = holistic.verdict(SUBJECT, {"holistic_sc": Answer('```json\n{"score": 8}\n```'), "holistic_pq": PQ})
    assert len(verdict.repairs) == 2
    assert verdict.scores["alignment"].value == 8


@pytest.mark.parametrize(
    ("sc", "status"),
    [
        (Answer("I cannot."), UNPARSED),
        (Answer('{"score": [8, 9]}'), UNPARSED),
        (Answer("timeout", status=FAILED), FAILED),
    ],
)
def test_an_unread_half_leaves_no_overall_score_and_keeps_the_text(holistic: Holistic, sc: Answer, status: str) -> None:
    scores = holistic.verdict(SUBJECT, {"holistic_sc": sc, "holistic_pq": PQ}).scores
    assert scores["alignment"].status == scores["overall"].status == status
    assert scores["alignment"].explanation == sc.text
    assert scores["appearance"].status == OK


def test_an_answer_by_its_schema_is_read_as_it_is(holistic: Holistic) -> None:
    text = ScoreListSchema(reasoning="fine", score=[9, 4]).text()
    verdict = holistic.verdict(SUBJECT, {"holistic_sc": SC, "holistic_pq": Answer(text)})
    assert (verdict.scores["appearance"].value, verdict.repairs) == (4, ())


def test_a_wording_without_its_templates_says_so(compact: Wording) -> None:
    with pytest.raises(T2IEvalError, match=r"holistic_sc\.jinja"):
        Holistic(compact).requests(SUBJECT, {})


@given(sc=st.text(), pq=st.text())
def test_any_text_gives_a_verdict(full: Wording, sc: str, pq: str) -> None:
    protocol = Holistic(full)
    for score in protocol.verdict(SUBJECT, {"holistic_sc": Answer(sc), "holistic_pq": Answer(pq)}).scores.values():
        assert score.status in STATUSES
        assert (score.value is None) == (score.status != OK)
