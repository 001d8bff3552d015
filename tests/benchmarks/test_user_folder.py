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


@pytest.mark.parametrize("other", ["NA", "good", "50"])
def test_a_cell_that_is_no_rating_gives_way_to_a_rating_in_both_commands(tmp_path: Path, other: str) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    whole = pd.read_csv(tmp_path / "mine/ratings.csv", dtype=str)
    ratings = pd.concat([whole.head(5).assign(score=other), whole, whole.tail(5).assign(score=other)])
    ratings.to_csv(tmp_path / "mine/ratings.csv", index=False)
    made = read_benchmark("mine", tmp_path)
    key = ["item_id", "rater_id"]
    expected = whole.set_index(key)["score"].astype(float).sort_index()
    assert made.ratings.set_index(key)["score"].sort_index().equals(expected)
    found = kinds(made)
    assert not {"duplicate_row", "contradicting_rating"} & set(found)
    assert made.excluded.get("ratings", 0) == (0 if other == "NA" else 10)
    items = made.items.set_index("item_id")[["prompt_id", "generator"]]
    given = read_input(
        ratings.drop(columns=["scale_min", "scale_max"]).join(items, on="item_id"),
        tmp_path / "mine/scores.csv",
        scale=(1, 5),
    )
    assert given.ratings.set_index(key)["score"].sort_index().equals(expected)


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


def test_the_rules_for_spelling_hold_for_dimensions_raters_and_generators(tmp_path: Path) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    folder = tmp_path / "mine"
    tables = {name: pd.read_csv(folder / f"{name}.csv", dtype=str) for name in ("items", "ratings", "scores")}
    raters, generators = set(tables["ratings"]["rater_id"]), set(tables["items"]["generator"])
    half = tables["ratings"].index % 2 == 0
    rater = tables["ratings"]["rater_id"]
    for stated in (True, False):
        ratings = tables["ratings"].assign(dimension="Overall", rater_id=rater.where(half, rater.str.upper()))
        ratings.drop(columns=[] if stated else ["scale_min", "scale_max"]).to_csv(folder / "ratings.csv", index=False)
        tables["scores"].assign(dimension="overall").to_csv(folder / "scores.csv", index=False)
        upper = tables["items"]["generator"].str.upper()
        tables["items"].assign(generator=upper).to_csv(folder / "items.csv", index=False)
        (folder / "dimensions.csv").write_text("dimension,description\nOVERALL,how good it is\n")
        (folder / "t2i_eval.yml").unlink(missing_ok=True)
        with pytest.raises(
            T2IEvalError, match=r"dimensions of evaluator 'good'.*'Overall' in ratings.csv and 'overall' in scores.csv"
        ):
            read_benchmark("mine", tmp_path)
        (folder / "t2i_eval.yml").write_text("id_rules: [case]\n")
        made = read_benchmark("mine", tmp_path)
        assert [(dimension.name, dimension.description) for dimension in made.dimensions] == [
            ("overall", "how good it is")
        ]
        assert set(made.ratings["rater_id"]) == raters
        assert set(made.items["generator"]) == generators
        assert (rho(made), rho(made, "noisy")) == (0.807, 0.489)


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


FOLDER = {
    "items.csv": ["item_id,prompt_id,prompt,generator,image"]
    + [f"{g}{p},p{p},a cat number {p},{g}," for p in range(40) for g in "ab"],
    "preferences.csv": ["prompt_id,item_a,item_b,rater_id,label"] + [f"p{p},a{p},b{p},r,a" for p in range(40)],
    "elements.csv": ["prompt_id,element_id,text,skill,parents"] + [f"p{p},e,cat,animal," for p in range(40)],
    "element_ratings.csv": ["item_id,element_id,rater_id,label"] + [f"a{p},e,r,{p % 2}" for p in range(40)],
}


