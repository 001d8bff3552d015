from __future__ import annotations

import json
import math

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Wording
from t2i_eval_kedro.judging.protocols.holistic import Holistic
from t2i_eval_kedro.judging.protocols.response_schemas import ScoreListSchema
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

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


def objects(n: int) -> st.SearchStrategy[str]:
    scores = st.lists(st.integers(0, 10), min_size=n, max_size=n)
    return scores.map(lambda listed: json.dumps({"score": listed, "reasoning": "it is there"}))


def test_damaged_answers_give_scores_that_fit_together_or_none(full: Wording) -> None:
    protocol = Holistic(full)
    with mostly_reached() as reached:

        @given(sc=damaged(objects(1), most=1), pq=damaged(objects(2), most=1))
        def check(sc: str, pq: str) -> None:
            scores = protocol.verdict(SUBJECT, {"holistic_sc": Answer(sc), "holistic_pq": Answer(pq)}).scores
            for score in scores.values():
                assert score.status in (OK, UNPARSED)
                assert (score.value is None) == (score.status != OK)
                assert score.value is None or 0 <= score.value <= 10
            halves = scores["alignment"].value, scores["appearance"].value
            both = None not in halves
            assert scores["overall"].value == (pytest.approx(math.sqrt(halves[0] * halves[1])) if both else None)
            reached[both] += 1

        check()
