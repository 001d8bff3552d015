"""The checks of a teacher find what was planted, and nothing in a teacher without errors."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.engine import Judgement
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.shapes.make import ShapesBenchmark, make_shapes
from t2i_eval_kedro.teacher.checks import answers_by_task, check_teacher
from t2i_eval_kedro.training.examples import examples_from_transcripts

PHRASES = {name: name for name in ("overall", "appearance", "attributes", "relations")}


@pytest.fixture(scope="module")
def shapes() -> ShapesBenchmark:
    return make_shapes(8, 0)


def ask(shapes: ShapesBenchmark, wording: Wording, error_rate: float, runs: int = 1) -> Judgement:
    def backend(run: int) -> SimulatedBackend:
        return SimulatedBackend(shapes.items, wording, seed=run, error_rate=error_rate, score_noise=0.2)

    return Judgement.join(
        judge_items(shapes.items, backend(run), wording, PHRASES, ["decomposed"], name="teacher", run=run)
        for run in range(runs)
    )


def check(
    shapes: ShapesBenchmark, said: Judgement, wording: Wording, transcripts: pd.DataFrame | None = None
) -> dict[str, Any]:
    transcripts = said.transcripts if transcripts is None else transcripts
    first = transcripts[transcripts["run"] == 0]
    examples = examples_from_transcripts(first, dict.fromkeys(shapes.items["item_id"], "train"), wording)
    tables = shapes.items, shapes.ratings, shapes.elements, shapes.element_ratings
    found = check_teacher(*tables, transcripts, said.scores, examples, wording)
    json.dumps(found, allow_nan=False)
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def test_a_teacher_without_errors(shapes: ShapesBenchmark, compact: Wording) -> None:
    found = check(shapes, ask(shapes, compact, 0.0), compact)
    assert found["agreement_with_people"].set_index("aspect").loc["overall", "spearman"] > 0.85
    assert (found["answers"]["readable"] == 1).all()
    assert (found["contradictions"]["checked"] > 0).all()
    assert (found["contradictions"]["found"] == 0).all()
    assert (found["leakage"]["checked"] > 0).all()
    assert (found["leakage"]["found"] == 0).all()
    assert found["agreement_of_runs"].empty
    stages = found["stages"].set_index("stage")
    assert list(stages.index) == ["extract", "answer", "evaluate", "summarise", "merge"]
    assert stages.loc["extract", "value"] == 1
    assert stages.loc["answer", "value"] > 0.95  # people err too


def test_errors_compound(shapes: ShapesBenchmark, compact: Wording) -> None:
    stages = check(shapes, ask(shapes, compact, 0.3), compact)["stages"].set_index("stage")
    assert 0.6 < stages.loc["answer", "value"] < 0.8
    assert stages.loc["evaluate", "after_right"] > 0.95
    assert stages.loc["evaluate", "after_wrong"] < 0.05
    assert stages.loc["merge", "value"] < 0.8


def test_two_runs_are_compared(shapes: ShapesBenchmark, compact: Wording) -> None:
    runs = check(shapes, ask(shapes, compact, 0.2, runs=2), compact)["agreement_of_runs"].set_index("aspect")
    assert 0 < runs.loc["overall", "the_same"] < 1
    assert runs.loc["overall", "mean_difference"] > 0
    assert runs.loc["overall", "items"] == len(shapes.items)


def test_planted_faults_are_found(shapes: ShapesBenchmark, compact: Wording) -> None:
    said = ask(shapes, compact, 0.0)
    rows = said.transcripts.set_index(["item_id", "step"])
    item = shapes.items["item_id"].iloc[0]
    own = rows.loc[item]
    scored = [step for step in own.index if step.startswith("attributes/") and step.endswith("/score")]
    right = next(step for step in scored if own.loc[step, "answer"] == "10")
    rows.loc[(item, right.replace("/score", "/answer")), "answer"] = "no"  # and yet a ten
    rows.loc[(item, right.replace("/score", "/explain")), "answer"] = "it is fine , score 10"
    rows.loc[(item, "summary/attributes/score"), "answer"] = "0"
    found = check(shapes, said, compact, schema.TRANSCRIPTS.check(rows.reset_index()))
    assert found["contradictions"]["found"].tolist()[0] == 1
    assert found["contradictions"]["found"].tolist()[1] >= (len({own.loc[s, "answer"] for s in scored}) > 0)
    assert found["leakage"]["found"].tolist() == [1, 1]


def test_shares_say_why_there_is_no_answer(compact: Wording) -> None:
    rows = [
        ("summary_2", "7", "ok"),
        ("summary_2", "seven", "ok"),
        ("summary_2", "refused: no", "failed"),
        ("summary_2", "truncated: it", "failed"),
        ("extract", "nothing", "ok"),
        ("extract", "HTTP 500", "failed"),
    ]
    table = pd.DataFrame(rows, columns=["task", "answer", "status"])
    shares = pd.DataFrame(answers_by_task(table, compact)).set_index("task")
    names = ["readable", "unparsed", "refused", "truncated", "malformed", "not given"]
    assert shares.loc["summary_2", names].tolist() == [0.25, 0.25, 0.25, 0.25, 0, 0]
    assert shares.loc["extract", names].tolist() == [0, 0.5, 0, 0, 0, 0.5]
