"""What a person gets wrong ends in one sentence that names it, with status 1, and leaves nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kedro_project import run_kedro


def one_sentence(project: Path, *arguments: str) -> str:
    """What ``kedro run`` with these arguments says; it must fail with one sentence and no traceback."""
    done = run_kedro(project, "run", "--env=test", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    return last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--params=benchmark=nope"], "no benchmark 'nope'"),
        (["--params=benchmark=nope", "--pipelines=sft"], "no benchmark 'nope': the known ones are agiqa3k"),
        (["--params=benchmark=2024"], "no benchmark '2024': the known ones are agiqa3k"),
        (["--params=student=nope"], "no student 'nope'; the students are internvl3_8b"),
        (["--params=seed=abc"], "'abc' is not a seed; give a whole number"),
        (["--params=seed=-1"], "'-1' is not a seed"),
        (["--params=variant=nope"], "no variant 'nope'; the variants are full"),
        (["--params=variant=nope/full"], "no study 'nope'; the studies are ablation"),
        (["--params=benchmrk=shapes"], "no parameter 'benchmrk' (--params); did you mean benchmark"),
        (["--params=sft.learning_rat=1"], "no parameter 'sft.learning_rat'"),
        (["--pipelines=nope"], "no pipeline 'nope'; the pipelines are"),
        (["--params=benchmark=tifa160,raw_root=/nowhere"], "files of benchmark 'tifa160' are not at"),
        (["--params=ingestion.split.test=3"], "ingestion.split.test"),
        (["--pipelines=sft"], "run `kedro run --pipelines="),
    ],
)
def test_a_wrong_word_is_named(project: Path, arguments: list[str], said: str) -> None:
    before = sorted(project.glob("data/**/*"))
    assert said in one_sentence(project, *arguments)
    assert sorted(project.glob("data/**/*")) == before  # no folder either


def test_a_folder_that_is_no_model_is_named(project: Path) -> None:
    assert (
        run_kedro(project, "run", "--env=test", "--pipelines=ingestion,teacher_distillation,rebalancing").returncode
        == 0
    )
    (project / "empty").mkdir()
    for path, said in (("empty", "does not contain config.json"), ("data/nothing", "does not exist")):
        assert said in one_sentence(project, "--pipelines=sft", f"--params=model.model={path}")
    assert not (project / "data/06_models/shapes").exists()


def test_a_corrupt_image_is_named_and_can_be_set_aside(project: Path, shared_data: Path) -> None:
    raw = project / "raw"
    shutil.copytree(shared_data / "avt_ai_images", raw / "avt_ai_images")
    image = next((raw / "avt_ai_images" / "images").rglob("*.jpg"))
    image.chmod(0o644)
    image.write_bytes(image.read_bytes()[:300])
    arguments = ("--pipelines=ingestion", f"--params=benchmark=avt_ai_images,raw_root={raw}")
    said = one_sentence(project, *arguments)
    assert image.name in said
    assert "ingestion.max_bad_images=1" in said
    assert not (project / "data/02_intermediate/avt_ai_images/items.parquet").exists()
    done = run_kedro(project, "run", "--env=test", arguments[0], f"{arguments[1]},ingestion.max_bad_images=1")
    assert done.returncode == 0, done.stderr
    assert image.stem in (project / "data/02_intermediate/avt_ai_images/data_issues.csv").read_text()


def test_a_missing_raw_file_is_named(project: Path, shared_data: Path) -> None:
    raw = project / "raw" / "avt_ai_images"
    raw.mkdir(parents=True)
    shutil.copy(shared_data / "avt_ai_images" / "prompts.csv", raw)
    said = one_sentence(project, "--pipelines=ingestion", f"--params=benchmark=avt_ai_images,raw_root={raw.parent}")
    assert "ratings.csv" in said or "iqa.csv" in said


def test_a_fold_without_items_is_named(project: Path) -> None:
    assert run_kedro(project, "run", "--env=test", "--pipelines=ingestion").returncode == 0
    said = one_sentence(project, "--pipelines=meta_evaluation", "--params=meta_evaluation.fold=tset")
    assert "Fold 'tset' has no item; choose one of test, train, validation or all" in said
