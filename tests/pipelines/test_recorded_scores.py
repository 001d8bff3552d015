"""Recorded scores are measured without a model, and without importing what runs one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro_project import run_kedro

from t2i_eval_kedro import schema
from t2i_eval_kedro.api import agreement
from t2i_eval_kedro.tables.settings import read_mapping

PLAIN = Path(__file__).parents[1] / "data" / "cases" / "benchmarks" / "plain"

WITHOUT_TORCH = """
import sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(Path.cwd())
params = {"benchmark": sys.argv[1], "raw_root": sys.argv[2], "meta_evaluation": {"n_resamples": 100}}
with KedroSession.create(runtime_params=params) as session:
    session.run(pipeline_names=["ingestion", "meta_evaluation", "reporting"])
print(sorted({"torch", "transformers", "trl"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("benchmark", "dimensions", "evaluators"),
    [
        ("tifa160", {"alignment"}, 10),
        ("dsg", {"alignment"}, 4),
        ("viescore_imagenhub", {"SC", "PQ", "O"}, 2),
        ("agiqa3k", {"quality", "alignment"}, 0),
    ],
)
def test_recorded_scores_need_no_model(
    project: Path, excerpts: Path, benchmark: str, dimensions: set[str], evaluators: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, benchmark, str(excerpts)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
    folder = project / "data/08_reporting" / benchmark / "tiny_vlm/full/seed_0"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["data"]) == dimensions
    assert all(facts["n_items"] > 0 and facts["n_ratings"] > 0 for facts in summary["data"].values())
    baselines = set(summary["evaluators"]) & set(schema.BASELINES)
    assert baselines == {schema.LENGTH_BASELINE}  # the others need images, or ratings of other folds
    assert len(summary["evaluators"]) == evaluators + len(baselines)
    for by_dimension in summary["evaluators"].values():
        assert set(by_dimension) <= dimensions
    assert (folder / "report.html").stat().st_size > 10_000


def test_a_folder_of_ones_own_with_preferences_and_elements_reaches_the_report(project: Path) -> None:
    raw = project / "data/01_raw/mine"
    raw.mkdir(parents=True)
    tables: dict[str, list[str]] = {
        "items": ["item_id,prompt_id,prompt,generator,image"],
        "ratings": ["item_id,rater_id,dimension,score,scale_min,scale_max"],
        "scores": ["item_id,evaluator,dimension,score"],
        "preferences": ["prompt_id,item_a,item_b,rater_id,label"],
        "elements": ["prompt_id,element_id,text,skill"],
    }
    for p in range(10):
        tables["elements"].append(f"p{p},e,cat,{'animal' if p < 5 else 'colour'}")
        for name, score in (("a", p % 5), ("b", (p + 2) % 5)):
            tables["items"].append(f"{name}{p},p{p},a cat number {p},{name},")
            tables["ratings"] += [f"{name}{p},{rater},overall,{1 + score},1,5" for rater in "xy"]
            tables["scores"].append(f"{name}{p},judge,overall,{score}")
        # The judge's score is higher for b where p % 5 < 3: people agree there, and nowhere else.
        tables["preferences"].append(f"p{p},a{p},b{p},x,b")
    for name, lines in tables.items():
        (raw / f"{name}.csv").write_text("\n".join(lines) + "\n")
    given = "benchmark=mine,meta_evaluation.fold=all"
    some = "--pipelines=ingestion,meta_evaluation,reporting"
    done = run_kedro(project, "run", "--env=test", some, f"--params={given}")
    assert done.returncode == 0, done.stderr
    folder = project / "data/08_reporting/mine/tiny_vlm/full/seed_0"
    summary = json.loads((folder / "summary.json").read_text())
    found = summary["preferences"]["judge"]["overall"]["accuracy"]
    assert (found["value"], found["n"]) == (0.6, 10)
    skills = summary["within_group"]["skill"]["judge"]["overall"]["groups"]
    assert {name: cells["spearman"]["n"] for name, cells in skills.items()} == {"animal": 10, "colour": 10}
    report = (folder / "report.html").read_text()
    assert "Preferences between two images" in report
    assert "within a skill" in report.lower()


def test_a_file_has_one_figure_whether_the_pipeline_or_the_command_measures_it(project: Path, tmp_path: Path) -> None:
    """Also where it contradicts itself, has runs, empty cells, codes for "none" and a judge whose low scores are good."""
    raw = project / "data/01_raw/mine"
    shutil.copytree(PLAIN, raw)
    items, ratings, scores = (pd.read_csv(raw / f"{name}.csv", dtype=str) for name in ("items", "ratings", "scores"))
    ratings = ratings.drop(columns=["scale_min", "scale_max"])
    ratings = pd.concat([ratings, ratings.head(9).assign(score=["5", "1", "3"] * 3), ratings.tail(3)])
    ratings["score"] = ratings["score"].where(np.arange(len(ratings)) % 40 > 0, "")
    noisy, good = (scores[scores["evaluator"] == name].reset_index(drop=True) for name in ("noisy", "good"))
    again = noisy.assign(score=noisy["score"].astype(float).add(np.arange(len(noisy)) % 7).astype("str"))
    coded = good.assign(evaluator="coded", score=(good["score"].astype(float) ** 2).where(good.index % 9 > 0, -99.0))
    turned = good.assign(evaluator="turned", score=good["score"].astype(float).rsub(9), higher_is_better="false")
    inside = good.assign(evaluator="inside", score=good["score"].astype(float).clip(1, 5))
    twice = pd.concat([good, good.head(5).assign(score="0.1"), good.tail(5)])
    scores = pd.concat([twice, noisy.assign(run="0"), again.assign(run="1"), coded, turned, inside])
    ratings.to_csv(raw / "ratings.csv", index=False)
    scores.fillna("").to_csv(raw / "scores.csv", index=False)
    (raw / "t2i_eval.yml").write_text("missing_codes: [-99]\n")
    given = "benchmark=mine,meta_evaluation.fold=all,meta_evaluation.n_resamples=200"
    done = run_kedro(project, "run", "--env=test", "--pipelines=ingestion,meta_evaluation", f"--params={given}")
    assert done.returncode == 0, done.stderr
    summary = json.loads((project / "data/08_reporting/mine/tiny_vlm/full/seed_0/summary.json").read_text())

    ratings.merge(items[["item_id", "prompt_id", "generator"]]).to_csv(tmp_path / "ratings.csv", index=False)
    measured = agreement(
        tmp_path / "ratings.csv", raw / "scores.csv", settings=read_mapping(raw / "t2i_eval.yml"), n_resamples=200
    ).summary
    assert sorted(measured["evaluators"]) == ["coded", "good", "inside", "noisy", "turned"]
    for name, by_dimension in measured["evaluators"].items():
        assert summary["evaluators"][name] == by_dimension, name
        assert by_dimension["overall"]["spearman"]["value"] > 0.4
        assert summary["leave_one_rater_out"][name] == measured["leave_one_rater_out"][name], name
    assert measured["evaluators"]["inside"]["overall"]["rmse"]["value"] is None  # 1 to 5 may be another 1 to 5
    for part in ("noise_ceiling", "raters"):
        assert summary[part] == measured[part], part


def test_both_spellings_choose_pipelines(project: Path) -> None:
    for option in ("--pipelines=ingestion", "--pipeline=ingestion"):
        done = run_kedro(project, "run", "--env=test", option)
        assert done.returncode == 0, done.stderr
        assert (project / "data/02_intermediate/shapes/items.parquet").is_file()
