"""dvc.yaml is what the project says, and it tracks every file that goes in or out of a pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import coverage
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import SequentialRunner
from kedro_project import ROOT

import t2i_eval_kedro
from t2i_eval_kedro.cli.dvc_sync import dvc_sync, dvc_yaml, study_stages
from t2i_eval_kedro.config import ExperimentConfigLoader, catalog_entries
from t2i_eval_kedro.pipeline_registry import ABLATION_RUN, HEADS, STRUCTURE
from t2i_eval_kedro.settings import CONFIG_LOADER_ARGS

bootstrap_project(ROOT)
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
DEFAULTS = yaml.safe_load((ROOT / "conf/base/parameters.yml").read_text())
STUDIES = ExperimentConfigLoader(str(ROOT / "conf"), "base", **CONFIG_LOADER_ARGS)["parameters"].get("studies", {})
CELLS = {name: matrix for study, of in STUDIES.items() for name, matrix in study_stages(study, of).items()}
BESIDE = {HEADS, STRUCTURE}  # pipelines that no stage stands for; what they write may be absent
NAMES = sorted(set(pipelines) - BESIDE - {"__default__", ABLATION_RUN})


def resolved(entries: list) -> set[str]:
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    for name in ("benchmark", "student", "variant", "seed", "raw_root"):
        paths = [path.replace(f"${{{name}}}", str(DEFAULTS[name])) for path in paths]
    return set(paths)


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Dataset -> file, for every dataset of the catalog that has one under data/ which outlives its run."""
    config = ExperimentConfigLoader(str(ROOT / "conf"), "base", **CONFIG_LOADER_ARGS)["catalog"]
    entries = catalog_entries(config, pipelines["__default__"].datasets())
    return {
        name: entry["filepath"]
        for name, entry in entries.items()
        if str(entry.get("filepath", "")).startswith("data/") and not entry["type"].endswith("TrainingFolder")
    }


def covers(paths: set[str], file: str) -> bool:
    return any(Path(file) == Path(path) or Path(path) in Path(file).parents for path in paths)


def test_dvc_yaml_is_what_the_project_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(dvc_sync, ["--check"])
    assert result.exit_code == 0, result.output


def test_check_fails_where_they_disagree_and_writes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "dvc.yaml").write_text("stages: {}")
    refused = CliRunner().invoke(dvc_sync, ["--check"])
    assert refused.exit_code == 1
    assert "run `kedro dvc-sync`" in refused.output
    assert (project / "dvc.yaml").read_text() == "stages: {}"
    assert CliRunner().invoke(dvc_sync, []).exit_code == 0
    assert CliRunner().invoke(dvc_sync, ["--check"]).exit_code == 0


