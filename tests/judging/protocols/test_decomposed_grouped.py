from __future__ import annotations

import re

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem
from t2i_eval_kedro.judging.protocols.decomposed_grouped import DecomposedGrouped, parse_group
from t2i_eval_kedro.schema import OK, UNPARSED

EXTRACTION = """appearance | cat | Is the cat well drawn?
attributes | cat | Is there a cat?
attributes | cat | Is the cat black?
relations | cat, dog | Is the cat left of the dog?"""
LINES = "1 | yes | it is there | 9\n2 | no | it is white | 2\n3 | yes | it is | 8\n4 | yes | so it is | 7"


class Scripted:
    """A backend that answers by the task and records what it was asked."""

    def __init__(self) -> None:
        self.asked: list = []

    def answer(self, requests):
        for i, request in enumerate(requests):
            self.asked.append(request)
            default = "7" if request.task.endswith("_2") else "fine"
            yield i, Answer({"extract": EXTRACTION, "answer_group": LINES}.get(request.task, default))


@pytest.mark.parametrize(("by_aspect", "groups"), [(False, ["all"]), (True, ["appearance", "attributes", "relations"])])
def test_the_questions_are_asked_together_and_the_rest_as_ever(
    load_wording, by_aspect: bool, groups: list[str]
) -> None:
    backend = Scripted()
    protocol = DecomposedGrouped(load_wording("full"), by_aspect=by_aspect)
    said = judge([EvaluationItem("i", "a black cat left of a dog", "i.png")], protocol, backend, name="x")
    steps = [request.step for request in backend.asked]
    assert steps[: 1 + len(groups)] == ["extract", *(f"{group}/answers" for group in groups)]
    assert len(steps) == 1 + len(groups) + 3 * 2 + 2
    assert set(said.scores["status"]) == {OK}
    summary = next(r for r in backend.asked if r.step == "summary/attributes/explain").messages[0].text
    # Numbers count within the call: the second attribute is the third question of all, or the second of its aspect.
    assert ("it is white Score: 2" in summary) is True
    assert ("so it is" in summary) is False
    assert protocol.label == f"decomposed_{'by_aspect' if by_aspect else 'flat'}@2/full@3"


def test_lines_of_another_form_and_contradictions_are_left_out() -> None:
    text = "Here:\n1 | yes | fine | 9\n| 2. | no | bad | 1 |\n3 | yes | 9\n4 | a | b | 5\n4 | a | b | 6\nx | a | b | 5"
    assert parse_group(text) == {1: ("yes", "fine", "9"), 2: ("no", "bad", "1")}


ROWS = st.tuples(st.integers(1, 4), st.sampled_from(["yes", "no"]), st.just("it is there"), st.integers(0, 10))


def test_of_a_damaged_answer_the_whole_and_unambiguous_lines_are_read() -> None:
    with mostly_reached() as reached:

        @given(rows=st.lists(ROWS, min_size=1, max_size=5), broken=damaged(ROWS.map(lambda row: f"{row[0]} | a | b")))
        def check(rows: list[tuple[int, str, str, int]], broken: str) -> None:
            read = parse_group("\n".join([*(" | ".join(map(str, row)) for row in rows), broken]))
            expected = {}
            for number in {row[0] for row in rows}:
                lines = {tuple(map(str, row[1:])) for row in rows if row[0] == number}
                if len(lines) == 1:
                    expected[number] = lines.pop()
            assert len(broken.splitlines()) > 1 or "|" * 3 in re.sub(r"[^|]", "", broken) or read == expected
            assert all(len(finding) == 3 for finding in read.values())
            reached[bool(read)] += 1

        check()


def test_a_question_without_a_line_has_no_score(load_wording) -> None:
    protocol = DecomposedGrouped(load_wording("full"), by_aspect=False)
    answers = {"extract": Answer(EXTRACTION), "all/answers": Answer("1 | yes | fine | 9\n2 | yes | it is there | 9")}
    item = EvaluationItem("i", "p", "i.png")
    summaries = protocol.requests(item, answers)
    assert [request.aspect for request in summaries] == ["appearance", "attributes"]
    assert "Score: n/a" in summaries[1].messages[0].text
    relations = protocol.verdict(item, answers).scores["relations"]
    assert (relations.value, relations.status) == (None, UNPARSED)
    assert "no line about it" in relations.explanation
