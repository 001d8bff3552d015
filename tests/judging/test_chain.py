"""The diagnosis of a chain: a simulated judge whose errors are known, and a transcript worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.chain import chain_table
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.shapes.make import make_shapes

PHRASES = {"overall": "x", "appearance": "x", "attributes": "x", "relations": "x"}
SHAPES = make_shapes(12, seed=3)


def diagnosed(wording: Wording, error_rate: float) -> dict:
    backend = SimulatedBackend(SHAPES.items, wording, seed=0, error_rate=error_rate, score_noise=0)
    said = judge_items(SHAPES.items, backend, wording, PHRASES, ["decomposed"], name="sft")
    return chain_table(said.transcripts, SHAPES.items, SHAPES.ratings, SHAPES.elements, SHAPES.element_ratings, wording)


def test_a_judge_without_errors_is_right_at_every_step(compact: Wording) -> None:
    found = diagnosed(compact, 0)
    (extraction,) = found["extraction"]
    assert (extraction["precision"], extraction["recall"], extraction["f1"], extraction["exact"]) == (1, 1, 1, 1)
    assert {row["skill"] for row in found["answers"]} == set(SHAPES.elements["skill"])
    assert min(row["accuracy"] for row in found["answers"]) > 0.9  # raters err a little
    steps = {(row["dimension"], row["step"]): row for row in found["steps"]}
    assert steps["attributes", "answers"]["spearman"] > 0.85
    assert steps["overall", "merge"]["absolute_error"] < 1.5
    assert steps["attributes", "answers"]["error"] is None  # a share is no score


def test_errors_of_the_answers_are_found_where_they_are_made(compact: Wording) -> None:
    right, wrong = diagnosed(compact, 0), diagnosed(compact, 0.3)

    def spearman(found: dict, step: str) -> float:
        return next(
            row["spearman"] for row in found["steps"] if (row["dimension"], row["step"]) == ("attributes", step)
        )

    assert wrong["extraction"] == right["extraction"]
    assert spearman(wrong, "answers") < spearman(right, "answers") - 0.1
    assert spearman(wrong, "true answers") == spearman(right, "true answers")
    for before, after in zip(right["answers"], wrong["answers"], strict=True):
        assert after["accuracy"] < before["accuracy"]
    answered = wrong["element_scores"]
    assert set(answered["protocol"]) == {"decomposed"}
    assert len(answered) == sum(row["answers"] for row in wrong["answers"]) + divided(answered)


def divided(answered: pd.DataFrame) -> int:
    """The answers about elements that as many people see as do not."""
    label = SHAPES.element_ratings.groupby(["item_id", "element_id"])["label"].mean()
    keys = pd.MultiIndex.from_frame(answered[["item_id", "element_id"]])
    return int((label.reindex(keys).isna() | (label.reindex(keys) == 0.5)).sum())


def test_extraction_counts_what_is_missing_and_what_is_made_up(compact: Wording) -> None:
    items = schema.ITEMS.frame(
        [{"item_id": "i", "benchmark": "b", "prompt_id": "p", "prompt": "a cat", "generator": "g"}]
    )
    elements = schema.ELEMENTS.frame(
        {"prompt_id": "p", "element_id": str(n), "text": q, "skill": "s", "question": q, "expected": "yes"}
        for n, q in enumerate(["is there a cat?", "is it black?", "does it sit?", "is it day?"])
    )
    extracted = (
        "appearance | cat | is it sharp?\nattributes | cat | Is there a cat?\nattributes | cat | is it black?\n"
        "relations | cat | is it a dog?"
    )
    steps = {"extract": extracted, "attributes/1/answer": "yes", "attributes/2/answer": "no"}
    transcripts = schema.TRANSCRIPTS.frame(
        {"item_id": "i", "judge": "m", "protocol": "decomposed", "run": 0, "step": step, "task": step, "aspect": ""}
        | {"question_id": step, "messages": "[]", "answer": answer, "status": "ok", "prompt_version": "v"}
        for step, answer in steps.items()
    )
    labels = schema.ELEMENT_RATINGS.frame(
        {"item_id": "i", "element_id": str(n), "rater_id": "r", "label": 1.0} for n in range(4)
    )
    found = chain_table(transcripts, items, schema.RATINGS.empty(), elements, labels, compact)
    (row,) = found["extraction"]
    assert (row["questions"], row["precision"], row["recall"], row["exact"]) == (3, pytest.approx(2 / 3), 0.5, 0)
    assert row["f1"] == pytest.approx(4 / 7)
    assert found["answers"] == [{"judge": "m", "skill": "s", "answers": 2, "accuracy": 0.5}]
    assert found["element_scores"]["score"].tolist() == [1, 0]
    (nothing,) = chain_table(
        transcripts.iloc[:1].assign(answer="what?"), items, schema.RATINGS.empty(), elements, labels, compact
    )["extraction"]
    assert (nothing["precision"], nothing["recall"], nothing["f1"], nothing["exact"]) == (None, 0, 0, 0)
