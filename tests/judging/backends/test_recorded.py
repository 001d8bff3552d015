"""Recorded answers enter as a teacher: in this project's requests, with their own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2i_eval_kedro.benchmarks import read_benchmark
from t2i_eval_kedro.benchmarks.base import Benchmark
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.recorded import RecordedBackend, align, entity_name, question_text
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.teacher.teachers import recorded_judgement
from t2i_eval_kedro.training.examples import examples_from_transcripts

PHRASES = {"overall": "how good it is"}


def asked(question: str, **value: Any) -> dict[str, Any]:
    return {"question": question, "value": value or None}


def record(number: int, prompt: str, score: object, color: str) -> dict[str, Any]:
    """A record with names that do not quite agree, a question without a mark, and one that nobody answered."""
    sharp, black, on = "Is the cat sharp?", f"Is the cat {color}?", "Is the cat on the mat?"
    evaluated = {"answer": "Yes.", "explanation": f"It is {color}.", "score": score}
    return {
        "id": number,
        "model_name": "sd3",
        "gt_image": f"i/{number}.png",
        "ref_image": None,
        "image_caption": prompt,
        "data": {
            "Structure Information": {
                "Intrinsic Attributes": {"cat": [f"attribute 1: color: {color}", "2: size: big"], "mat": []}
            },
            "Questions": {
                "Appearance Quality Questions": {"1. Cat": [asked(sharp)], "a zebra's shadow": [asked("Is it long?")]},
                "Intrinsic Attribute Consistency Questions": {"Cats": [asked(black), asked("Say its size.")]},
                "Relationship Attribute Consistency Questions": [asked(on, entities=["The cat", "mat"])],
            },
            "Answers": {
                "Appearance Quality Questions": {"1. Cat": [asked(sharp, explanation="Very sharp.", score=9)]},
                "Intrinsic Attribute Consistency Questions": {"Cats": [asked(black, answer="Yes, it is.")]},
                "Relationship Attribute Consistency Questions": [],
            },
            "Evaluation": {
                "Appearance Quality Answers": {"1. Cat": [asked(sharp, explanation="Very sharp.", score=9)]},
                "Intrinsic Attribute Consistency Answers": {"Cats": [{"question": black, "value": evaluated}]},
                "Relationship Attribute Consistency Answers": [],
                "Overall Evaluation": {
                    "Appearance Quality Summary": {"explanation": "Sharp.", "score": 9},
                    "Intrinsic Attribute Consistency Summary": {"explanation": "Right.", "score": 7},
                    "Relationship Attribute Consistency Summary": {"explanation": "None.", "score": "N/A"},
                    "Overall Score": {"explanation": "Good.", "score": 10},
                },
            },
        },
    }


@pytest.fixture
def distill(tmp_path: Path) -> Benchmark:
    folder = tmp_path / "t2i_eval_distill"
    (folder / "i").mkdir(parents=True)
    for number in (3, 4, 5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"i/{number}.png")
    rows = [record(3, "a cat on a mat", 7, "black"), record(4, "a cat on a mat", 2, "red")]
    rows.append(record(5, "a cat", "seven", "black"))
    (folder / "train.json").write_text(json.dumps(rows))
    return read_benchmark("t2i_eval_distill", tmp_path)


def test_each_record_answers_for_its_own_item(distill: Benchmark, load_wording: Any) -> None:
    wording: Wording = load_wording("full")
    backend = RecordedBackend(distill.transcripts, wording)
    said = recorded_judgement(backend, distill.items, wording, PHRASES)
    steps = said.transcripts.set_index(["item_id", "step"])["answer"]
    assert steps["3", "extract"].splitlines() == [
        "appearance | cat | - | Is the cat sharp?",
        "attributes | cat | color: black | Is the cat black?",
    ]
    plain = RecordedBackend(distill.transcripts, load_wording("compact"))
    lines = recorded_judgement(plain, distill.items, load_wording("compact"), PHRASES).transcripts["answer"].iloc[0]
    assert lines.splitlines()[0] == "appearance | cat | Is the cat sharp?"
    assert "red" in steps["4", "extract"]  # of the same prompt, but its own
    assert (steps["3", "attributes/1/score"], steps["4", "attributes/1/score"]) == ("6", "2")  # of 0 to 9, not 0 to 10
    assert steps["3", "attributes/1/answer"] == "Yes, it is."
    assert ("3", "summary/relations/score") not in steps  # no question about relations is left
    scores = said.scores.set_index(["item_id", "dimension"])
    assert scores.loc[("3", "overall"), "score"] == 10
    assert scores.loc[("3", "overall"), "explanation"] == "Good."
    assert scores.loc[("3", "relations"), "status"] == "not_applicable"
    assert backend.dropped == {
        "a question about an entity that the structure does not name": 3,
        "a question without a question mark": 3,
        "a question that was not answered to the end": 3,
    }


def test_examples_are_in_the_students_words(distill: Benchmark, load_wording: Any) -> None:
    wording: Wording = load_wording("full")
    said = recorded_judgement(RecordedBackend(distill.transcripts, wording), distill.items, wording, PHRASES)
    examples = examples_from_transcripts(said.transcripts, dict.fromkeys("345", "train"), wording)
    text = json.loads(examples.set_index("example_id").loc["3/attributes/1/score", "messages"])[-1]["text"]
    assert text.startswith("Score how well the image agrees with its prompt on one point")
    assert "Explanation: It is black." in text
    assert "5/attributes/1/score" not in set(examples["example_id"])  # "seven" is no score


def test_any_judge_of_several_can_be_chosen(distill: Benchmark, load_wording: Any) -> None:
    wording: Wording = load_wording("full")
    two = pd.concat([distill.transcripts, distill.transcripts.assign(judge="other")])
    with pytest.raises(T2IEvalError, match=r"GPT-4o, other.*teacher\.recorded"):
        RecordedBackend(two, wording)
    assert RecordedBackend(two, wording, judge="other").in_steps
    with pytest.raises(T2IEvalError, match="records no answers of 'nobody'"):
        RecordedBackend(two, wording, judge="nobody")
    with pytest.raises(T2IEvalError, match="it records nobody"):
        RecordedBackend(two.iloc[:0], wording)


def test_what_is_not_recorded_is_failed(distill: Benchmark, load_wording: Any) -> None:
    wording: Wording = load_wording("full")
    more = distill.items.assign(item_id="9").iloc[:1]
    said = judge_items(more, RecordedBackend(distill.transcripts, wording), wording, PHRASES, ["decomposed"], name="t")
    assert set(said.scores["status"]) == {"failed"}


def test_viescores_gpt_4o_answers_are_a_teacher(excerpts: Path, load_wording: Any) -> None:
    """The real answers, as examples in this project's words; the images are not in the release, so keys stand for them."""
    wording: Wording = load_wording("full")
    made = read_benchmark("viescore_imagenhub", excerpts)
    items = made.items.assign(image=made.items["item_id"])
    phrases = {"SC": "a", "PQ": "b", "O": "c"}
    backend = RecordedBackend(made.transcripts, wording, judge="GPT-4o 0-shot")
    said = recorded_judgement(backend, items, wording, phrases)
    ours = said.scores.set_index(["item_id", "dimension"])["score"]
    theirs = made.scores.query("judge == 'GPT-4o 0-shot'").set_index(["item_id", "dimension"])["score"]
    both = pd.concat({"ours": ours, "theirs": theirs}, axis=1).dropna()
    assert len(both) == 150  # every answer and every product of two
    assert (both["ours"] - both["theirs"]).abs().max() < 1e-9
    assert ours.notna().sum() >= theirs.notna().sum()
    assert set(said.transcripts["task"]) == {"holistic_sc", "holistic_pq"}


@given(st.lists(st.text(max_size=12), unique=True, max_size=6), st.lists(st.text(max_size=12), unique=True, max_size=6))
def test_alignment_pairs_each_entity_once_at_most(names: list[str], entities: list[str]) -> None:
    found = align(names, entities)
    assert set(found) <= set(names)
    assert set(found.values()) <= {entity_name(entity) for entity in entities}
    assert len(found) <= min(len(names), len(entities))


@given(st.text())
def test_fields_hold_no_separator(raw: str) -> None:
    assert not {"|", ",", "\n"} & set(entity_name(raw))
    question = question_text(raw)
    assert question == "" or question.endswith("?")
    assert not {"|", "\n"} & set(question)
