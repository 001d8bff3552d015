from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.answers import (
    chosen_option,
    number_on_scale,
    parse_score_list,
    t2i_eval_score,
    t2i_eval_scores,
    yes_or_no,
)

GOLDEN = json.loads((Path(__file__).parent / "fixtures/golden/t2i_eval_scores.json").read_text())

FIELDS = st.sampled_from(
    ['"score"', "score", ":", "=", "[", "]", "{", "}", "8", "9", "11", "-1", "8/10", ",", "'", '"', "\n", "```json", " ",
     '"reasoning"', '"fine"', "||V^=^$$||", "nan", "1e999"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "n", "scores", "repairs"),
    [
        ('{"score": [8, 9], "reasoning": "fine"}', 2, (8, 9), 0),
        ('{"score": [8.5], "reasoning": "fine"}', 1, (8.5,), 0),
        ('{"score": 8, "reasoning": "fine"}', 1, (8,), 1),
        ('{"score": ["8"], "reasoning": "fine"}', 1, (8,), 1),
        ('{"score": ["8/10"], "reasoning": "fine"}', 1, (8,), 1),
        ('{"scores": [8], "reasoning": "fine"}', 1, (8,), 1),
        ('{"score": {"naturalness": 8, "artifacts": 9}, "reasoning": "fine"}', 2, (8, 9), 1),
        ('```json\n{"score": [8, 9], "reasoning": "fine"}\n```', 2, (8, 9), 1),
        ('||V^=^$$||\n{"score": [8], "reasoning": "fine"}\n||V^=^$$||', 1, (8,), 1),
        ('Here you are:\n{"score": [8], "reasoning": "fine"}', 1, (8,), 1),
        ("{'score': [8, 9], 'reasoning': 'it\\'s fine'}", 2, (8, 9), 1),
        ('{"score": [8, 9,], "reasoning": "fine",}', 2, (8, 9), 1),
        ('{"score": [8], "reasoning": "one\ntwo"}', 1, (8,), 1),
        ('{"score": [8, 9], "reasoning": "a "quoted" word"}', 2, (8, 9), 1),
        ('{"score": [8, 9], "reasoning": "cut off', 2, (8, 9), 1),
        ("[8, 9]", 2, (8, 9), 1),
        ("8", 1, (8,), 2),
        ("score: 8", 1, (8,), 2),
        ('{"score": [8], "reasoning": "a"} {"score": [8], "reasoning": "a"}', 1, (8,), 1),
        ('{"score": [8], "reasoning": "a"} {"score": [7], "reasoning": "b"}', 1, None, 0),
        ('{"score": [8], "score": [7]}', 1, None, 0),
        ("{'score': [8], 'score': [7]}", 1, None, 0),
        ('{"score": [8, 9], "reasoning": "two where one was asked for"}', 1, None, 0),
        ('{"score": [8], "reasoning": "one where two were asked for"}', 2, None, 0),
        ('{"score": [11], "reasoning": "off the scale"}', 1, None, 0),
        ('{"score": [-1], "reasoning": "off the scale"}', 1, None, 0),
        ('{"score": [true], "reasoning": "no number"}', 1, None, 0),
        ('{"score": [NaN], "reasoning": "no number"}', 1, None, 0),
        ('{"score": ["8/5"], "reasoning": "another scale"}', 1, None, 0),
        ('{"score": [], "reasoning": "none"}', 1, None, 0),
        ('{"reasoning": "none"}', 1, None, 0),
        ("7/10", 1, (7,), 1),
        ("**7**", 1, (7,), 2),
        ("<think>9?</think>\n{\"score\": [7], \"reasoning\": \"a\"}", 1, (7,), 1),
        ("score: 7 to 8", 1, None, 0),
        ("score: 7-8", 1, None, 0),
        ("I cannot judge this image.", 1, None, 0),
        ("", 1, None, 0),
    ],
)  # fmt: skip
def test_a_score_list_is_read_where_only_one_reading_is_possible(
    text: str, n: int, scores: tuple[float, ...] | None, repairs: int
) -> None:
    read = parse_score_list(text, n)
    assert read.scores == scores
    assert len(read.repairs) == repairs


