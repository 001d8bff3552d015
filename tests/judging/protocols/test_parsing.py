from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.parsing import MAX_QUESTIONS, Question, parse_questions, parse_score
from t2i_eval_kedro.judging.protocols.wording import AnswerVocabulary
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, STATUSES, UNPARSED
from t2i_eval_kedro.steps import ASPECTS

GOLDEN = json.loads((Path(__file__).parents[2] / "fixtures/golden/t2i_eval_scores.json").read_text())


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("7", 7.0, OK),
        (" 10 ", 10.0, OK),
        ("7.", 7.0, OK),
        ("n/a", None, NOT_APPLICABLE),
        ("N/A", None, NOT_APPLICABLE),
        ("11", None, UNPARSED),
        ("-2", None, UNPARSED),
        ("8/10", None, UNPARSED),
        ("**8**", None, UNPARSED),
        ("8 or 9", None, UNPARSED),
        ("nan", None, UNPARSED),
        ("", None, UNPARSED),
        ("seven", None, UNPARSED),
    ],
)
def test_read_strictly_a_score_is_one_level_and_nothing_else(
    compact: Wording, text: str, value: float | None, status: str
) -> None:
    score = parse_score(Answer(text), compact, reading="strict")
    assert (score.value, score.status) == (value, status)


@pytest.mark.parametrize(
    ("text", "value", "repairs"),
    [
        ("7", 7, 0), ("Score: 7", 7, 1), ("score is 7.", 7, 1), ("**7**", 7, 1), ("**Score:** 7", 7, 2), ("7/10", 7, 1),
        ("7 out of 10", 7, 1), ("8.5", 8.5, 1), ("7.0", 7, 1), ("0.0", 0, 1), ("10.0", 10, 1), ("```\n7\n```", 7, 1), ('```json\n{"score": 7}\n```', 7, 2),
        ('{"score": ["7"]}', 7, 1), ("<think>9 or 10?</think>\n7", 7, 1), ("<think>Hm.</think> **Score: 7/10**", 7, 4),
        ("Score: N/A", None, 1), ("-2", None, None), ("11", None, None), ("7/5", None, None), ("7 or 8", None, None),
        ("7-8", None, None), ("8, 9", None, None), ("It is a 7", None, None), ("<think>7", None, None), ("7%", None, None),
        ('{"score": [7, 8]}', None, None), ('{"score": true}', None, None), ('{"score": 7, "score": 8}', None, None),
    ],
)  # fmt: skip
def test_read_tolerantly_what_stands_around_a_score_is_taken_away_and_counted(
    compact: Wording, text: str, value: float | None, repairs: int | None
) -> None:
    score = parse_score(Answer(text), compact)
    assert score.value == value
    assert score.status == (OK if value is not None else UNPARSED if repairs is None else NOT_APPLICABLE)
    assert len(score.repairs) == (repairs or 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("9", 10), ("4.5", 5), ("7/9", 70 / 9), ("7/10", 7), ("10/10", 10), ("10", None), ("9.5", None)],
)
def test_a_fraction_is_of_ten_or_of_the_highest_level(full: Wording, text: str, value: float | None) -> None:
    assert parse_score(Answer(text), full).value == (None if value is None else pytest.approx(value))


def test_between_levels_the_lowest_is_nought() -> None:
    levels = AnswerVocabulary(("1", "2", "3", "4", "5"))
    assert parse_score(Answer("2.5"), levels).value == pytest.approx(3.75)
    assert parse_score(Answer("0.5"), levels).value is None


@pytest.mark.parametrize(
    ("text", "level"), [("Good.", "Good"), ("**good**", "Good"), ("Rating: GOOD", "Good"), ("7", None)]
)
def test_a_level_that_is_a_word_is_found_in_any_case(full: Wording, text: str, level: str | None) -> None:
    words = full.vocabulary("words")
    assert parse_score(Answer(text), words).value == (None if level is None else words.value(level))


@pytest.mark.parametrize("case", GOLDEN["extract"], ids=lambda case: case["text"] or "empty")
def test_read_as_published_a_score_is_t2i_eval_s(compact: Wording, case: dict[str, Any]) -> None:
    score = parse_score(Answer(case["text"]), compact, reading="as_published")
    number = math.nan if case["single"] == "N/A" else float(case["single"])
    assert score.value == (number if math.isfinite(number) else None)
    assert (score.status == OK) == math.isfinite(number)


def test_what_is_written_around_a_score_does_not_change_it(wording: Wording) -> None:
    around = st.sampled_from(
        ["{}", "**{}**", "Score: {}", "`{}`.", "```\n{}\n```", '{{"score": "{}"}}', "<think>3 or 4</think>{}"]
    )
    with mostly_reached() as reached:

        @given(level=st.sampled_from(wording.levels), outer=around, inner=around, data=st.data())
        def check(level: str, outer: str, inner: str, data: st.DataObject) -> None:
            text = outer.format(inner.format(level) if "{{" not in outer else level)
            score = parse_score(Answer(text), wording)
            assert score.value in (wording.value(level), None)
            reached[score.value is not None] += 1
            broken = parse_score(Answer(data.draw(damaged(st.just(text)))), wording)
            assert (broken.value is None) == (broken.status != OK)
            assert broken.value is None or 0 <= broken.value <= 10

        check()


