"""Judges that hardly tell images apart, and sub-tasks that a training made worse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.diagnostics import kept_or_forgotten, out_of_vocabulary, score_variety


def scores(judge: str, table: dict[str, list[float]]) -> list[dict]:
    shared = {"judge": judge, "protocol": "levels", "run": 0, "status": "ok", "higher_is_better": True}
    return [
        shared | {"item_id": f"i{n}", "dimension": dimension, "score": value}
        for dimension, values in table.items()
        for n, value in enumerate(values)
    ]


def test_scores_that_are_all_alike_are_said_to_be() -> None:
    varied = list(np.arange(10.0))
    table = schema.SCORES.frame(
        scores("sft", {"overall": varied, "appearance": varied[::-1]})
        + scores("grpo", {"overall": varied, "appearance": varied})
        + scores("base", {"overall": varied, "appearance": [1.0, 2.0, 3.0, 1.0] * 2 + [1.0, 2.0]})
    )
    rows = {row["evaluator"]: row for row in score_variety(table)}
    assert not rows["sft"]["alike"]
    assert rows["grpo"]["alike"]
    assert rows["grpo"]["one_score_for_all"] == 1
    assert rows["base"]["alike"]
    assert (rows["base"]["fewest_values"], rows["base"]["dimension"]) == (3, "appearance")
    assert rows["sft"]["one_score_for_all"] == 0
    four = {"overall": varied, "appearance": [1.0, 2.0, 3.0, 4.0] * 2 + [1.0, 2.0]}
    (row,) = score_variety(schema.SCORES.frame(scores("base", four)))
    assert (row["fewest_values"], row["few"]) == (4, False)


def test_expected_scores_that_hardly_differ_are_alike() -> None:
    near = [(5.0 + 0.001 * k) if k % 2 else 1.0 + 0.001 * k for k in range(20)]
    table = schema.SCORES.frame(
        scores("sft", {"overall": near, "appearance": [value + 0.01 for value in near]})
        + scores("base", {"overall": list(np.linspace(0, 10, 20)), "appearance": list(np.linspace(10, 0, 20))})
    )
    rows = {row["evaluator"]: row for row in score_variety(table)}
    assert (rows["sft"]["fewest_values"], rows["sft"]["few"], rows["sft"]["same"]) == (2, True, True)
    assert (rows["base"]["fewest_values"], rows["base"]["alike"]) == (20, False)


def test_a_drop_whose_interval_excludes_zero_is_forgotten() -> None:
    n = 40
    items = schema.ITEMS.frame(
        {"item_id": f"i{k}", "benchmark": "b", "prompt_id": f"p{k}", "prompt": f"a {k}", "generator": "g"}
        for k in range(n)
    )
    elements = schema.ELEMENTS.frame(
        {"prompt_id": f"p{k}", "element_id": skill, "text": skill, "skill": skill}
        for k in range(n)
        for skill in ("colour", "count")
    )
    labels = schema.ELEMENT_RATINGS.frame(
        {"item_id": f"i{k}", "element_id": skill, "rater_id": "r", "label": float(k % 2)}
        for k in range(n)
        for skill in ("colour", "count")
    )

    def answers(judge: str, wrong_counts: int) -> list[dict]:
        shared = {"judge": judge, "protocol": "dsg", "run": 0, "status": "ok"}
        return [
            shared
            | {"item_id": f"i{k}", "element_id": skill}
            | {"score": float(k % 2) if skill == "colour" or k >= wrong_counts else 1.0 - k % 2}
            for k in range(n)
            for skill in ("colour", "count")
        ]

    table = schema.ELEMENT_SCORES.frame(answers("base", 4) + answers("sft", 24))
    rows = kept_or_forgotten(items, elements, labels, table, [("base", "sft"), ("sft", "grpo")], 200, 0.95, 0)
    by_skill = {row["skill"]: row for row in rows}
    assert set(by_skill) == {"colour", "count"}  # nobody was trained by GRPO
    count = by_skill["count"]
    assert (count["n"], count["accuracy_before"], count["accuracy_after"]) == (n, 0.9, 0.4)
    assert count["change"]["value"] == pytest.approx(-0.5)
    assert count["change"]["low"] < -0.5 < count["change"]["high"] < 0
    assert count["forgotten"]
    assert not by_skill["colour"]["forgotten"]
    divided = pd.concat([labels, labels.assign(rater_id="q", label=1 - labels["label"])])
    assert kept_or_forgotten(items, elements, divided, table, [("base", "sft")], 100, 0.95, 0) == []


def test_probability_outside_the_answers_is_reported_for_every_judge() -> None:
    shared = {"protocol": "levels", "run": 0, "task": "score", "aspect": "", "messages": "[]", "answer": "5"}
    rows = [
        shared
        | {
            "item_id": f"i{k}",
            "judge": judge,
            "step": "s",
            "question_id": f"i{k}",
            "status": "ok",
            "prompt_version": "v",
        }
        | {"usage": f'{{"out_of_vocabulary_mass": {mass}}}'}
        for judge, masses in (("base", (0.99, 0.97, 0.8)), ("sft", (0.01, 0.02, 0.95)))
        for k, mass in enumerate(masses)
    ]
    rows.append(rows[0] | {"judge": "teacher", "usage": None})
    base, sft = out_of_vocabulary(schema.TRANSCRIPTS.frame(rows), 0.9)
    assert (base["evaluator"], base["requests"], base["highest"]) == ("base", 3, 0.99)
    assert (base["mean"], base["above_limit"]) == (pytest.approx(0.92), pytest.approx(2 / 3))
    assert base["mostly_other"]
    assert (sft["evaluator"], sft["above_limit"], sft["mostly_other"]) == ("sft", pytest.approx(1 / 3), False)
    assert out_of_vocabulary(schema.TRANSCRIPTS.empty(), 0.9) == []
