from __future__ import annotations

import json
from pathlib import Path

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.agreement.challenge import dsg_score
from t2i_eval_kedro.answers import yes_or_no
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, PromptElement, Wording
from t2i_eval_kedro.judging.protocols.dsg import Dsg, propagate_failures
from t2i_eval_kedro.judging.protocols.elements import elements_of
from t2i_eval_kedro.schema import OK, UNPARSED

GOLDEN = json.loads((Path(__file__).parents[2] / "fixtures" / "golden" / "dsg.json").read_text())
CHAIN = (
    PromptElement("1", "a cat", "is there a cat ?"),
    PromptElement("2", "black", "is the cat black ?", parents=("1",)),
    PromptElement("3", "shining", "is the black shining ?", parents=("2",)),
)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_the_official_code_gives_the_same_numbers(case: dict) -> None:
    passed = {name: answer == "yes" for name, answer in case["answers"].items()}
    parents = {name: [str(parent) for parent in above if parent != 0] for name, above in case["deps"].items()}
    for propagation, official in (("direct", case["with_dep"]), ("none", case["without_dep"])):
        counts = propagate_failures(passed, parents, propagation)
        assert sum(counts.values()) / len(counts) == pytest.approx(official)
    valid = {name: all(passed[parent] for parent in parents[name]) for name in passed}
    assert valid == case["validity"]
    assert propagate_failures(passed, parents, "direct") == {name: passed[name] and valid[name] for name in passed}


@given(
    passed=st.dictionaries(st.integers(0, 6).map(str), st.booleans()),
    parents=st.dictionaries(st.integers(0, 6).map(str), st.lists(st.integers(0, 8).map(str), max_size=3)),
)
def test_a_failure_reaches_further_the_further_it_may(passed: dict[str, bool], parents: dict[str, list[str]]) -> None:
    none, direct, all_the_way = (
        propagate_failures(passed, parents, propagation) for propagation in ("none", "direct", "all")
    )
    assert none == passed
    for name in passed:
        assert all_the_way[name] <= direct[name] <= none[name]
        if all_the_way[name]:
            assert all(all_the_way.get(parent, True) for parent in parents.get(name, ()))


def answers(*shares: float) -> dict[str, Answer]:
    return {
        f"yes_no/{i}": Answer("", probabilities={"no": 1 - share, "yes": share}) for i, share in enumerate(shares, 1)
    }


@pytest.mark.parametrize(("propagation", "score"), [("none", 20 / 3), ("direct", 10 / 3), ("all", 0.0)])
def test_a_failed_parent_zeroes_its_children(compact: Wording, propagation, score: float) -> None:
    item = EvaluationItem("i", "a shining black cat", "i.png", elements=CHAIN)
    verdict = Dsg(compact, propagation=propagation).verdict(item, answers(0.1, 0.9, 0.9))
    assert verdict.scores["alignment"].value == pytest.approx(score)
    assert set(verdict.elements) == {"1", "2", "3"}


def test_without_elements_the_prompt_is_read_first(wording: Wording) -> None:
    item, protocol = EvaluationItem("i", "a cat", "i.png"), Dsg(wording)
    (extract,) = protocol.requests(item, {})
    assert extract.task == "extract"
    assert extract.messages[0].images == ()
    given_answers = {"extract": Answer("attributes | cat | Is there a cat?\nattributes | cat | Is the cat black?")}
    asked = protocol.requests(item, given_answers)
    assert [request.step for request in asked] == ["yes_no/1", "yes_no/2"]
    given_answers |= {request.step: Answer("yes") for request in asked}
    assert protocol.requests(item, given_answers) == []
    assert protocol.verdict(item, given_answers).scores["alignment"].value == 10


@pytest.mark.parametrize("undecided", [Answer("perhaps"), Answer("", probabilities={"no": 0.5, "yes": 0.5})])
def test_an_undecided_answer_is_not_counted_as_no(compact: Wording, undecided: Answer) -> None:
    item = EvaluationItem("i", "a shining black cat", "i.png", elements=CHAIN)
    verdict = Dsg(compact).verdict(item, answers(0.9, 0.9) | {"yes_no/3": undecided})
    assert verdict.scores["alignment"].status == UNPARSED
    assert [score.status for score in verdict.elements.values()] == [OK, OK, UNPARSED]


def test_damaged_answers_give_the_share_of_what_holds_or_nothing(compact: Wording) -> None:
    extraction = "attributes | cat | Is there a cat?\nattributes | cat | Is the cat black?"
    yes_no = damaged(st.sampled_from(["yes", "Yes.", "no", "No, it is white."]), most=1)
    with mostly_reached() as reached:

        @given(extracted=damaged(st.just(extraction), most=1), said=st.lists(yes_no, min_size=2, max_size=2))
        def check(extracted: str, said: list[str]) -> None:
            given_answers = {"extract": Answer(extracted)} | {
                f"yes_no/{n}": Answer(text) for n, text in enumerate(said, start=1)
            }
            item = EvaluationItem("i", "p", "i.png")
            verdict = Dsg(compact).verdict(item, given_answers)
            asked = elements_of(item, given_answers)
            assert list(verdict.elements) == [element.element_id for element in asked]
            read = {e.element_id: yes_or_no(given_answers[f"yes_no/{e.element_id}"].text) for e in asked}
            score = verdict.scores["alignment"]
            if not read or None in read.values():
                assert (score.value, score.status) == (None, UNPARSED)
            else:
                holds = [read[e.element_id] and all(read[parent] for parent in e.parents) for e in asked]
                assert score.value == pytest.approx(10 * sum(holds) / len(holds))
            reached[score.status == OK] += 1

        check()


@given(
    passed=st.dictionaries(st.integers(1, 6).map(str), st.booleans(), min_size=1),
    parents=st.dictionaries(st.integers(1, 6).map(str), st.lists(st.integers(0, 8).map(str), max_size=3)),
)
def test_the_two_computations_of_the_published_score_agree(
    passed: dict[str, bool], parents: dict[str, list[str]]
) -> None:
    said = {name: "yes" if yes else "no" for name, yes in passed.items()}
    for propagation, mode, dependencies in (
        ("direct", "as_published", True),
        ("all", "corrected", True),
        ("none", "as_published", False),
    ):
        counts = propagate_failures(passed, parents, propagation)
        expected = dsg_score(said, parents, mode, dependencies)
        assert sum(counts.values()) / len(counts) == pytest.approx(expected)
