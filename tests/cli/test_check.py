"""`kedro check`: what it understands, what it writes, and that the other commands take it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from t2i_eval_kedro.agreement.inputs import read_input
from t2i_eval_kedro.cli.check import check
from t2i_eval_kedro.cli.standalone import main
from t2i_eval_kedro.tables.settings import read_mapping

CASES = Path(__file__).parents[1] / "data" / "cases"


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(check, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done.output


def test_two_tables_are_understood_and_mapped(tmp_path: Path) -> None:
    shutil.copytree(CASES / "numbers" / "base", tmp_path / "base")
    out = run(tmp_path / "base")
    for line in (
        "Scale of 'overall': 1 to 5",
        "Items: 160, prompts: 40, generators: 4",
        "Rater 'r2' on 'overall': 160 ratings, 1 to 5",
        "Evaluator 'noisy': 160 of 160 items joined",
    ):
        assert line in out
    command = out.split("`")[1].split()  # the door that works in any folder, as printed
    assert command[0] == "t2i-eval"
    measured = CliRunner().invoke(main, command[1:])
    assert "0.807" in measured.output, measured.output
    given = read_input(None, None, settings=read_mapping(tmp_path / "base" / "t2i_eval.yml"))
    assert (len(given.ratings), len(given.scores)) == (480, 320)
    (tmp_path / "base" / "t2i_eval.yml").write_text("scale: [1, 5]\n")
    run(tmp_path / "base")
    assert (tmp_path / "base" / "t2i_eval.yml").read_text() == "scale: [1, 5]\n"  # a person's file stays


def test_other_names_wide_raters_no_generator_and_wide_judges(tmp_path: Path) -> None:
    ratings = pd.read_csv(CASES / "numbers/base/ratings.csv", dtype=str)
    scores = pd.read_csv(CASES / "numbers/base/scores.csv", dtype=str)
    wide = ratings.pivot(index=["item_id", "prompt_id"], columns="rater_id", values="score").reset_index()
    wide.set_axis(["Image", "Caption", "ann", "bob", "cas"], axis=1).to_csv(
        tmp_path / "people.csv", index=False, sep=";"
    )
    scores.pivot(index="item_id", columns="evaluator", values="score").rename_axis("file").to_csv(tmp_path / "m.csv")
    out = run("--ratings", tmp_path / "people.csv", "--scores", tmp_path / "m.csv", "--out", tmp_path / "map.yml")
    assert "item_id: column 'Image'" in out
    assert "one column per rater: ann, bob, cas" in out
    assert "generator: none" in out
    assert "one column per evaluator: good, noisy" in out
    given = read_input(None, None, settings=read_mapping(tmp_path / "map.yml"))
    assert sorted(given.ratings["rater_id"].unique()) == ["ann", "bob", "cas"]
    means = given.ratings.groupby("item_id")["score"].mean()
    assert means.equals(ratings.astype({"score": float}).groupby("item_id")["score"].mean())
    assert sorted(given.scores["judge"].unique()) == ["good", "noisy"]


def test_what_stops_a_measurement_stops_the_check_after_what_was_understood(tmp_path: Path) -> None:
    case = CASES / "numbers" / "mixed-scale"
    arguments = ("--ratings", case / "ratings.csv", "--scores", case / "scores.csv", "--out", tmp_path / "map.yml")
    out = run(*arguments, code=1)
    assert "score: column 'score'" in out
    assert "--ratings-scale 'r2=0:100'" in out
    assert "measures the tables so" not in out
    assert "mapped from 0 to 100" in run(*arguments, "--ratings-scale", "r2=0:100")
    settings = read_mapping(tmp_path / "map.yml")
    assert settings.rater_scales == {"r2": (0, 100)}


def test_a_benchmark_that_ingestion_would_refuse_ends_with_status_1() -> None:
    out = run(CASES / "benchmarks" / "mixed_scale", code=1)
    assert "Scale of 'overall': 1 to 5" in out
    assert "160 of 480 ratings of benchmark 'mixed_scale' are off the scale" in out
    assert "ratings.csv:4" in out.split("Error:")[1]
    run(CASES / "benchmarks" / "mixed_scale", "--max-unreadable", "0.5")


def test_a_benchmarks_folder(tmp_path: Path) -> None:
    out = run(CASES / "benchmarks" / "text_trailing")
    assert "Items: 160" in out
    assert "prompt_spelling" not in out  # blanks are taken off before
    assert "blanks at their ends" in out


def test_every_rater_has_a_line_up_to_fifty_and_seeds_are_named(tmp_path: Path) -> None:
    rows = [
        {"item_id": f"p{p}g{g}s{s}", "prompt_id": f"p{p}", "generator": f"g{g}", "rater_id": f"r{r}", "score": 1 + (p + g + s + r) % 5}
        for p in range(8) for g in range(2) for s in range(2) for r in range(51)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "many.csv", index=False)
    table[table["rater_id"] != "r50"].to_csv(tmp_path / "fifty.csv", index=False)
    items = table[["item_id"]].drop_duplicates()
    items.assign(evaluator="e", score=range(len(items))).to_csv(tmp_path / "scores.csv", index=False)
    scores = ("--scores", tmp_path / "scores.csv")
    many, fifty = (
        run("--ratings", tmp_path / f"{name}.csv", *scores, "--out", tmp_path / f"{name}.yml")
        for name in ("many", "fifty")
    )
    assert "Images per prompt and generator: 2 to 2" in many
    assert ("Raters: 51" in many, "Rater 'r7' on" in many) == (True, False)
    assert ("Raters: 50" in fifty, "Rater 'r7' on" in fifty) == (False, True)
    one = table.drop_duplicates(["prompt_id", "generator", "rater_id"])
    one.to_csv(tmp_path / "one.csv", index=False)
    assert "Images per prompt" not in run("--ratings", tmp_path / "one.csv", *scores, "--out", tmp_path / "one.yml")