def test_reasoning_is_kept_also_from_a_broken_object() -> None:
    assert parse_score_list('{"score": [8], "reasoning": "a "quoted" word"}', 1).reasoning == 'a "quoted" word'
    assert parse_score_list('{"score": ["x"], "reasoning": "why"}', 1).reasoning == "why"


OBJECTS = st.builds(
    lambda scores, reason, quote: json.dumps({"score": scores, "reasoning": reason}).replace('"', quote),
    st.lists(st.one_of(st.integers(0, 10), st.sampled_from(["8", "7/10", 8.5])), min_size=1, max_size=2),
    st.sampled_from(["it is fine", "a cat , left of it a dog"]),
    st.sampled_from(['"', "'"]),
)


def test_a_damaged_score_list_is_read_as_it_was_meant_or_not_at_all() -> None:
    with mostly_reached() as reached:

        @given(text=damaged(OBJECTS, most=1), n=st.integers(1, 2))
        def check(text: str, n: int) -> None:
            read = parse_score_list(text, n)
            numbers = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)}
            if read.scores is None:
                assert read.repairs == ()
            else:
                assert len(read.scores) == n
                assert all(0 <= score <= 10 and score in numbers for score in read.scores)
            reached[read.scores is not None or parse_score_list(text, 3 - n).scores is not None] += 1

        check()


def test_a_damaged_yes_is_never_a_no() -> None:
    with mostly_reached() as reached:
        said = st.builds(
            "{}{}{}".format,
            st.text(" \n*", max_size=3),
            st.sampled_from(["yes", "Yes", "YES"]),
            st.sampled_from(["", ".", ", the cat is black", "! It is there", " **"]),
        )

        @given(text=damaged(said, most=1))
        def check(text: str) -> None:
            says = yes_or_no(text)
            assert says is not False or re.match(r"\W*no\b", text, re.IGNORECASE)
            reached[says is True] += 1

        check()


def test_a_damaged_option_is_the_number_it_begins_with() -> None:
    with mostly_reached() as reached:

        @given(
            text=damaged(
                st.sampled_from(
                    ["2", "-1: the cat is missing", "(1) most of it is right", "0: all is wrong", "1, some of them."]
                ),
                most=1,
            )
        )
        def check(text: str) -> None:
            option = chosen_option(text, (-1, 0, 1, 2))
            first = re.match(r"\s*\(?(-?\d+)", text)
            assert option is None or (first is not None and option == int(first[1]))
            reached[option is not None] += 1

        check()


@pytest.mark.parametrize("case", GOLDEN["extract"], ids=lambda case: case["text"] or "empty")
def test_t2i_eval_s_own_reading_of_a_score(case: dict) -> None:
    listed = [None if score == "None" else float(score) for score in case["list"]]
    single = None if case["single"] == "N/A" else float(case["single"])
    assert t2i_eval_scores(case["text"]) == pytest.approx(listed, nan_ok=True)
    assert t2i_eval_score(case["text"]) == (None if single is None else pytest.approx(single, nan_ok=True))


@given(text=st.one_of(st.text(), st.lists(FIELDS, max_size=20).map("".join)), n=st.integers(1, 2))
def test_any_text_gives_scores_on_the_scale_or_none(text: str, n: int) -> None:
    read = parse_score_list(text, n)
    if read.scores is not None:
        assert len(read.scores) == n
        assert all(0 <= score <= 10 for score in read.scores)
    else:
        assert read.repairs == ()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 100_000, '{"a":' * 50_000, "9" * 100_000, "-" * 50_000, "(" * 9_000]
)
def test_a_hostile_answer_is_refused_in_time(text: str) -> None:
    assert parse_score_list(text, 1).scores is None
    assert yes_or_no(text) is None
    assert chosen_option(text, range(10)) is None


