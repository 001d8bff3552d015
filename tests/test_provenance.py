"""The commit that a result names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from t2i_eval_kedro.provenance import commit, recipe


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_run_s_own_metrics_are_no_change_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit() == "unknown"
    metrics = tmp_path / "data/08_reporting/summary.json"
    metrics.parent.mkdir(parents=True)
    for file in (metrics, tmp_path / "code.py"):
        file.write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    clean = commit()
    metrics.write_text("2")
    assert commit() == clean
    monkeypatch.chdir(metrics.parent)
    (tmp_path / "code.py").write_text("2")
    assert commit() == f"{clean}-dirty"


def test_a_recipe_holds_what_decides_a_result_and_nothing_of_the_machine() -> None:
    class Settings(BaseModel):
        names: tuple[str, ...] = ("a",)

    given = {
        "launch": {"processes": 8},
        "judging": {
            "wording": "full",
            "wordings": {"full": {"version": 1}, "compact": {}},
            "answers": "/a",
            "fold": "test",
        },
        "sft": Settings(),
        "variants": {},
        "raw_root": "/data",
        "benchmark": "mine",
    }
    kept = recipe(given)
    assert kept == {
        "benchmark": "mine",
        "judging": {"wording": "full", "wordings": {"full": {"version": 1}}, "fold": "test"},
        "sft": {"names": ["a"]},
    }
    assert list(kept) == ["benchmark", "judging", "sft"]
    assert given["judging"]["answers"] == "/a"


def test_a_recipe_has_one_order_whatever_the_order_of_its_parameters() -> None:
    parameters = {"teacher": {"kind": "auto"}, "seed": 0, "ingestion": {}, "benchmark": "shapes", "meta_evaluation": {}}
    turned = dict(reversed(parameters.items()))
    assert (
        list(recipe(parameters))
        == list(recipe(turned))
        == ["benchmark", "seed", "ingestion", "meta_evaluation", "teacher"]
    )
