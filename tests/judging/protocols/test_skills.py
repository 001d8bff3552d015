from __future__ import annotations

import json
from pathlib import Path

import pytest
from damage import damaged, mostly_reached
from hypothesis import given
from hypothesis import strategies as st

from t2i_eval_kedro.benchmarks.readers.evalalign_skills import SKILLS
from t2i_eval_kedro.judging.protocols import Answer, EvaluationItem, PromptElement
from t2i_eval_kedro.judging.protocols.skills import Skills, parse_slots, read_option
from t2i_eval_kedro.schema import FAILED, NOT_APPLICABLE, OK, UNPARSED

SLOTS = "Object: cat; dog\nCount: two cats\nColor: none\nStyle: None.\nSpatial: n/a\nAction: none"
SUBJECT = EvaluationItem("i", "two cats and a dog", "i.png")


@pytest.fixture
def skills(load_wording) -> Skills:
    return Skills(load_wording("full"))


def test_faithfulness_is_always_asked_and_alignment_where_the_prompt_says_something(skills: Skills) -> None:
    (slots,) = skills.requests(SUBJECT, {})
    assert (slots.task, slots.messages[0].images) == ("skill_slots", ())
    asked = skills.requests(SUBJECT, {"skill_slots": Answer(SLOTS)})
    assert [request.aspect for request in asked] == [
        *(name for name in SKILLS if name.startswith("faithfulness/")),
        "alignment/Object",
        "alignment/Count",
    ]
    assert "two cats" in asked[-1].messages[0].text
    assert "-1: there is none" in asked[0].messages[0].text


def test_the_options_become_shares_and_minus_one_leaves_the_mean(skills: Skills) -> None:
    answers = {"skill_slots": Answer(SLOTS)} | {
        f"skill/{name}": Answer(text)
        for name, text in {
            "faithfulness/body": "-1",
            "faithfulness/hand": "-1: there is none in the image",
            "faithfulness/face": "2",
            "faithfulness/object": "4",
            "faithfulness/common_sense": "3, basically no problems",
            "alignment/Object": "2",
            "alignment/Count": "1",
        }.items()
    }
    scores = skills.verdict(SUBJECT, answers).scores
    assert (scores["faithfulness/body"].value, scores["faithfulness/body"].status) == (None, NOT_APPLICABLE)
    assert scores["faithfulness/face"].value == pytest.approx(5)
    assert scores["faithfulness"].value == pytest.approx(10 * (2 + 4 + 3) / 12)
    assert scores["alignment"].value == pytest.approx(7.5)


def test_one_unread_skill_leaves_its_aspect_without_a_score(skills: Skills) -> None:
    asked = skills.requests(SUBJECT, {"skill_slots": Answer(SLOTS)})
    answers = {"skill_slots": Answer(SLOTS)} | {request.step: Answer("2") for request in asked}
    answers["skill/faithfulness/object"] = Answer("-1")  # not among the options of this skill
    scores = skills.verdict(SUBJECT, answers).scores
    assert (scores["faithfulness"].status, scores["alignment"].status) == (UNPARSED, OK)


@pytest.mark.parametrize(("slots", "status"), [(Answer("Object: cat"), UNPARSED), (Answer("x", status=FAILED), FAILED)])
def test_an_unread_prompt_costs_alignment_alone(skills: Skills, slots: Answer, status: str) -> None:
    answers = {"skill_slots": slots}
    answers |= {request.step: Answer("2") for request in skills.requests(SUBJECT, answers)}
    scores = skills.verdict(SUBJECT, answers).scores
    assert (scores["alignment"].status, scores["faithfulness"].status) == (status, OK)


def test_the_release_questions_are_asked_where_there_are_some(skills: Skills, excerpts: Path) -> None:
    row = json.loads((excerpts / "evalalign" / "test_alignment_prompt.json").read_text())[0]
    elements = tuple(
        PromptElement(
            f"alignment/{skill}", skill, question.removeprefix("<image>\n"), skill=f"alignment/{skill}", expected="2"
        )
        for skill, question in row["question_info"].items()
    )
    asked = skills.requests(EvaluationItem("i", row["prompt"], "i.png", elements=elements), {})
    assert [request.aspect for request in asked] == [element.skill for element in elements]
    assert all(e.question in request.messages[0].text for e, request in zip(elements, asked, strict=True))


@pytest.mark.parametrize(
    ("text", "n"), [(SLOTS, 2), (SLOTS.replace("Color", "**Color**"), 2), (SLOTS + "\nColor: red", None), ("", None)]
)
def test_slots(text: str, n: int | None) -> None:
    slots = parse_slots(text)
    assert (None if slots is None else len(slots)) == n


OPTIONS = st.builds("{}{}".format, st.integers(-1, 4), st.sampled_from(["", ".", ", some are wrong", ": all right"]))


def test_a_damaged_option_is_one_of_the_skill_s_or_nothing() -> None:
    with mostly_reached() as reached:

        @given(text=damaged(OPTIONS, most=1), name=st.sampled_from(sorted(SKILLS)))
        def check(text: str, name: str) -> None:
            skill, score = SKILLS[name], read_option(Answer(text), name)
            assert score.status in (OK, NOT_APPLICABLE, UNPARSED)
            if score.status == OK:
                assert score.value is not None
                option = round(score.value * skill.options[-1])
                assert option in skill.options
                assert text.strip().lstrip("(").startswith(str(option))
            elif score.status == NOT_APPLICABLE:
                assert skill.may_be_absent
                assert "-1" in text
            reached[score.status != UNPARSED] += 1

        check()


def test_damaged_slots_are_all_there_or_none() -> None:
    names = [name.partition("/")[2] for name in SKILLS if name.startswith("alignment/")]
    content = st.sampled_from(["none", "n/a", "two cats", "a dog; a cat", "red"])
    slots = st.tuples(*(content.map(f"{name}: {{}}".format) for name in names)).map("\n".join)
    with mostly_reached() as reached:

        @given(text=damaged(slots, most=1))
        def check(text: str) -> None:
            slots = parse_slots(text)
            assert slots is None or all(
                SKILLS[name].aspect == "alignment" and content.lower() not in ("", "none", "n/a")
                for name, content in slots.items()
            )
            reached[slots is not None] += 1

        check()
