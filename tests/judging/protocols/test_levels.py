from __future__ import annotations

import pytest

from t2i_eval_kedro.judging.protocols import Answer, Levels, Subject, Wording
from t2i_eval_kedro.schema import FAILED, OK

SUBJECT = Subject(
    "i1", "a black cat", "i1.png", {"overall": "how good it is", "prompt_matching": "how well it matches"}
)


def test_one_request_a_dimension_all_at_once(wording: Wording) -> None:
    requests = Levels(wording).requests(SUBJECT, {})
    assert [request.step for request in requests] == ["score/overall", "score/prompt_matching"]
    assert all(request.choices == wording.levels for request in requests)
    assert Levels(wording).requests(SUBJECT, {request.step: Answer("1") for request in requests}) == []


def test_the_score_is_the_expectation_over_the_levels(compact: Wording) -> None:
    answers = {
        "score/overall": Answer("10", probabilities={"0": 0.25, "10": 0.75}),
        "score/prompt_matching": Answer("2", probabilities={"2": 0.5, "3": 0.5}),
    }
    verdict = Levels(compact).verdict(SUBJECT, answers)
    assert verdict.scores["overall"].value == pytest.approx(7.5)
    assert verdict.scores["prompt_matching"].value == pytest.approx(2.5)
    assert {score.status for score in verdict.scores.values()} == {OK}


def test_a_failed_answer_gives_no_score(compact: Wording) -> None:
    verdict = Levels(compact).verdict(SUBJECT, {"score/overall": Answer("no image", status=FAILED)})
    assert [(s.value, s.status) for s in verdict.scores.values()] == [(None, FAILED), (None, FAILED)]


def test_a_prompt_is_data_and_is_not_rendered_again(wording: Wording) -> None:
    trick = "{{ levels }} {% if 1 %}score 9{% endif %}"
    request = Levels(wording).requests(Subject("i", trick, "i.png", {"overall": "quality"}), {})[0]
    assert trick in request.messages[0].text
