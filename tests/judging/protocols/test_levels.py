from __future__ import annotations

import json
from dataclasses import replace

import pytest

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, Levels, PromptElement, Wording
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

SUBJECT = EvaluationItem(
    "i1", "a black cat", "i1.png", {"overall": "how good it is", "prompt_matching": "how well it matches"}
)


def test_one_request_a_dimension_all_at_once(wording: Wording) -> None:
    requests = Levels(wording).requests(SUBJECT, {})
    assert [request.step for request in requests] == ["score/overall", "score/prompt_matching"]
    assert all(request.candidate_tokens == wording.levels for request in requests)
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
    request = Levels(wording).requests(EvaluationItem("i", trick, "i.png", {"overall": "quality"}), {})[0]
    assert trick in request.messages[0].text


@pytest.mark.parametrize(
    ("name", "vocabulary"), [("compact", "words"), ("full", "words"), ("full", "letters"), ("full", "yes_no")]
)
def test_a_vocabulary_has_its_own_words_text_and_label(load_wording, name: str, vocabulary: str) -> None:
    wording = load_wording(name)
    levels = Levels(wording, vocabulary=vocabulary)
    request = levels.requests(SUBJECT, {})[0]
    words = wording.vocabulary(vocabulary).levels
    assert request.candidate_tokens == words
    assert request.messages[0].text != Levels(wording).requests(SUBJECT, {})[0].messages[0].text
    assert levels.label == f"levels_{vocabulary}@2/{name}@{wording.version}"
    halves = {words[0]: 0.5, words[-1]: 0.5}
    verdict = levels.verdict(SUBJECT, {"score/overall": Answer(words[0], probabilities=halves)})
    assert verdict.scores["overall"].value == pytest.approx(5)


def test_a_vocabulary_that_the_wording_lacks_is_refused(compact: Wording) -> None:
    with pytest.raises(T2IEvalError, match="no answer vocabulary 'romans'; it has digits, words, letters, yes_no"):
        Levels(compact, vocabulary="romans")


def test_the_categories_of_the_elements_stand_before_the_request(wording: Wording) -> None:
    elements = (
        PromptElement("1", "a cat", "is there a cat ?", "object"),
        PromptElement("2", "black", "is the cat black ?", "color"),
    )
    item = replace(SUBJECT, elements=elements)
    plain = Levels(wording).requests(item, {})[0].messages[0].text
    named = Levels(wording, categories=True).requests(item, {})[0].messages[0].text
    assert named.endswith(f"\n{plain}")
    assert all(part in named.removesuffix(plain) for part in ("a cat", "object", "black", "color"))
    assert Levels(wording, categories=True).requests(SUBJECT, {})[0].messages[0].text == plain


@pytest.mark.parametrize(
    ("answer", "value", "status"),
    [
        (Answer("3"), 3.0, OK),
        (Answer("maybe 3"), None, UNPARSED),
        (Answer("3", probabilities={"3": 0.4}), None, UNPARSED),
        (Answer("3", probabilities={"3": float("nan")}), None, UNPARSED),
        (Answer("x", probabilities={"x": 1.0}), None, UNPARSED),
    ],
)
def test_without_a_distribution_over_the_levels_there_is_no_expectation(
    compact: Wording, answer: Answer, value: float | None, status: str
) -> None:
    score = Levels(compact).verdict(SUBJECT, {"score/overall": answer}).scores["overall"]
    assert (score.value, score.status) == (value, status)


def test_what_is_outside_the_levels_stands_in_the_transcript(compact: Wording) -> None:
    class Sure:
        def answer(self, requests):
            for i in range(len(requests)):
                yield i, Answer("7", probabilities={"7": 1.0}, out_of_vocabulary_mass=0.25, usage={"prompt_tokens": 9})

    usage = judge([SUBJECT], Levels(compact), Sure(), name="x").transcripts["usage"].map(json.loads)
    assert usage.tolist() == [{"prompt_tokens": 9, "probabilities": {"7": 1.0}, "out_of_vocabulary_mass": 0.25}] * 2
