"""The comparison of judges with and without evidence: what counts as appearance there, and who answers what."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from kedro_project import ROOT
from perf.evidence import AboutAppearance, LooksTeacher, damage, looks

from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.engine import judge
from t2i_eval_kedro.judging.evaluators import evaluation_items
from t2i_eval_kedro.judging.protocols import Answer, Wording
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.shapes.make import make_shapes

MADE = make_shapes(2, structure=True)
STRUCTURE = {row.item_id: json.loads(row.attributes)["truth"]["structure"] for row in MADE.items.itertuples()}


def test_appearance_is_each_raters_product_and_the_rest_stays() -> None:
    given, made = MADE.ratings, looks(MADE.ratings)
    assert set(made["dimension"]) == set(given["dimension"]) - {"structure"}
    wide = given.pivot(index=["item_id", "rater_id"], columns="dimension", values="score")
    for row in made.itertuples():
        ratings = wide.loc[(row.item_id, row.rater_id)]
        product = ratings["appearance"] * ratings["structure"] / 10
        assert row.score == pytest.approx(product if row.dimension == "appearance" else ratings[row.dimension])


def teacher(wording: Wording) -> LooksTeacher:
    return LooksTeacher(SimulatedBackend(MADE.items, wording, seed=0, error_rate=0.0, score_noise=0.0), STRUCTURE)


def test_the_teacher_names_structural_faults_where_there_are_some(compact: Wording) -> None:
    assert [damage(score) for score in (10.0, 9.0, 7.0, 4.0)] == [
        "",
        " and slightly broken",
        " and broken",
        " and very broken",
    ]
    items = evaluation_items(MADE.items, {"overall": "x"})
    transcripts = judge(items, Decomposed(compact), teacher(compact), name="teacher").transcripts
    asked = transcripts[transcripts["task"] == "appearance_1"]
    seen = asked[asked["answer"].str.startswith("it is ")]
    assert set(seen["item_id"].map(STRUCTURE) < 10) == {True, False}
    assert (seen["answer"].str.endswith("broken") == (seen["item_id"].map(STRUCTURE) < 10)).all()
    others = transcripts.drop(seen.index)
    assert not others["answer"].str.contains("broken").any()


def test_the_judge_answers_what_is_about_appearance_alone(compact: Wording) -> None:
    asked: list[str] = []

    class Worst:
        def answer(self, requests):
            for i, request in enumerate(requests):
                asked.append(request.task)
                yield i, Answer("0" if request.task.endswith("_2") else "it is hazy")

    items = evaluation_items(MADE.items, {"overall": "x"})
    mixed = judge(items, Decomposed(compact), AboutAppearance(Worst(), teacher(compact)), name="x").scores
    right = judge(items, Decomposed(compact), teacher(compact), name="x").scores
    assert set(asked) == {"appearance_1", "appearance_2", "summary_1", "summary_2"}
    by_dimension = [frame.set_index(["dimension", "item_id"])["score"].sort_index() for frame in (mixed, right)]
    assert (by_dimension[0]["appearance"] == 0).all()
    for dimension in ("attributes", "relations"):
        pd.testing.assert_series_equal(by_dimension[0][dimension], by_dimension[1][dimension])


def test_the_page_shows_the_figures_of_the_file() -> None:
    result = json.loads((ROOT / "perf/results/evidence.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/structure.md").read_text(encoding="utf-8")
    section = page.split("## As evidence for a judge that answers in words")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "[" in line]
    entries = {
        **result["all"]["spearman"],
        **result["all"]["differences"],
    }
    assert len(rows) == len(entries)
    for row, (name, entry) in zip(rows, entries.items(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == name
        strata = [
            result[stratum]["spearman" if name in result[stratum]["spearman"] else "differences"][name]
            for stratum in ("all", "seen", "unseen")
        ]
        assert entry == strata[0]
        for cell, one in zip(cells[1:], strata, strict=True):
            shown = [float(number) for number in re.findall(r"[-+]?\d+\.\d+", cell)]
            assert shown == pytest.approx([one["value"], one["low"], one["high"]], abs=0.0051)