def recorded_repairs(folder: Path) -> dict[str, Counter[str]]:
    """What reading the recorded answers of two judges repairs; each is read as it was recorded."""
    repairs: dict[str, Counter[str]] = {"gpt4o": Counter(), "qwenvl": Counter()}
    for file in sorted((folder / "viescore_imagenhub" / "answers").glob("results_*/*/*/*.json.gz")):
        n = 1 if file.name.startswith("SC") else 2
        for answer in json.loads(gzip.decompress(file.read_bytes())).values():
            said = {name: answer[name] for name in ("score", "reasoning") if name in answer}
            read = parse_score_list(json.dumps(said), n)
            listed = said["score"] if isinstance(said["score"], list) else [said["score"]]
            assert read.scores == tuple(listed)
            assert read.reasoning == said.get("reasoning")
            repairs["gpt4o" if "gpt4o" in str(file) else "qwenvl"].update(read.repairs or ["none"])
    return repairs


def test_the_recorded_answers_of_two_real_judges_lose_nothing(excerpts: Path) -> None:
    repairs = recorded_repairs(excerpts)
    assert repairs["gpt4o"] == {"none": 100}
    assert repairs["qwenvl"] == {"none": 47, "a bare score instead of a list": 43}


def test_all_recorded_answers_of_two_real_judges_lose_nothing(shared_data: Path) -> None:
    repairs = recorded_repairs(shared_data)
    assert repairs["gpt4o"] == {"none": 1970}
    assert repairs["qwenvl"] == {"none": 1079, "a bare score instead of a list": 784}


@pytest.mark.parametrize(
    ("text", "says"),
    [("yes", True), ("Yes.", True), (" NO", False), ("Yes, it is.", True), ("**Yes**", True), ("No, there is none.", False),
     ("yes and no", None), ("not sure", None), ("yesterday", None), ("It is: yes", None), ("", None)],
)  # fmt: skip
def test_yes_or_no(text: str, says: bool | None) -> None:
    assert yes_or_no(text) is says


@pytest.mark.parametrize(
    ("text", "option"),
    [("2", 2), (" 2. ", 2), ("-1", -1), ("(1)", 1), ("1, Some of them are wrong.", 1), ("0: all wrong", 0), ("3", None),
     ("1 or 2", None), ("2/2", None), ("1.5", None), ("option 2", None), ("", None), ("--1", None)],
)  # fmt: skip
def test_an_option_is_named_by_its_number(text: str, option: int | None) -> None:
    assert chosen_option(text, (-1, 0, 1, 2)) == option


@given(text=st.text())
def test_reading_words_never_fails(text: str) -> None:
    assert yes_or_no(text) in (True, False, None)
    assert chosen_option(text, (-1, 0, 1)) in (-1, 0, 1, None)


@pytest.mark.parametrize("raw", [True, None, "8/10", "1_0", float("nan"), 10.01, -0.1, [8]])
def test_what_is_no_number_on_the_scale(raw: object) -> None:
    assert number_on_scale(raw, 0, 10) is None


def test_a_field_named_scores_is_mended_and_two_fields_of_one_meaning_are_not_read() -> None:
    assert parse_score_list('{"score": [7], "reasoning": "a"}', 1).repairs == ()
    assert parse_score_list('{"scores": [7], "reasoning": "a"}', 1).repairs == ("the field is not called score",)
    assert parse_score_list('{"scores": [7], "score": [7]}', 1).scores is None


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("1", 1),
        ("5", 5),
        ("0", None),
        ("6", None),
        ("**1**", 1),
        ("**5**", 5),
        ("**6**", None),
        ('{"score": [4]} is mine', 4),
    ],
)
def test_a_bare_number_is_read_to_both_ends_of_the_scale(text: str, score: float | None) -> None:
    assert parse_score_list(text, 1, 1, 5).scores == (None if score is None else (score,))


def test_an_object_with_words_behind_it_is_read_from_its_first_brace() -> None:
    assert parse_score_list('{"score": [4]} is mine', 1).repairs == ("text around the object",)
