from __future__ import annotations

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, PromptElement, Wording
from t2i_eval_kedro.judging.protocols.base import Score
from t2i_eval_kedro.judging.protocols.elements import (
    elements_of,
    extracted_elements,
    mean_score,
    probability_of_yes,
    yes_no_request,
)
from t2i_eval_kedro.judging.protocols.parsing import parse_questions
from t2i_eval_kedro.schema import FAILED, OK, UNPARSED

EXTRACTION = """appearance | cat | Is the cat well drawn?
attributes | cat | Is there a cat?
attributes | dog | Is there a dog?
attributes | cat | Is the cat black?
relations | cat, dog | Is the cat left of the dog?"""


def test_extracted_questions_depend_on_the_first_about_each_of_their_entities() -> None:
    assert [(e.element_id, e.question, e.parents) for e in extracted_elements(EXTRACTION)] == [
        ("1", "Is there a cat?", ()),
        ("2", "Is there a dog?", ()),
        ("3", "Is the cat black?", ("1",)),
        ("4", "Is the cat left of the dog?", ("1", "2")),
    ]


LINES = st.builds(
    "{} | {} | Is it {}?".format,
    st.sampled_from(["appearance", "attributes", "relations"]),
    st.lists(st.sampled_from(["cat", "dog"]), min_size=1, max_size=2).map(", ".join),
    st.integers(0, 9),
)


def test_the_elements_of_a_damaged_extraction_depend_on_earlier_ones_alone() -> None:
    with mostly_reached() as reached:

        @given(lines=st.lists(damaged(LINES), max_size=4), more=st.lists(LINES, min_size=2, max_size=5))
        def check(lines: list[str], more: list[str]) -> None:
            text = "\n".join([*lines, "attributes | cat | Is there a cat?", *more])
            asked = [question for question in parse_questions(text) if question.aspect != "appearance"]
            elements = extracted_elements(text)
            assert [e.question for e in elements] == [question.text for question in asked]
            assert [e.element_id for e in elements] == [str(n) for n in range(1, len(asked) + 1)]
            for number, element in enumerate(elements):
                first = {}
                for earlier, question in zip(elements[:number], asked, strict=False):
                    if len(question.entities) == 1:
                        first.setdefault(question.entities[0], earlier.element_id)
                expected = [first[name] for name in asked[number].entities if name in first]
                assert list(element.parents) == list(dict.fromkeys(expected))
            reached[any(element.parents for element in elements)] += 1

        check()


def test_an_items_own_elements_come_first() -> None:
    own = (PromptElement("e", "a cat", "Is there a cat?"),)
    assert elements_of(EvaluationItem("i", "a cat", "i.png", elements=own), {"extract": Answer(EXTRACTION)}) == own
    assert elements_of(EvaluationItem("i", "a cat", "i.png"), {}) is None
    assert elements_of(EvaluationItem("i", "a cat", "i.png"), {"extract": Answer("no", status=FAILED)}) == ()


def test_an_expected_answer_other_than_yes_stands_in_the_question(wording: Wording) -> None:
    item = EvaluationItem("i", "a cat", "i.png")
    plain = yes_no_request(wording, item, PromptElement("1", "a cat", "which animal is it ?"))
    choice = yes_no_request(wording, item, PromptElement("1", "a cat", "which animal is it ?", expected="leopard"))
    assert "leopard" not in plain.messages[0].text
    assert "leopard" in choice.messages[0].text
    assert plain.candidate_tokens == wording.vocabulary("yes_no").levels


def test_an_element_without_a_question_is_asked_about_by_its_text(wording: Wording) -> None:
    request = yes_no_request(wording, EvaluationItem("i", "a cat", "i.png"), PromptElement("1", "a black cat", ""))
    assert "a black cat" in request.messages[0].text


def test_the_compact_question_is_the_one_that_the_tiny_model_knows(compact: Wording) -> None:
    request = yes_no_request(
        compact, EvaluationItem("i", "a cat", "i.png"), PromptElement("1", "a cat", "is there a cat ?")
    )
    assert request.messages[0].text == compact.render("answer", question="is there a cat ?")


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        (Answer("yes", probabilities={"no": 0.25, "yes": 0.75}), 0.75),
        (Answer("Yes, there is."), 1.0),
        (Answer("no"), 0.0),
    ],
)
def test_probability_of_yes(compact: Wording, answer: Answer, share: float) -> None:
    assert probability_of_yes(answer, compact) == share


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (None, FAILED),
        (Answer("timeout", status=FAILED), FAILED),
        (Answer("perhaps"), UNPARSED),
        (Answer("x", probabilities={"a": 1.0}), UNPARSED),
        (Answer("x", probabilities={"yes": float("nan")}), UNPARSED),
        (Answer("x", probabilities={"yes": 1.5}), UNPARSED),
    ],
)
def test_no_probability_gives_a_reason(compact: Wording, answer: Answer | None, status: str) -> None:
    score = probability_of_yes(answer, compact)
    assert isinstance(score, Score)
    assert (score.value, score.status) == (None, status)


def test_one_unread_element_leaves_the_item_without_a_score() -> None:
    good, bad = Score(1.0, OK), Score(None, UNPARSED, "perhaps")
    assert mean_score({"1": good, "2": Score(0.0, OK)}, {}) == Score(5.0, OK)
    assert mean_score({"1": good, "2": bad}, {}) == Score(None, UNPARSED, "1 of 2 elements, first 2: perhaps")
    assert mean_score({"1": good, "2": bad, "3": Score(None, FAILED, "x")}, {}).status == FAILED
    assert mean_score({}, {"extract": Answer("nothing")}).status == UNPARSED
    assert mean_score({}, {"extract": Answer("timeout", status=FAILED)}).status == FAILED