def test_an_unparsed_score_keeps_its_text(compact: Wording) -> None:
    assert parse_score(Answer("about 8"), compact).explanation == "about 8"


def test_a_failed_answer_is_failed_with_its_reason(compact: Wording) -> None:
    score = parse_score(Answer("timeout", status=FAILED), compact)
    assert (score.value, score.status, score.explanation) == (None, FAILED, "timeout")


BLANKS = st.text(" \t\n", max_size=4)  # enough different texts that hypothesis draws whole ones often


def test_a_damaged_score_is_a_level_or_nothing(wording: Wording) -> None:
    with mostly_reached() as reached:
        stated = st.builds("{}{}{}".format, BLANKS, st.sampled_from([*wording.levels, "n/a", "N/A"]), BLANKS)

        @given(text=damaged(stated, most=1))
        def check(text: str) -> None:
            score = parse_score(Answer(text), wording, reading="strict")
            word = text.strip().removesuffix(".")
            assert score.value == (wording.value(word) if word in wording.levels else None)
            assert score.status == (
                OK
                if word in wording.levels
                else NOT_APPLICABLE
                if word.strip().lower() in ("n/a", "n/a.")
                else UNPARSED
            )
            reached[score.status in (OK, NOT_APPLICABLE)] += 1

        check()


@given(text=st.text())
def test_parsing_is_total_and_stays_on_the_scale(compact: Wording, text: str) -> None:
    score = parse_score(Answer(text), compact)
    assert score.status in STATUSES
    assert (score.value is None) == (score.status != OK)
    assert score.value is None or 0 <= score.value <= 10


def test_levels_and_values_are_inverse(wording: Wording) -> None:
    for level in wording.levels:
        assert wording.level(wording.value(level)) == level
    assert wording.value(wording.levels[0]) == 0
    assert wording.value(wording.levels[-1]) == 10


@given(score=st.floats(0, 10))
def test_the_level_of_a_score_is_the_nearest(compact: Wording, score: float) -> None:
    assert abs(compact.value(compact.level(score)) - score) <= 0.5


def test_questions_are_read_from_their_lines() -> None:
    text = """Here is the list:
- attributes | cat | Is the cat black?
relations | cat,  dog | Is the cat left of the dog?
Relations | cat, dog | no question
mood | cat | Is it happy?
attributes |  | Is it there?
attributes | cat | Is the cat black?
"""
    assert parse_questions(text) == (
        Question("attributes", ("cat",), "Is the cat black?"),
        Question("relations", ("cat", "dog"), "Is the cat left of the dog?"),
    )


def test_what_is_unspecified_stays_out_and_what_is_stated_is_kept() -> None:
    text = """appearance | cat | - | Is the cat well drawn?
attributes | cat | existence: yes | Is there a cat?
attributes | cat | colour: unspecified | Is the cat of some colour?
attributes | cat | Quantity: None | How many cats?
attributes | cat | - | Is the cat asleep?
relations | cat, mat | on | Is the cat on the mat?
relations | cat, mat | on | too | many?"""
    assert parse_questions(text) == (
        Question("appearance", ("cat",), "Is the cat well drawn?"),
        Question("attributes", ("cat",), "Is there a cat?", "existence: yes"),
        Question("attributes", ("cat",), "Is the cat asleep?"),
        Question("relations", ("cat", "mat"), "Is the cat on the mat?", "on"),
    )


def test_a_runaway_extraction_is_none_at_all() -> None:
    lines = [f"attributes | cat | Is it number {i}?" for i in range(MAX_QUESTIONS + 1)]
    assert parse_questions("\n".join(lines)) == ()
    assert len(parse_questions("\n".join(lines[:-1]))) == MAX_QUESTIONS


LINES = st.builds(
    "{} | {} | {}?".format,
    st.sampled_from(ASPECTS),
    st.lists(st.sampled_from(["cat", "red dog", "tree"]), min_size=1, max_size=2).map(", ".join),
    st.sampled_from(["Is it there", "is the cat left of the dog"]),
)


def test_a_damaged_extraction_keeps_its_whole_lines() -> None:
    with mostly_reached() as reached:

        @given(lines=st.lists(st.one_of(LINES, damaged(LINES)), min_size=1, max_size=6))
        def check(lines: list[str]) -> None:
            text = "\n".join(lines)
            questions = parse_questions(text)
            for question in questions:
                assert question.aspect in ASPECTS
                assert question.entities
                assert all(name == name.strip() != "" for name in question.entities)
                assert question.text.endswith("?")
                assert f"{question.text}" in re.sub(r"[ \t]+", " ", text)
            assert len(set(questions)) == len(questions)
            assert questions == tuple(dict.fromkeys(q for line in lines for q in parse_questions(line)))
            reached[bool(questions)] += 1

        check()
