"""The study of a student's own findings at a tiny size: its rows run, learn from the findings, and are kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from perf.findings import DIFFERENCES, FINDINGS, ROWS, SAME, Findings
from test_grpo_study import SMALL

from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend


@pytest.mark.slow
def test_the_second_training_learns_from_what_follows_from_the_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Findings(tmp_path, 12, SMALL, 20, steps=2, images=1)
    student = SimulatedBackend(study.items, study.wording, seed=5, error_rate=0.3, score_noise=2.0)
    # Three steps do not teach a chain, so another student is asked in its place.
    monkeypatch.setattr("perf.findings.TransformersBackend", lambda *_, **__: student)
    for name, row in ROWS.items():
        study.run(name, row, 0)
    result = study.table(ROWS, DIFFERENCES)
    assert set(result["differences"]) == {f"{a} - {b}" for a, b in DIFFERENCES}
    more, same = (result["rows"][name]["took"][0]["examples"] for name in (FINDINGS, SAME))
    assert more > same
    asked = pd.read_parquet(tmp_path / "findings/seed_0/teacher.parquet")
    trained = study.items[study.items["item_id"].map(study.folds) == "train"]
    assert set(asked["item_id"].str.partition("+")[0]) <= set(trained["item_id"])
