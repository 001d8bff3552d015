"""The whole graph, for real, in the test environment: too little training to learn anything, everything else as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro_project import OFFLINE, make_project, run_kedro
from pages import outside, resources

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.splits import UNUSED
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.provenance import recipe
from t2i_eval_kedro.shapes.make import make_shapes

CELL = "shapes/tiny_vlm/full/seed_0"
EVALUATORS = {
    "teacher",
    *(f"{judge}{protocol}" for judge in ("base", "sft", "grpo") for protocol in ("", "_dsg", "_decomposed")),
    *schema.BASELINES,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("whole"))
    done = run_kedro(project, "run", "--env=test")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def read_summary(project: Path, cell: str = CELL) -> dict:
    return json.loads((project / "data" / "08_reporting" / cell / "summary.json").read_text())


def test_the_summary_has_every_evaluator_with_counts_that_add_up(finished: Path) -> None:
    summary = read_summary(finished)
    assert (summary["benchmark"], summary["variant"], summary["seed"], summary["synthetic"]) == (
        "shapes",
        "full",
        0,
        True,
    )
    assert set(summary["counts"]) == EVALUATORS
    splits = pd.read_parquet(finished / "data/02_intermediate/shapes/splits.parquet")
    n_test = int((splits["fold"] == "test").sum())
    for counts in summary["counts"].values():
        assert set(counts) >= {"overall", "appearance", "attributes"}
        assert sum(counts["overall"].values()) == n_test
    spearman = summary["evaluators"]["teacher"]["overall"]["spearman"]
    assert -1 <= spearman["value"] <= 1
    assert spearman["low"] is None  # of four prompts
    assert "prompts" in spearman["reason"]
    assert spearman["n"] == n_test
    assert {(row["a"], row["b"]) for row in summary["significance"]} >= {("sft", "base"), ("grpo", "sft")}


def test_no_prompt_is_in_two_folds_and_no_test_item_is_trained_on(finished: Path) -> None:
    data = finished / "data"
    items = pd.read_parquet(data / "02_intermediate/shapes/items.parquet")
    splits = pd.read_parquet(data / "02_intermediate/shapes/splits.parquet")
    dealt = items.merge(splits, on="item_id", validate="one_to_one")
    assert len(dealt) == len(items)
    used = dealt[dealt["fold"] != UNUSED]
    assert (used.groupby("prompt")["fold"].nunique() == 1).all()
    shapes = load_config(finished / "conf", "test").resolved.parameters["ingestion"]["shapes"]
    only_tested = dealt["generator"].isin(shapes["held_out"])
    assert set(dealt.loc[only_tested, "fold"]) == {"test", UNUSED}
    assert set(dealt.loc[~only_tested, "fold"]) == {"train", "validation", "test"}
    trainable = set(dealt.loc[dealt["fold"].isin(["train", "validation"]), "item_id"])
    test_items = set(splits.loc[splits["fold"] == "test", "item_id"])
    test_prompts = set(items.loc[items["item_id"].isin(test_items), "prompt"])
    for file in ("balanced_examples", "grpo_examples"):
        examples = pd.read_parquet(data / f"05_model_input/{CELL}/{file}.parquet")
        further = examples["item_id"].str.startswith(("prompt/", "rehearsal/"))  # of no item of the benchmark
        mixed = examples["item_id"].str.split("+").explode()  # what was found of two items of one prompt
        assert set(mixed[~further]) <= trainable
        prompt_of = dict(zip(items["item_id"], items["prompt"], strict=True))
        for item_id, messages in zip(examples["item_id"], examples["messages"], strict=True):
            asked = "\n".join(message["text"] for message in json.loads(messages))
            its_prompt = prompt_of.get(item_id.partition("+")[0], "")
            leaked = [prompt for prompt in test_prompts if prompt in asked and prompt not in its_prompt]
            assert not leaked, (item_id, leaked)


def test_the_student_is_asked_in_the_words_it_was_trained_with(finished: Path) -> None:
    data = finished / "data"
    examples = pd.read_parquet(data / f"05_model_input/{CELL}/balanced_examples.parquet")
    asked = pd.read_parquet(data / f"07_model_output/{CELL}/sft_transcripts.parquet")

    def shapes_of(frame: pd.DataFrame) -> set[str]:
        rows = frame[(frame["task"] == "score") & (frame["aspect"] == "overall")]
        return {json.loads(messages)[-1]["text"].rsplit(",", 1)[1] for messages in rows["messages"]}

    assert shapes_of(examples) == shapes_of(asked) == {" rate overall"}


def test_adapters_carry_card_settings_and_curve(finished: Path) -> None:
    for name in ("sft", "grpo"):
        folder = finished / "data/06_models" / CELL / name
        assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "settings.json", "curve.csv"} <= {
            path.name for path in folder.iterdir()
        }
        assert str(finished) not in (folder / "adapter_config.json").read_text() + (folder / "README.md").read_text()


def test_adapters_and_the_summary_keep_the_recipe(finished: Path) -> None:
    resolved = load_config(finished / "conf", "test").resolved
    kept = read_summary(finished)["recipe"]
    given = recipe(resolved.parameters)  # what is kept has been checked, so defaults of the classes are filled in
    assert {name: kept[name] for name in given if name != "judging"} == {
        name: value for name, value in given.items() if name != "judging"
    }
    assert kept["judging"]["options"]["answer_vocabulary"] == "digits"
    assert (kept["student"], kept["sft"]["max_steps"], kept["judging"]["wording"]) == ("tiny_vlm", 8, "compact")
    for name in ("sft", "grpo"):
        written = yaml.safe_load((finished / "data/06_models" / CELL / name / "recipe.yml").read_text())
        assert written == kept | {"model": kept["model"] | {"model": "tiny_vlm"}}


def test_tables_on_disk_keep_to_the_schema(finished: Path) -> None:
    checked = 0
    for path in finished.glob("data/0*/**/*.parquet"):  # a file is named after its table, with what it is of before it
        if path.stem == "index":  # of the image store
            continue
        names = [name for name in schema.TABLES if f"_{path.stem}".endswith(f"_{name}")]
        schema.TABLES[max(names, key=len)].check(pd.read_parquet(path))
        checked += 1
    assert checked >= 25


def test_the_diagnostics_cover_every_judge_and_stand_in_the_report(finished: Path) -> None:
    found = json.loads((finished / "data/08_reporting" / CELL / "diagnostics.json").read_text())
    assert {row["judge"] for row in found["chain"]["extraction"]} == {"teacher", "base", "sft", "grpo"}
    assert next(row["f1"] for row in found["chain"]["extraction"] if row["judge"] == "teacher") == 1
    assert {(row["before"], row["after"]) for row in found["kept_or_forgotten"]} == {("base", "sft"), ("sft", "grpo")}
    assert {row["evaluator"] for row in found["score_variety"]} <= EVALUATORS
    assert found["rationales"] == []  # no explanation of so short a training names an element
    html = (finished / "data/08_reporting" / CELL / "report.html").read_text()
    assert "No judge was diagnosed" not in html
    assert html.count('id="c-diagnostics-') >= 4


def test_the_report_is_one_file_that_needs_no_network(finished: Path) -> None:
    html = (finished / "data/08_reporting" / CELL / "report.html").read_text()
    assert outside(html) == []
    assert sum(one.startswith("data:image/png;base64,") for one in resources(html)) >= 6
    assert "ynthetic" in html


def test_the_last_adapter_of_the_experiment_judges_an_image_of_one_s_own(finished: Path) -> None:
    image = finished / "image.png"
    image.write_bytes(make_shapes(1).images[0][1])
    done = run_kedro(finished, "judge", "--prompt=a large red circle", f"--image={image}", "--json")
    assert done.returncode == 0, done.stderr
    assert f"the last adapter of the resolved experiment, {CELL}/grpo, judges" in done.stderr
    assert {score["status"] for score in json.loads(done.stdout)["scores"]} == {"ok"}


@pytest.mark.slow
def test_a_second_run_gives_the_same_summary(finished: Path) -> None:
    before = (finished / "data/08_reporting" / CELL / "summary.json").read_bytes()
    command = [sys.executable, "-m", "kedro", "run", "--env=test"]  # from its start, with another order of sets
    environment = os.environ | OFFLINE | {"PYTHONHASHSEED": "1"}
    done = subprocess.run(command, cwd=finished, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (finished / "data/08_reporting" / CELL / "summary.json").read_bytes() == before


@pytest.mark.slow
def test_real_images_and_ratings_go_through_all_seven_pipelines(project: Path, shared_data: Path) -> None:
    done = run_kedro(project, "run", "--env=test", f"--params=benchmark=avt_ai_images,raw_root={shared_data}")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(project, "avt_ai_images/tiny_vlm/full/seed_0")
    assert summary["synthetic"] is False
    assert {"base", "sft", "grpo"} <= set(summary["evaluators"])
    assert "teacher" not in summary["evaluators"]
    assert set(summary["evaluators"]["sft"]) == {"prompt_matching", "realism", "image_appeal"}
