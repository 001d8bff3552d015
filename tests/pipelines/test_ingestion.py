"""Ingestion as a person runs it: skipped where nothing changed, strict, sampled, with generators left out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro_project import run_kedro

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.pipelines.ingestion.runner import SkipUnchanged

OUT = "data/02_intermediate/own"


@pytest.fixture
def own(project: Path) -> Path:
    """A benchmark of CSV files: 12 prompts of two styles by three generators, one rating off its scale."""
    raw = project / "data/01_raw/own"
    raw.mkdir(parents=True)
    items, ratings = [], []
    for p in range(12):
        for g in "abc":
            style = "ink" if p < 3 else "photo; night"
            items.append((f"{g}{p}", f"p{p}", f"a red cat number {p}", g, "", style))
            ratings.append((f"{g}{p}", "r1", "overall", 9 if (p, g) == (0, "a") else 1 + p % 5, 1, 5))
    columns = ["item_id", "prompt_id", "prompt", "generator", "image"]
    pd.DataFrame(items, columns=[*columns, "style"]).to_csv(raw / "items.csv", index=False)
    columns = ["item_id", "rater_id", "dimension", "score", "scale_min", "scale_max"]
    pd.DataFrame(ratings, columns=columns).to_csv(raw / "ratings.csv", index=False)
    elements = [(f"p{p}", "e", text, "animal") for p, text in enumerate(["cats", "dog", *["red cat"] * 10])]
    columns = ["prompt_id", "element_id", "text", "skill"]
    pd.DataFrame(elements, columns=columns).to_csv(raw / "elements.csv", index=False)
    return raw


@pytest.fixture
def ingest(own: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Runs the pipeline with these ingestion parameters in this process; returns whether it did anything."""
    monkeypatch.chdir(project)
    bootstrap_project(project)

    def run(**parameters: object) -> bool:
        runner = SkipUnchanged()
        params = {"benchmark": "own", "ingestion": parameters}
        with KedroSession.create(project, runtime_params=params) as session:
            return bool(session.run(pipeline_names=["ingestion"], runner=runner))

    return run


def written(project: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (project / OUT).rglob("*") if path.is_file()}


def test_a_second_run_with_nothing_changed_does_nothing(project: Path, ingest: Callable[..., bool]) -> None:
    assert ingest()
    first = written(project)
    assert not ingest()
    assert written(project) == first
    assert ingest(split={"seed": 1})
    assert ingest(split={"seed": 1}, force=True)
    assert not ingest(split={"seed": 1})


@pytest.mark.parametrize("change", ["raw file", "output", "output gone"])
def test_whatever_changed_is_made_again(project: Path, own: Path, ingest: Callable[..., bool], change: str) -> None:
    ingest()
    table = project / OUT / "splits.parquet"
    before = table.read_bytes()
    if change == "raw file":
        now = time.time() + 1
        os.utime(own / "ratings.csv", (now, now))
    elif change == "output":
        table.write_bytes(b"something else")
    else:
        table.unlink()
    assert ingest()
    assert table.read_bytes() == before
    assert not ingest()


def test_a_run_that_stops_half_way_is_not_taken_for_whole(ingest: Callable[..., bool]) -> None:
    ingest()
    with pytest.raises(T2IEvalError, match="Generators to leave out"):
        ingest(split={"leave_out": ["nobody"]})
    assert ingest()


def test_strict_says_by_its_status_that_something_was_set_aside(
    project: Path, own: Path, ingest: Callable[..., bool]
) -> None:
    arguments = ("run", "--pipelines=ingestion", "--params=benchmark=own,ingestion.strict=true")
    done = run_kedro(project, *arguments)
    assert done.returncode == 1
    assert "1 items, rows or ratings of benchmark 'own' were excluded" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    issues = pd.read_csv(project / OUT / "data_issues.csv")
    assert (project / OUT / "ratings.parquet").is_file()
    assert list(issues.loc[issues["action"] == "rating excluded", "kind"]) == ["off_scale_rating"]
    text = (own / "ratings.csv").read_text()
    (own / "ratings.csv").write_text(text.replace("a0,r1,overall,9", "a0,r1,overall,5"))
    assert run_kedro(project, *arguments).returncode == 0
    assert not ingest(strict=True)


def test_too_many_unreadable_ratings_stop_the_run(project: Path, ingest: Callable[..., bool]) -> None:
    with pytest.raises(T2IEvalError, match="1 of 36 ratings"):
        ingest(max_bad_ratings=0.01)
    assert not (project / OUT / "items.parquet").exists()


def test_generators_left_out_are_tested_on_and_nothing_else(project: Path, ingest: Callable[..., bool]) -> None:
    ingest(split={"leave_out": ["b"]})
    items = pd.read_parquet(project / OUT / "items.parquet")
    folds = items.merge(pd.read_parquet(project / OUT / "splits.parquet"), on="item_id")
    assert set(folds.loc[folds["fold"] == "test", "generator"]) == {"b"}
    assert set(folds.loc[folds["fold"].isin(["train", "validation"]), "generator"]) == {"a", "c"}
    assert not set(folds.loc[folds["fold"] == "test", "prompt"]) & set(folds.loc[folds["fold"] == "train", "prompt"])


def test_a_balanced_sample_is_what_is_split(project: Path, ingest: Callable[..., bool]) -> None:
    ingest(sample={"prompts": 6, "dimensions": {"style": 1.0}})
    card = json.loads((project / OUT / "data_card.json").read_text())
    sample = card["sample"]
    assert sample["counts"]["style"] == {"ink": 3, "night": 3, "photo": 3}
    assert (sample["prompts"], sample["of"], sample["method"], sample["gap"]) == (6, 12, "milp", 0.0)
    items = pd.read_parquet(project / OUT / "items.parquet")
    folds = items.merge(pd.read_parquet(project / OUT / "splits.parquet"), on="item_id")
    assert len(folds) == 36
    used = folds["fold"] != "unused"
    assert not set(folds.loc[used, "prompt"]) & set(folds.loc[~used, "prompt"])
    assert folds.loc[used].groupby(folds["attributes"])["prompt_id"].nunique().tolist() == [3, 3]
    with pytest.raises(T2IEvalError, match=r"No prompt has a category of 'colour'.*element_skills, style"):
        ingest(sample={"prompts": 6, "dimensions": {"colour": 1.0}})


def test_elements_are_found_in_their_prompts(project: Path, ingest: Callable[..., bool]) -> None:
    ingest()
    table = pd.read_parquet(project / OUT / "element_positions.parquet").set_index("prompt_id")
    assert tuple(table.loc["p2", ["start", "end", "places"]]) == (2, 9, 1)
    card = json.loads((project / OUT / "data_card.json").read_text())["element_positions"]
    assert (card["elements"], card["found"], card["not_found"]) == (12, 11, 1)
    assert card["examples_not_found"] == ["p1: dog"]
