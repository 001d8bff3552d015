"""Two cells for real, in the test environment: too little training to learn anything, everything else as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import yaml
from kedro_project import run_kedro


def generated(project: Path, variant: str) -> pd.DataFrame:
    """The overall scores on rated held-out items that the judge of ``variant`` wrote out."""
    folder = project / "data/07_model_output/shapes/tiny_vlm/ablation" / variant / "seed_0"
    scores = pd.read_parquet(folder / "sft_scores.parquet")
    return scores[(scores["dimension"] == "overall") & scores["protocol"].isin(["decomposed", "direct"])]


def test_missing_cells_are_run_and_compared(project: Path) -> None:
    file = project / "conf" / "base" / "parameters_ablations.yml"
    parameters = yaml.safe_load(file.read_text())
    parameters["studies"]["ablation"] |= {
        "variants": ["full", "no_decomposition"],
        "seeds": [0],
        "fewer_seeds": {},
        "overrides": {"sft": {"steps_share": 0.5}, "judging": {"protocols": ["taught", "expected"]}},
    }
    file.write_text(yaml.safe_dump(parameters))
    done = run_kedro(project, "ablations", "--env=test", "--jobs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project / "data" / "08_reporting" / "shapes" / "tiny_vlm" / "ablation"
    result = json.loads((folder / "ablations.json").read_text())
    assert list(result["variants"]) == ["full", "no_decomposition"]
    for facts in result["variants"].values():
        assert facts["steps"] == 8  # the environment's, over the share of the study
        assert 0 < facts["distinct"] <= facts["examples"]
        assert facts["seconds"] > 0
    free_form, expected, request = (result["scores"][name] for name in ("free_form", "expected", "request"))
    assert set(free_form["figures"]) == set(expected["figures"]) == {"full", "no_decomposition"}
    assert set(request["figures"]) == {"full"}  # the other was not taught it
    for variant, readable in free_form["readable"].items():
        written = generated(project, variant)
        assert readable == round(float((written["status"] == "ok").mean()), 3)
        several = written["score"].nunique() > 1  # what cannot be read counts as the lowest of them
        assert (free_form["figures"][variant]["value"] is None) <= (not several)
    assert {"shorter", "longer", "untrained_generators"} <= set(result["slices"])
    assert 0 < result["slices"]["untrained_generators"]["n"] < request["figures"]["full"]["n"]
    assert (folder / "ablations.html").read_text().count("no_decomposition") > 3

    parameters["studies"]["ablation"]["seeds"] = [0, 1]
    file.write_text(yaml.safe_dump(parameters))
    done = run_kedro(project, "ablations", "--env=test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "other settings" not in done.stderr  # of those that the pipeline keeps
    part = json.loads((folder / "ablations.json").read_text())  # of a study that was cut off: the seed that is there
    assert part["missing"] == ["full/seed_1", "no_decomposition/seed_1"]
    assert part["seeds"] == {"full": [0], "no_decomposition": [0]}
    assert part["scores"] == result["scores"]
