"""Folders of CSV files as people have them: joined, counted and gated as `kedro agreement` does it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from benchmark_helpers import kinds, picture
from scipy.stats import spearmanr

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.inputs import read_input
from t2i_eval_kedro.agreement.rated_items import build
from t2i_eval_kedro.benchmarks import Benchmark, read_benchmark
from t2i_eval_kedro.benchmarks.splits import prompt_groups
from t2i_eval_kedro.config import default_conf
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.pipelines.ingestion import nodes

CASES = Path(__file__).parents[1] / "data" / "cases" / "benchmarks"


def rho(made: Benchmark, judge: str = "good") -> float:
    sample = build(made.items, made.ratings, made.scores)["overall"]
    return round(float(spearmanr(sample.scores[judge], sample.gold).statistic), 3)


def test_plain_and_with_blanks_at_the_ends_of_prompts_and_identifiers() -> None:
    plain = read_benchmark("plain", CASES)
    assert (rho(plain), rho(plain, "noisy")) == (0.807, 0.489)
    assert build(plain.items, plain.ratings, plain.scores)["overall"].prompts == 40
    for name in ("text_trailing", "blank_ids"):
        made = read_benchmark(name, CASES)
        assert rho(made) == 0.807
        assert build(made.items, made.ratings, made.scores)["overall"].prompts == 40
        assert "blanks at their ends" in made.issues.loc[made.issues["kind"] == "reading", "detail"].iloc[0]


def test_one_file_gives_one_figure_in_both_commands(tmp_path: Path) -> None:
    """Also where the file contradicts itself."""
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    ratings = pd.read_csv(tmp_path / "mine/ratings.csv", dtype=str)
    ratings = pd.concat([ratings, ratings.head(9).assign(score=["5", "1", "3"] * 3), ratings.tail(3)])
    ratings.to_csv(tmp_path / "mine/ratings.csv", index=False)
    made = read_benchmark("mine", tmp_path)
    items = made.items.set_index("item_id")[["prompt_id", "generator"]]
    ratings.drop(columns=["scale_min", "scale_max"]).join(items, on="item_id").to_csv(tmp_path / "r.csv", index=False)
    given = read_input(tmp_path / "r.csv", tmp_path / "mine/scores.csv")
    key = ["item_id", "rater_id"]
    theirs, ours = (table.set_index(key)["score"].dropna().sort_index() for table in (given.ratings, made.ratings))
    assert theirs.equals(ours)
    assert kinds(made)["contradicting_rating"] == given.report["contradicting_ratings"] > 0


def test_a_reference_image_that_is_not_there_is_noted_and_one_that_is_is_kept(tmp_path: Path) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    items = pd.read_csv(tmp_path / "mine/items.csv", dtype=str)
    (tmp_path / "mine/real.png").write_bytes(picture())
    items["reference"] = ["real.png", "gone.png", *[""] * (len(items) - 2)]
    items.to_csv(tmp_path / "mine/items.csv", index=False)
    made = read_benchmark("mine", tmp_path)
    references = made.items.set_index("item_id")["attributes"].map(schema.reference_of)
    assert references[items["item_id"].iloc[0]] == "real.png"
    assert (references != "").sum() == 1
    assert kinds(made)["no_reference"] == 1


def settings(**more: object) -> nodes.IngestionSettings:
    return nodes.IngestionSettings.model_validate(
        yaml.safe_load((default_conf() / "base" / "parameters_ingestion.yml").read_text())["ingestion"] | more
    )


def test_a_third_of_the_ratings_on_another_scale_stops_at_the_gate() -> None:
    with pytest.raises(T2IEvalError, match=r"160 of 480 ratings.*rated from 0 to 100 here and from 1 to 5"):
        nodes.read("mixed_scale", str(CASES), settings())
    made = nodes.read("mixed_scale", str(CASES), settings(max_bad_ratings=0.5))
    assert len(made["ratings"]) == 320


@pytest.mark.parametrize("file", ["ratings.csv", "scores.csv", "preferences.csv"])
def test_a_file_of_which_nothing_can_be_used_stops(tmp_path: Path, file: str) -> None:
    shutil.copytree(CASES / "prefs_upper", tmp_path / "mine")
    path = tmp_path / "mine" / file
    column = "label" if file == "preferences.csv" else "score"
    pd.read_csv(path, dtype=str).assign(**{column: "?!"}).to_csv(path, index=False)
    with pytest.raises(T2IEvalError, match=r"cannot be used|160 of 160|320 of 320|480 of 480|120 of 120"):
        nodes.read("mine", str(tmp_path), settings())


def test_preferences_without_ratings_and_upper_case_labels() -> None:
    for name, ratings in (("prefs_only", 0), ("prefs_upper", 480)):
        made = nodes.read(name, str(CASES), settings())
        assert (len(made["preferences"]), len(made["ratings"])) == (120, ratings)


def test_ratings_without_a_stated_scale_are_on_the_range_of_the_ratings(tmp_path: Path) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    path = tmp_path / "mine/ratings.csv"
    table = pd.read_csv(path, dtype=str).drop(columns=["scale_min", "scale_max"])
    table.to_csv(path, index=False, sep=";")
    made = read_benchmark("mine", tmp_path)
    assert rho(made) == 0.807
    assert [(d.scale_min, d.scale_max) for d in made.dimensions] == [(1, 5)]
    table["score"] = table["score"].where(table.index % 17 > 0, "-1")
    table.to_csv(path, index=False)
    with pytest.raises(T2IEvalError, match="--missing-code -1"):
        read_benchmark("mine", tmp_path)
    (tmp_path / "mine/t2i_eval.yml").write_text("missing_codes: [-1]\n")
    assert 0.8 <= rho(read_benchmark("mine", tmp_path)) <= 0.81


def test_identifiers_that_do_not_join_stop_with_the_repair(tmp_path: Path) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    path = tmp_path / "mine/ratings.csv"
    table = pd.read_csv(path, dtype=str)
    table.assign(item_id="img/" + table["item_id"] + ".png").to_csv(path, index=False)
    with pytest.raises(T2IEvalError, match=r"'000_a'.*--id-rule stem"):
        read_benchmark("mine", tmp_path)
    (tmp_path / "mine/t2i_eval.yml").write_text("id_rules: [stem]\n")
    assert rho(read_benchmark("mine", tmp_path)) == 0.807


def test_seeds_are_no_duplicates_and_identical_pictures_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [f"{p}{g}{s},p{p},a cat {p},{g},{p}{g}{s}.png" for p in range(3) for g in "ab" for s in (0, 1)]
    (folder / "items.csv").write_text("item_id,prompt_id,prompt,generator,image\n" + "\n".join(rows))
    (folder / "ratings.csv").write_text("item_id,rater_id,dimension,score\n0a0,r,d,1\n1a0,r,d,5\n2b0,r,d,3\n")
    for i, row in enumerate(rows):
        (folder / row.split(",")[-1]).write_bytes(picture(f"#{min(i, 10):02x}0000"))
    found = kinds(read_benchmark("mine", tmp_path))
    assert found["several_images"] == 1
    assert "duplicate_item" not in found
    assert found["identical_image"] == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a red cube, on a table", "a red cube on a table"),
        ("a well-known face", "a well known face"),
        ("a café in Orléans", "a cafe in Orleans"),
        ("a cat’s paw", "a cat's paw"),
        ("a red\u200b cube", "a red cube"),
        ("the red cube", "a red cube"),
    ],
)
def test_near_duplicate_prompts_are_of_one_group(a: str, b: str) -> None:
    items = pd.DataFrame({"prompt_id": ["p", "q", "r"], "prompt": [a, b, "a blue cube"]})
    groups = prompt_groups(items)
    assert groups[0] == groups[1] != groups[2]
