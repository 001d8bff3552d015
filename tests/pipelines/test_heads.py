"""``kedro run --pipeline=heads`` as a person runs it: judges, ensembles, submission, and the same agreement tables as all others."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from kedro_project import run_kedro

from t2i_eval_kedro.datasets.image_store import ImageStoreDataset

RUN = "shapes/tiny_vlm/full/seed_0"
JUDGES = {"score_head", "level_tokens", "vqa_score", "ensemble_mean", "ensemble_rank_mean", "ensemble_stacking"}


@pytest.mark.slow
def test_heads_are_trained_combined_submitted_and_measured_beside_all_others(project: Path) -> None:
    for pipelines in ("ingestion,heads", "meta_evaluation"):
        done = run_kedro(project, "run", "--env=test", f"--pipelines={pipelines}")
        assert done.returncode == 0, done.stdout + done.stderr
    data = project / "data"
    found = json.loads((data / "08_reporting" / RUN / "heads_summary.json").read_text())
    assert set(found["judges"]) == JUDGES
    assert all(entry["spearman"]["n"] > 0 for entry in found["judges"].values())
    assert found["judges"]["score_head"]["elements"]["accuracy"]["n"] > 0
    assert sum(found["ensembles"]["ensemble_stacking"]["weights"].values()) == pytest.approx(1)
    assert found["ensembles"]["ensemble_mean"]["seconds_per_image"] > 0
    folds = pd.read_parquet(data / "02_intermediate/shapes/splits.parquet").set_index("item_id")["fold"]
    scores = pd.read_parquet(data / "07_model_output" / RUN / "heads_scores.parquet")
    assert set(folds[scores["item_id"]]) == {"validation", "test"}
    summary = json.loads((data / "08_reporting" / RUN / "summary.json").read_text())
    assert set(summary["evaluators"]) >= JUDGES
    assert "score_head" in summary["elements"]
    assert {path.name for path in (data / "06_models" / RUN / "heads").iterdir()} == {"score_head", "level_tokens"}
    folder = data / "08_reporting" / RUN / "submission"
    scored = run_kedro(
        project, "score-submission", "alignment", f"--truth={folder}/truth.json", f"--submission={folder}/output.json"
    )
    assert scored.returncode == 0, scored.stdout + scored.stderr
    assert 0 <= json.loads(scored.stdout)["ACC"] <= 1


def export(data: Path, folder: Path) -> tuple[int, int]:
    """Write images of the ingested shapes as a benchmark of a user's own; the numbers of images and of those of training prompts."""
    tables = {
        name: pd.read_parquet(data / f"02_intermediate/shapes/{name}.parquet")
        for name in ("items", "splits", "ratings")
    }
    fold = tables["splits"].set_index("item_id")["fold"]
    items = tables["items"][tables["items"]["generator"].isin(sorted(set(tables["items"]["generator"]))[:3])]
    images = ImageStoreDataset(filepath=str(data / "02_intermediate/shapes/images")).load()
    (folder / "images").mkdir(parents=True)
    for key in items["image"]:
        images.image(key).save(folder / "images" / f"{key.replace('/', '_').removesuffix('.png')}.png")
    files = "images/" + items["image"].str.replace("/", "_").str.removesuffix(".png") + ".png"
    columns = ["item_id", "prompt_id", "prompt", "generator"]
    items[columns].assign(image=files).to_csv(folder / "items.csv", index=False)
    ratings = tables["ratings"][
        tables["ratings"]["item_id"].isin(items["item_id"]) & (tables["ratings"]["dimension"] == "overall")
    ]
    ratings[["item_id", "rater_id", "score"]].assign(dimension="likeness").to_csv(folder / "ratings.csv", index=False)
    learned = set(tables["items"].loc[tables["items"]["item_id"].map(fold).isin(["train", "validation"]), "prompt"])
    return len(items), int(items["prompt"].isin(learned).sum())


@pytest.mark.slow
def test_a_judge_learns_from_one_benchmark_and_is_measured_on_another(project: Path) -> None:
    """One command once both are ingested; prompts that are learned from are left out of the other benchmark. And the other way round."""
    data = project / "data"

    def run(*arguments: str) -> None:
        done = run_kedro(project, "run", "--env=test", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    run("--pipelines=ingestion")
    count, learned = export(data, data / "01_raw/mine")
    run("--pipelines=ingestion", "--params=benchmark=mine")
    judges = "heads.judges=[score_head,vqa_score]"
    run("--pipelines=heads", f"--params=heads.other_benchmarks=[mine],{judges}")
    found = pd.read_csv(data / "08_reporting" / RUN / "heads_transfer.csv").set_index(["evaluator", "judged"])
    assert set(found.index) == {(a, b) for a in ("score_head", "vqa_score") for b in ("shapes", "mine")}
    there = found.loc[("score_head", "mine")]
    assert (there["items"], there["left_out"]) == (count - learned, learned)
    assert there["dimension"] == "likeness"
    assert found.loc[("score_head", "shapes"), "dimension"] == "overall"
    assert found["trained_on"].fillna("").to_dict()[("vqa_score", "mine")] == ""
    assert there["trained_on"] == "shapes"
    assert found["spearman"].between(-1, 1).all()
    scores = pd.read_parquet(data / "07_model_output" / RUN / "heads_scores.parquet")
    assert not scores["item_id"].str.startswith("mine::").any()  # the tables of this benchmark have its own items alone
    run("--pipelines=heads", f"--params=benchmark=mine,heads.other_benchmarks=[shapes],heads.submission=null,{judges}")
    back = pd.read_csv(data / "08_reporting" / RUN.replace("shapes", "mine") / "heads_transfer.csv")
    assert set(back["judged"]) == {"mine", "shapes"}
    absent = run_kedro(project, "run", "--env=test", "--pipelines=heads", "--params=heads.other_benchmarks=[none]")
    assert absent.returncode != 0
    assert "There is no ingested benchmark 'none'" in absent.stdout + absent.stderr
