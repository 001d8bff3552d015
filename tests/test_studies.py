"""A study's table from runs whose scores are written here, as training would have left them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from kedro.validation.parameter_validator import ParameterValidator
from kedro_project import make_project, run_kedro

from t2i_eval_kedro import schema
from t2i_eval_kedro.cli.ablations import ablations
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.pipeline_registry import register_pipelines
from t2i_eval_kedro.provenance import recipe
from t2i_eval_kedro.studies import Study, measure, notes, run_missing, write

VARIANTS = ("full", "no_decomposition", "no_subtasks")


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


def write_run(files: Mapping[str, Path], protocol: str) -> None:
    """Scores of every item by ``protocol``, in an order of the variant's own."""
    variant = files["sft_scores"].parts[-3]
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
        write_run(study.files(variant, 0), "levels")
    result = measure(study)
    assert list(result["scores"]) == ["request"]
    assert set(result["scores"]["request"]["figures"]) == {*VARIANTS}
    assert all(list(part["scores"]) == ["request"] for part in result["slices"].values())
    assert not result["claims"]  # those of these variants are about the free-form score
    page = write(result, tmp_path).read_text()
    assert "Direct request, expected score" in page
    assert "No judge of this study writes a free-form score" in page


def test_a_study_without_any_of_the_scores_says_which_to_ask_for(study: Study) -> None:
    for variant in VARIANTS:
        write_run(study.files(variant, 0), "dsg")
    with pytest.raises(T2IEvalError, match=r"has a score of 'overall' by decomposed, .*levels; add one"):
        measure(study)


def test_without_runs_the_message_gives_the_command_of_this_study(study: Study) -> None:
    for variant in VARIANTS:
        write_run(study.files(variant, 0), "levels")
    command = "kedro ablations --study ablation --benchmark shapes --student tiny_vlm --env test --jobs 2"
    assert measure(study)["command"] == command
    study.files("full", 0)["sft_scores"].unlink()
    with pytest.raises(T2IEvalError, match=f"'{command}'"):
        measure(study)


def failing(monkeypatch: pytest.MonkeyPatch, study: Study, fails: str) -> Result:
    """What the command does when the run of the variant ``fails`` ends with an error, and each other writes its scores."""

    files = {variant: study.files(variant, 0) for variant in VARIANTS}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        variant = next((name for name in VARIANTS if f"/{name}," in command[-1]), None)
        if variant == fails:
            return subprocess.CompletedProcess(
                command, 1, "", "Traceback\nError: The disk is full.\n09:00:10 INFO    Kedro says goodbye.\n"
            )
        if variant:
            write_run(files[variant], "levels")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("t2i_eval_kedro.studies.subprocess.run", run)
    shutil.rmtree("data/07_model_output", ignore_errors=True)
    return CliRunner().invoke(ablations, ["--study=ablation", "--env=test", "--jobs=2"])


def test_a_run_that_fails_is_named_beside_the_table_of_the_others(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = study.folder / "ablations.html"
    page.unlink(missing_ok=True)
    done = failing(monkeypatch, study, "no_subtasks")
    assert done.exit_code == 1
    assert page.is_file()
    assert done.stderr.splitlines()[-1].endswith(
        "variant=ablation/no_subtasks,seed=0' failed with status 1: Error: The disk is full."
    )
    page.unlink()
    done = failing(monkeypatch, study, "full")  # what the others are compared with
    assert done.exit_code == 1
    assert not page.exists()
    assert "needs a run of 'full'" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "variant=ablation/full,seed=0' failed with status 1: Error: The disk is full."
    )


def write_summary(study: Study, variant: str, without: str = "") -> None:
    """The part of a run's summary that says with which settings it was made."""
    given = ParameterValidator({"run": register_pipelines()["ablation_run"]}).validate_raw_params(
        study.parameters(variant, 0)
    )
    summary = {"benchmark": "shapes", "recipe": recipe(given)}
    summary.pop(without, None)
    study.files(variant, 0)["summary"].write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"sft": {"max_steps": 6}}, "sft.max_steps"),
        ({"rebalancing": {"evenness": 0.1}, "seed": 0}, "rebalancing.evenness"),
        ({"judging": {"options": {"text_stages": False}}}, "judging.options.text_stages"),
        ({"teacher": {"error_rate": 0.5}, "sft": {"learning_rate": 0.5}}, "sft.learning_rate, teacher.error_rate"),
        ({"judging": {"batch_size": 3, "answers": "elsewhere"}, "teacher": {"openai": {"in_flight": 2}}}, ""),
        ({"meta_evaluation": {"n_resamples": 200}, "grpo": {"max_steps": 3}, "launch": {"processes": 2}}, ""),
    ],
)
def test_runs_of_other_settings_are_made_again(
    study: Study, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], names: str
) -> None:
    for variant in VARIANTS:
        write_run(study.files(variant, 0), "levels")
        write_summary(study, variant)
    study.files("full", 0)["teacher_scores"].parent.mkdir(parents=True, exist_ok=True)
    study.files("full", 0)["teacher_scores"].touch()
    assert not study.missing()
    assert not notes(study, jobs=0)
    now = replace(study, config=load_config(Path("conf"), "test", settings))
    given: list[str] = []
    monkeypatch.setattr("t2i_eval_kedro.studies._run", lambda command, _: given.append(" ".join(command)))
    assert run_missing(now, 1, print) == []
    assert [f"variant=ablation/{name}," in line for name, line in zip(VARIANTS, given[-3:], strict=False)] == (
        [True] * 3 if names else []
    )
    # The teacher, whose answers all runs share, is asked again where its settings were others.
    assert any("teacher_distillation" in line for line in given) == bool(
        {"teacher", "judging"} & set(settings) and names
    )
    if names:
        listed = ", ".join(f"{variant}/seed_0" for variant in VARIANTS)
        (note,) = notes(now, jobs=0)
        assert (
            note
            == f"{listed} were made with other settings ({names}) and are left out; '{now.again}' makes them again."
        )
        with pytest.raises(T2IEvalError, match="needs a run of 'full'"):
            measure(now)
    else:
        assert not notes(now, jobs=0)


def test_a_run_that_does_not_say_its_settings_is_taken_with_a_note(study: Study) -> None:
    for variant in VARIANTS:
        write_run(study.files(variant, 0), "levels")
        write_summary(study, variant)
    write_summary(study, "full", without="recipe")
    study.files("no_subtasks", 0)["summary"].unlink()
    assert not study.missing()
    (note,) = notes(study, jobs=2)
    assert note.startswith("full/seed_0, no_subtasks/seed_0 have no summary that says with which settings")
