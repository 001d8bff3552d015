"""EvalAlign's study on simulated images: what is written is what its reader, its trained judge and its ranking take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro_project import run_kedro
from perf.evalalign import SLIPS, measured, options, slipped, write

from t2i_eval_kedro.agreement.skills_study import skills_study
from t2i_eval_kedro.benchmarks.readers import evalalign
from t2i_eval_kedro.schema import SCORES
from t2i_eval_kedro.shapes.make import make_shapes

RUN = "evalalign/tiny_vlm/skills/seed_0"


def test_every_image_question_and_answer_is_read_and_kappa_is_that_of_the_slips(tmp_path: Path) -> None:
    write(make_shapes(9, 0, generators=8, structure=True), tmp_path / "evalalign", 0)
    read = evalalign.read(tmp_path / "evalalign")
    assert len(read.items) == 72
    assert set(read.issues["kind"]) == {"not_applicable"}  # bodies, hands and faces are not there
    assert read.ratings["item_id"].nunique() == 72
    elements = read.elements.set_index(["prompt_id", "element_id"])["question"]
    assert elements.loc[("alignment/p0001", "alignment/Count")].endswith(" , is it right ?")
    study = skills_study(read.items, read.ratings, SCORES.empty(), resamples=50, confidence=0.95, seed=0)
    people = pd.DataFrame(study["skills_by_generator"])
    assert set(people["who"]) == {"people"}
    assert len(people) == 8
    assert people["faithfulness"].between(0, 4).all()
    kappa = {row["skill"]: row["cohen_kappa"] for row in study["skills_kappa"]}
    assert 0.3 < kappa["alignment/Count"] < 0.9


def test_options_follow_from_the_truth() -> None:
    stated = {"Count": {"a.count": "two stars", "b.count": "one ring"}, "Color": {"a.color": "red stars"}}
    truth = {"elements": {"a.count": True, "b.count": False, "a.color": False}, "truth": {"structure": 5.5}}
    assert dict(options(truth, stated, "alignment")) == {"alignment/Count": 1, "alignment/Color": 0}
    truth["elements"]["b.count"] = True
    assert dict(options(truth, stated, "alignment"))["alignment/Count"] == 2
    faithful = dict(options(truth, stated, "faithfulness"))
    assert faithful == {"faithfulness/object": 2} | {f"faithfulness/{skill}": -1 for skill in ("body", "hand", "face")}


def test_an_annotator_slips_to_a_neighbour() -> None:
    rng = np.random.default_rng(0)
    answers = [slipped("alignment/Count", 2, rng) for _ in range(2000)]
    assert set(answers) == {1, 2}
    assert answers.count(1) / 2000 == pytest.approx(SLIPS, abs=0.03)
    assert {slipped("faithfulness/hand", -1, rng) for _ in range(100)} == {-1}
    assert {slipped("faithfulness/object", 2, rng) for _ in range(300)} == {1, 2, 3}


@pytest.mark.slow
def test_a_judge_of_skills_is_trained_and_ranks_24_generators(project: Path) -> None:
    write(make_shapes(8, 0, generators=24, structure=True), project / "data/01_raw/evalalign", 0)
    done = run_kedro(
        project,
        "run",
        "--env=test",
        "--pipelines=ingestion,teacher_distillation,rebalancing,sft,meta_evaluation",
        "--params=benchmark=evalalign,variant=skills",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    examples = pd.read_parquet(project / "data/04_feature" / RUN / "examples.parquet")
    assert set(examples["task"]) == {"skill"}
    study = json.loads((project / "data/08_reporting" / RUN / "diagnostics.json").read_text())
    by_generator = pd.DataFrame(study["skills_by_generator"])
    assert by_generator.groupby("who")["generator"].nunique()["people"] == 24
    assert {row["evaluator"] for row in study["skills_kendall"]} >= {"sft_skills"}
    share, figures = measured(project / "data/08_reporting" / RUN)
    assert share == 1.0
    assert figures["kendall"] == study["skills_kendall"]
    known = figures["spearman"]["sft_skills"]
    assert known
    assert all(entry["value"] is not None for entry in known.values())
    assert {*known} <= {*figures["noise_ceiling"]}
