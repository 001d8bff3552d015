"""A run with evidence, as a person starts it: the student is taught and asked with it, the teacher is not, and other runs do not mix with it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from kedro_project import run_kedro
from structure_models import write_random_model

PIPELINES = "--pipelines=ingestion,teacher_distillation,rebalancing,sft"


@pytest.mark.slow
def test_a_run_with_evidence_teaches_and_asks_with_it(project: Path, tmp_path: Path) -> None:
    network = write_random_model(tmp_path)
    done = run_kedro(project, "run", "--env=test", PIPELINES, f"--params=judging.options.evidence={network}")
    assert done.returncode == 0, done.stderr
    tables = {path.stem: path for path in project.glob("data/0[3-7]*/**/*.parquet")}
    examples = pd.read_parquet(tables["examples"])
    chain = examples[examples["task"].isin(["appearance_1", "appearance_2", "summary_2"])]
    assert set(chain["prompt_version"]) == {"decomposed_text_evidence@2/compact@2"}
    for name, told in (("examples", True), ("teacher_transcripts", False)):
        table = pd.read_parquet(tables[name])
        looks = table.loc[table["task"] == "appearance_1", "messages"]
        assert len(looks)
        assert all(json.loads(text)[-1]["text"].startswith("structure ") == told for text in looks), name
    asked = pd.read_parquet(tables["sft_transcripts"])
    asked = asked[asked["protocol"] == "decomposed"]  # after eight steps no student comes as far as appearance
    assert set(asked["prompt_version"]) == {"decomposed_text_evidence@2/compact@2"}
    other = run_kedro(project, "run", "--env=test", "--pipelines=rebalancing")
    assert other.returncode == 1
    assert "were written with prompt version 'decomposed_text_evidence@2/compact@2'" in other.stderr.splitlines()[-1]