def test_every_pipeline_is_a_stage() -> None:
    assert sorted(set(DVC["stages"]) - set(CELLS)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_tracks_what_its_pipeline_reads_and_writes(name: str, files: dict[str, str]) -> None:
    stage, pipeline = DVC["stages"][name], pipelines[name]
    assert f"--pipelines={name}" in stage["cmd"]
    deps = resolved(stage["deps"])
    outs = resolved(stage.get("outs", []) + stage.get("metrics", []))
    persistent = resolved([entry for entry in stage["outs"] if isinstance(entry, dict)])  # read and added to
    elsewhere = {dataset for beside in BESIDE for dataset in pipelines[beside].all_outputs()}
    for dataset in pipeline.inputs() & set(files) - elsewhere:
        assert covers(deps | persistent, files[dataset]), f"{dataset} is read but is no dependency"
    for dataset in pipeline.all_outputs() & set(files):
        assert covers(outs, files[dataset]), f"{dataset} is written but not tracked"
    for path in outs:
        touched = pipeline.all_outputs() | (pipeline.inputs() if path in persistent else set())
        assert any(covers({path}, files[dataset]) for dataset in touched & set(files)), path


def test_what_stages_depend_on_and_none_of_them_makes_is_there() -> None:
    made = {path for stage in DVC["stages"].values() for path in resolved(stage["outs"] + stage.get("metrics", []))}
    for stage in DVC["stages"].values():
        for path in resolved(stage["deps"]) - made:
            assert (ROOT / path).exists(), path
        for path in resolved(stage.get("params", [])):
            assert (ROOT / path).is_file(), path


def test_dvc_reads_it_and_the_default_run_needs_no_cell() -> None:
    repo = pytest.importorskip("dvc.repo").Repo(str(ROOT))
    repo.index.check_graph()  # no circles, no file of two stages

    def with_deps(target: str) -> set[str]:
        return {stage.addressing for stage in repo.stage.collect(target, with_deps=True)}

    cells = [f"{name}@{v}-{s}" for name, matrix in CELLS.items() for v in matrix["variant"] for s in matrix["seed"]]
    assert {stage.addressing for stage in repo.index.stages} == {*NAMES, *cells}
    assert with_deps("reporting") <= set(NAMES)
    assert with_deps(cells[-1]) == {"ingestion", "teacher_distillation", cells[-1]}


def test_ingestion_depends_on_the_raw_files_of_its_benchmark() -> None:
    assert "${raw_root}/${benchmark}" in DVC["stages"]["ingestion"]["deps"]


def test_a_study_is_a_matrix_whose_cells_share_ingestion_and_teacher(project: Path) -> None:
    path = project / "conf/base/parameters_ablations.yml"
    parameters = yaml.safe_load(path.read_text())
    mine = {"variants": ["full", "short", "paper"], "seeds": [0, 1], "fewer_seeds": {"paper": [1]}, "overrides": {}}
    parameters["studies"] = {"mine": mine}
    path.write_text(yaml.safe_dump(parameters))
    shutil.copytree(ROOT / "data/01_raw/shapes", project / "data/01_raw/shapes")
    stages = yaml.safe_load(dvc_yaml(project))["stages"]
    cell = stages["mine"]
    assert cell["matrix"] == {"variant": ["full", "short"], "seed": [0, 1]}
    assert stages["mine_seed_1"]["matrix"] == {"variant": ["paper"], "seed": [1]}
    assert {**stages["mine_seed_1"], "matrix": None} == {**cell, "matrix": None}
    assert "variant=mine/${item.variant},seed=${item.seed} --pipelines=ablation_run" in cell["cmd"]
    outs = cell["outs"] + [path for metric in cell["metrics"] for path in metric]
    assert all("mine/${item.variant}" in path for path in outs)
    assert {"summary.json", "sft_scores.parquet", "sft"} <= {Path(path).name for path in outs}
    shared = stages["ingestion"]["outs"] + [p for p in stages["teacher_distillation"]["outs"] if "teacher_" in p]
    assert set(cell["deps"]) >= {
        path for path in shared if Path(path).name in ("items.parquet", "teacher_scores.parquet")
    }
    assert not any("grpo_scores" in path for path in cell["deps"])  # a cell stops before
    assert {"conf/base/parameters_ablations.yml": ["variants.${item.variant}", "studies.mine.overrides"]} in cell[
        "params"
    ]


class Tracer(SequentialRunner):
    """Runs a pipeline and notes which files of the package have code that was executed meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.executed: set[Path] = set()

    def run(self, *arguments: Any, **options: Any) -> Any:
        package = Path(t2i_eval_kedro.__file__).parent
        tracer = coverage.Coverage(data_file=None, config_file=False, include=[f"{package}/*"])
        tracer.start()
        try:
            return super().run(*arguments, **options)
        finally:
            tracer.stop()
            self.executed = {Path(path).relative_to(package) for path in tracer.get_data().measured_files()}


@pytest.mark.slow
def test_a_stage_depends_on_all_code_that_it_runs(project: Path) -> None:
    """Every pipeline, for real, in the test environment: what ran is in the parts of the package that its stage names."""
    for name in (name for name in pipelines if name in NAMES):  # in their order
        tracer = Tracer()
        with KedroSession.create(project, env="test") as session:
            session.run(pipeline_names=[name], runner=tracer)
        deps = {
            path.removeprefix("src/t2i_eval_kedro/") for path in DVC["stages"][name]["deps"] if path.startswith("src")
        }
        outside = {path.as_posix() for path in tracer.executed if not covers(deps, path.as_posix())}
        assert not outside, name
        assert len(tracer.executed) > 3


@pytest.mark.parametrize("path", sorted((ROOT / "conf/base").glob("parameters*.yml")), ids=lambda path: path.name)
def test_parameters_are_values_that_dvc_can_record(path: Path) -> None:
    json.dumps(yaml.safe_load(path.read_text()))  # an unquoted date is none
