"""dvc.yaml says the same as the pipelines and the catalog: one stage a pipeline, every file in and out of it tracked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro_project import ROOT

bootstrap_project(ROOT)
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
VARS = DVC["vars"][0]
NAMES = sorted(set(pipelines) - {"__default__"})


def resolved(entries: list) -> set[str]:
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    for name, value in VARS.items():
        paths = [path.replace(f"${{{name}}}", str(value)) for path in paths]
    return set(paths)


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Dataset -> file, for every dataset of the catalog that has one under data/."""
    with KedroSession.create(ROOT, env="base") as session:
        config = session.load_context().config_loader["catalog"]
    return {
        name: entry["filepath"]
        for name, entry in config.items()
        if not name.startswith("_")
        and str(entry.get("filepath", "")).startswith("data/")
        and not entry["type"].endswith("TrainingFolder")
    }


def covers(paths: set[str], file: str) -> bool:
    return any(Path(file) == Path(path) or Path(path) in Path(file).parents for path in paths)


def test_every_pipeline_is_a_stage() -> None:
    assert sorted(DVC["stages"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_tracks_what_its_pipeline_reads_and_writes(name: str, files: dict[str, str]) -> None:
    stage, pipeline = DVC["stages"][name], pipelines[name]
    assert f"--pipelines={name}" in stage["cmd"]
    deps = resolved(stage["deps"])
    outs = resolved(stage.get("outs", []) + stage.get("metrics", []))
    persistent = resolved([entry for entry in stage["outs"] if isinstance(entry, dict)])  # read and added to
    for dataset in pipeline.inputs() & set(files):
        assert covers(deps | persistent, files[dataset]), f"{dataset} is read but is no dependency"
    for dataset in pipeline.all_outputs() & set(files):
        assert covers(outs, files[dataset]), f"{dataset} is written but not tracked"
    for path in outs:
        touched = pipeline.all_outputs() | (pipeline.inputs() if path in persistent else set())
        assert any(covers({path}, files[dataset]) for dataset in touched & set(files)), path


def test_sources_that_stages_depend_on_exist() -> None:
    for stage in DVC["stages"].values():
        for path in resolved(stage["deps"]):
            assert path.startswith("data/0") or (ROOT / path).exists(), path
        for entry in stage.get("params", []):
            assert (ROOT / next(iter(entry))).is_file()
