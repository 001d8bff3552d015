"""Recorded scores are measured without a model, and without importing what runs one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kedro_project import run_kedro

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
        ("dsg", {"alignment"}, 2),
        ("viescore_imagenhub", {"SC", "PQ", "O"}, 2),
        ("agiqa3k", {"quality", "alignment"}, 0),
    ],
)
def test_recorded_scores_need_no_model(
    project: Path, shared_data: Path, benchmark: str, dimensions: set[str], evaluators: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, benchmark, str(shared_data)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
    folder = project / "data/08_reporting" / benchmark / "full/seed_0"
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["evaluators"]) >= evaluators
    for by_dimension in summary["evaluators"].values():
        assert set(by_dimension) <= dimensions
    assert (folder / "report.html").stat().st_size > 10_000


def test_both_spellings_choose_pipelines(project: Path) -> None:
    for option in ("--pipelines=ingestion", "--pipeline=ingestion"):
        done = run_kedro(project, "run", "--env=test", option)
        assert done.returncode == 0, done.stderr
        assert (project / "data/02_intermediate/shapes/items.parquet").is_file()