@pytest.mark.parametrize(
    ("file", "line", "quoted"),
    [
        ("items.csv", "c,p1,a cat,,", ("items.csv:82", "generator is empty (item 'c')")),
        ("items.csv", "a7,p7,a dog,a,", ("items.csv:82", "'a7'")),
        ("preferences.csv", "p1,a1,b1,s,what", ("line 42", "'label' is 'what'")),
        ("preferences.csv", "p1,a1,b99,s,a", ("line 42", "'item_b' is 'b99'")),
        ("preferences.csv", "p1,a1,b2,s,a", ("line 42", "two prompts", "'item_b' is 'b2'")),
        ("preferences.csv", "p1,a1,a1,s,a", ("line 42", "with itself", "'item_a' is 'a1'")),
        ("elements.csv", "p99,f,cat,animal,", ("elements.csv:42", "prompt_id 'p99' is not in items.csv")),
        ("elements.csv", "p1,f,,animal,", ("elements.csv:42", "'text' is empty")),
        ("elements.csv", "p1,f,tail,animal,g", ("elements.csv:42", "names 'g', which is no element of its prompt")),
        ("element_ratings.csv", "b1,e,r,maybe", ("element_ratings.csv:42", "label 'maybe'")),
        ("element_ratings.csv", "b1,e,r,2", ("element_ratings.csv:42", "label '2'")),
        ("element_ratings.csv", "b99,e,r,1", ("element_ratings.csv:42", "'b99' is not in items.csv")),
    ],
)
def test_a_wrong_cell_is_quoted_with_its_line(tmp_path: Path, file: str, line: str, quoted: tuple[str, ...]) -> None:
    (tmp_path / "mine").mkdir()
    for name, lines in FOLDER.items():
        (tmp_path / "mine" / name).write_text("\n".join([*lines, line] if name == file else lines) + "\n")
    nodes.read("mine", str(tmp_path), settings())  # within the limit
    issues = read_benchmark("mine", tmp_path).issues
    said = (issues["where"].astype(str) + ": " + issues["detail"]).tolist()
    assert [text for text in said if all(part in text for part in quoted)], said


@pytest.mark.parametrize(
    ("file", "cells", "sentence"),
    [
        ("element_ratings.csv", ("b{},e,r,maybe", 9), r"9 of 49 labels of elements.*line 42: 'label' is 'maybe'"),
        ("preferences.csv", ("p{0},a{0},b{0},s,what", 9), r"9 of 49 preferences.*line 42: 'label' is 'what'"),
        ("elements.csv", ("q{},e,cat,animal,", 40), ""),
    ],
)
def test_above_the_limit_a_wrong_cell_stops(tmp_path: Path, file: str, cells: tuple[str, int], sentence: str) -> None:
    (tmp_path / "mine").mkdir()
    rows = [cells[0].format(p) for p in range(cells[1])]
    for name, lines in FOLDER.items():
        kept = lines[:1] if not sentence else lines
        (tmp_path / "mine" / name).write_text("\n".join([*kept, *rows] if name == file else lines) + "\n")
    with pytest.raises(T2IEvalError, match=sentence or r"None of the 40 prompts of elements joins.*'q0'"):
        nodes.read("mine", str(tmp_path), settings())


def test_preferences_without_a_label_or_with_an_odd_strength_are_no_bad_rows(tmp_path: Path) -> None:
    shutil.copytree(CASES / "prefs_only", tmp_path / "mine")
    path = tmp_path / "mine/preferences.csv"
    table = pd.read_csv(path, dtype=str).assign(strength="1")
    table.loc[::8, "strength"] = "weak"
    table.loc[1::8, "label"] = ""
    table.to_csv(path, index=False)
    made = nodes.read("mine", str(tmp_path), settings())
    assert len(made["preferences"]) == 105
    assert read_benchmark("mine", tmp_path).excluded == {}
    issues = read_benchmark("mine", tmp_path).issues.set_index("kind")[["where", "action", "count"]]
    assert issues.loc["missing_preferences"].tolist() == ["preferences.csv:3", "left out", 15]
    assert issues.loc["unreadable_strengths"].tolist() == ["preferences.csv:2", "kept without strength", 15]


