"""GRPO begins on the untrained model without anything of supervised fine-tuning, and says what is missing where it goes on from it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from kedro_project import make_project, run_kedro

CELL = "shapes/tiny_vlm/full/seed_0"


@pytest.mark.slow
def test_the_untrained_model_needs_no_adapter_and_a_fine_tuned_one_is_asked_for(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    given = "ingestion.shapes.n_prompts=12,grpo.max_steps=1,judging.protocols=[levels],judging.attribution_items=0,judging.pairs=4"
    done = run_kedro(project, "run", "--env=test", "--pipelines=ingestion,grpo", f"--params=grpo.start=base,{given}")
    assert done.returncode == 0, done.stdout + done.stderr
    adapter = project / "data/06_models" / CELL / "grpo"
    assert json.loads((adapter / "settings.json").read_text())["settings"]["start"] == "base"
    assert (project / "data/07_model_output" / CELL / "grpo_scores.parquet").is_file()
    compared = pd.read_parquet(project / "data/07_model_output" / CELL / "grpo_preference_scores.parquet")
    people = pd.read_parquet(project / "data/02_intermediate/shapes/preferences.parquet")
    folds = pd.read_parquet(project / "data/02_intermediate/shapes/splits.parquet").set_index("item_id")["fold"]
    assert set(zip(compared["item_a"], compared["item_b"], strict=True)) <= set(
        zip(people["item_a"], people["item_b"], strict=True)
    )
    assert set(compared["item_a"].map(folds)) == {"test"}
    assert (len(compared), set(compared["judge"]), set(compared["protocol"])) == (4, {"grpo"}, {"pairwise"})
    done = run_kedro(project, "run", "--env=test", "--pipelines=grpo", f"--params={given}")
    assert done.returncode != 0
    assert "sft' does not exist; run the pipeline that trains it first" in " ".join((done.stdout + done.stderr).split())
