"""Recorded scores are measured without a model, and without importing what runs one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kedro_project import run_kedro

from t2i_eval_kedro import schema

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


def test_both_spellings_choose_pipelines(project: Path) -> None:
    for option in ("--pipelines=ingestion", "--pipeline=ingestion"):
        done = run_kedro(project, "run", "--env=test", option)
        assert done.returncode == 0, done.stderr
        assert (project / "data/02_intermediate/shapes/items.parquet").is_file()