@pytest.mark.parametrize(
    ("file", "column", "cell", "place"),
    [
        ("preferences.csv", "item_b", "nobody", "preferences.csv:12: 1 preferences of unknown items;"),
        ("preferences.csv", "label", "what", "preferences.csv:12: 1 unreadable preferences;"),
        ("scores.csv", "score", "oops", "scores.csv:12: "),
        ("scores.csv", "item_id", "nobody", "scores.csv:12: item 'nobody' is not in items.csv;"),
        ("ratings.csv", "score", "oops", "ratings.csv:12: 1 unreadable ratings;"),
        ("ratings.csv", "item_id", "nobody", "ratings.csv:12: item 'nobody' is not in items.csv;"),
    ],
)
def test_the_gate_quotes_a_row_of_the_table_that_it_refuses(
    tmp_path: Path, file: str, column: str, cell: str, place: str
) -> None:
    shutil.copytree(CASES / "prefs_upper", tmp_path / "mine")
    folder = tmp_path / "mine"
    with (folder / "items.csv").open("a") as items:
        items.write("without_prompt,p,,a,\n")  # excluded, too, and before all others
    path = folder / "ratings.csv"
    pd.read_csv(path, dtype=str).drop(columns=["scale_min", "scale_max"]).to_csv(path, index=False)
    table = pd.read_csv(folder / file, dtype=str)
    table.loc[10, column] = cell
    table.to_csv(folder / file, index=False)
    with pytest.raises(T2IEvalError, match=rf"^1 of \d+ {file[:-4]} .*") as error:
        nodes.read("mine", str(tmp_path), settings(max_bad_ratings=0.0005))
    assert f"the first at {place}" in str(error.value)


def test_a_mapping_renames_columns_and_spreads_wide_ones_as_the_other_command_does(tmp_path: Path) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    ratings = pd.read_csv(tmp_path / "mine/ratings.csv", dtype=str)
    scores = pd.read_csv(tmp_path / "mine/scores.csv", dtype=str)
    wide = ratings.pivot(index="item_id", columns="rater_id", values="score")
    wide.rename_axis("picture").to_csv(tmp_path / "mine/ratings.csv")
    scores.rename(columns={"evaluator": "metric"})[["item_id", "metric", "score"]].to_csv(
        tmp_path / "mine/scores.csv", index=False
    )
    (tmp_path / "mine/t2i_eval.yml").write_text(
        f"ratings:\n  columns: {{item_id: picture, dimension: null}}\n  wide: [{', '.join(wide.columns)}]\n"
        "scores:\n  columns: {evaluator: metric}\n"
    )
    made = read_benchmark("mine", tmp_path)
    assert (rho(made), rho(made, "noisy")) == (0.807, 0.489)
    assert sorted(made.ratings["rater_id"].unique()) == sorted(wide.columns)


@pytest.mark.parametrize(
    "setting", ["scale: [0, 9]", "repeated: mean", "ratings_lower_is_better: true", "rater_scales: {r2: [5, 1]}"]
)
def test_a_setting_that_stated_scales_leave_without_effect_is_refused(tmp_path: Path, setting: str) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    (tmp_path / "mine/t2i_eval.yml").write_text(setting + "\n")
    with pytest.raises(T2IEvalError, match=f"'{setting.split(':')[0]}' of t2i_eval.yml cannot be used"):
        read_benchmark("mine", tmp_path)


def test_a_direction_that_is_not_said_plainly_stops(tmp_path: Path) -> None:
    shutil.copytree(CASES / "plain", tmp_path / "mine")
    path = tmp_path / "mine/scores.csv"
    table = pd.read_csv(path, dtype=str)
    for cells, sentence in (
        (["maybe"] * len(table), r"line 2: 'higher_is_better' is 'maybe'"),
        (["true", "false"] * (len(table) // 2), "true in some rows of evaluator 'good'"),
    ):
        table.sort_values("evaluator").assign(higher_is_better=cells).to_csv(path, index=False)
        with pytest.raises(T2IEvalError, match=sentence):
            read_benchmark("mine", tmp_path)
