"""``kedro run --pipeline=heads`` as a person runs it: judges, ensembles, submission, and the same agreement tables as all others."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from kedro_project import run_kedro

RUN = "shapes/tiny_vlm/full/seed_0"
JUDGES = {"score_head", "level_tokens", "vqa_score", "ensemble_mean", "ensemble_rank_mean", "ensemble_stacking"}


@pytest.mark.slow
def test_heads_are_trained_combined_submitted_and_measured_beside_all_others(project: Path) -> None:
    for pipelines in ("ingestion,heads", "meta_evaluation"):
        done = run_kedro(project, "run", "--env=test", f"--pipelines={pipelines}")
        assert done.returncode == 0, done.stdout + done.stderr
    data = project / "data"
    found = json.loads((data / "08_reporting" / RUN / "heads_summary.json").read_text())
    assert set(found["judges"]) == JUDGES
    assert all(entry["spearman"]["n"] > 0 for entry in found["judges"].values())
    assert found["judges"]["score_head"]["elements"]["accuracy"]["n"] > 0
    assert sum(found["ensembles"]["ensemble_stacking"]["weights"].values()) == pytest.approx(1)
    assert found["ensembles"]["ensemble_mean"]["seconds_per_image"] > 0
    folds = pd.read_parquet(data / "02_intermediate/shapes/splits.parquet").set_index("item_id")["fold"]
    scores = pd.read_parquet(data / "07_model_output" / RUN / "heads_scores.parquet")
    assert set(folds[scores["item_id"]]) == {"validation", "test"}
    summary = json.loads((data / "08_reporting" / RUN / "summary.json").read_text())
    assert set(summary["evaluators"]) >= JUDGES
    assert "score_head" in summary["elements"]
    assert {path.name for path in (data / "06_models" / RUN / "heads").iterdir()} == {"score_head", "level_tokens"}
    folder = data / "08_reporting" / RUN / "submission"
    scored = run_kedro(
        project, "score-submission", "alignment", f"--truth={folder}/truth.json", f"--submission={folder}/output.json"
    )
    assert scored.returncode == 0, scored.stdout + scored.stderr
    assert 0 <= json.loads(scored.stdout)["ACC"] <= 1
