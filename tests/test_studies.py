"""A study's table from runs whose scores are written here, as training would have left them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro_project import make_project, run_kedro

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.studies import Study, measure, write

VARIANTS = ("full", "no_decomposition")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("study"))
    file = project / "conf/base/parameters_ablations.yml"
    parameters = yaml.safe_load(file.read_text())
    parameters["studies"]["ablation"] |= {"variants": [*VARIANTS], "seeds": [0], "fewer_seeds": {}}
    file.write_text(yaml.safe_dump(parameters))
    done = run_kedro(project, "run", "--env=test", "--pipelines=ingestion")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def study(ingested: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(ingested)
    return Study.load("ablation", None, None, "test")


def write_run(study: Study, variant: str, protocol: str) -> None:
    """Scores of every item by ``protocol``, in an order of the variant's own."""
    files = study.files(variant, 0)
    items = pd.read_parquet(files["items"])["item_id"]
    rows = (
        {
            **{"item_id": item, "judge": "sft", "protocol": protocol, "dimension": "overall", "run": 0},
            **{"score": float((7 * place) % (11 + len(variant))), "status": "ok", "higher_is_better": True},
        }
        for place, item in enumerate(items)
    )
    for name in ("sft_scores", "sft_time"):
        files[name].parent.mkdir(parents=True, exist_ok=True)
    schema.SCORES.frame(rows).to_parquet(files["sft_scores"])
    files["sft_time"].write_text(json.dumps({"seconds": 1.0, "steps": 8, "examples": 9, "distinct": 9}))


def test_a_study_without_free_form_scores_is_measured_by_those_that_there_are(study: Study, tmp_path: Path) -> None:
    for variant in VARIANTS:
        write_run(study, variant, "levels")
    result = measure(study)
    assert list(result["scores"]) == ["request"]
    assert set(result["scores"]["request"]["figures"]) == {*VARIANTS}
    assert all(list(part["scores"]) == ["request"] for part in result["slices"].values())
    assert not result["claims"]  # that of these two variants is about the free-form score
    page = write(result, tmp_path).read_text()
    assert "Direct request, expected score" in page
    assert "No judge of this study writes a free-form score" in page


def test_a_study_without_any_of_the_scores_says_which_to_ask_for(study: Study) -> None:
    for variant in VARIANTS:
        write_run(study, variant, "dsg")
    with pytest.raises(T2IEvalError, match=r"has a score of 'overall' by decomposed, .*levels; add one"):
        measure(study)
