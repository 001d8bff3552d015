"""Files as people have them: the right figure, or a stop that names the thing and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

from t2i_eval_kedro.agreement.inputs import AgreementInput, read_input
from t2i_eval_kedro.cli.agreement import agreement
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables import ReadingSettings

CASES = Path(__file__).parents[1] / "data" / "cases" / "numbers"


def read(case: str, **settings: object) -> AgreementInput:
    given = ReadingSettings.model_validate(settings)
    return read_input(CASES / case / "ratings.csv", CASES / case / "scores.csv", settings=given)


def rho(given: AgreementInput, judge: str) -> float:
    """Spearman of a judge with the mean rating, by scipy."""
    kept = given.ratings[given.ratings["score"].notna() & ~given.ratings["off_scale"]]
    gold = kept.groupby("item_id")["score"].mean().round(9)
    rows = given.scores[given.scores["judge"] == judge].set_index("item_id")
    sign = 1 if rows["higher_is_better"].all() else -1
    both = pd.concat([gold, sign * rows["score"]], axis=1, join="inner").dropna()
    return float(spearmanr(both.iloc[:, 0], both.iloc[:, 1]).statistic)


def stops(case: str, *words: str, **settings: object) -> None:
    with pytest.raises(T2IEvalError) as caught:
        read(case, **settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def said(given: AgreementInput, *words: str) -> bool:
    return any(all(word in note for word in words) for note in given.notes)


def test_base() -> None:
    given = read("base")
    assert (round(rho(given, "good"), 3), round(rho(given, "noisy"), 3)) == (0.807, 0.489)
    assert given.notes[0].startswith("Scale of 'overall': 1 to 5")  # the scale is shown first
    assert len(given.notes) == 1
    assert not any(given.report.values())


def test_raters_on_two_scales_stop_and_are_mapped_with_a_flag() -> None:
    stops("mixed-scale", "'r2' rated 0 to 100", "--ratings-scale 'r2=0:100'")
    given = read("mixed-scale", scale=(1, 5), rater_scales={"r2": (0, 100)})
    assert rho(given, "good") == pytest.approx(0.807, abs=0.02)
    assert said(given, "'r2'", "mapped from 0 to 100 onto 1 to 5")


def test_a_judge_whose_low_scores_are_good_is_hinted_at() -> None:
    given = read("lower-better")
    assert round(rho(given, "good"), 3) == -0.807
    assert said(given, "'good'", "--lower-is-better 'good'")
    again = read("lower-better", lower_is_better=("good",))
    assert round(rho(again, "good"), 3) == 0.807
    assert not said(again, "--lower-is-better")


def test_identifiers_with_and_without_leading_zeros_stop_and_join_with_a_rule() -> None:
    stops("leading-zeros", "'00000'", "'0'", "--id-rule zeros")
    assert round(rho(read("leading-zeros", id_rules=("zeros",)), "good"), 3) == 0.807


def test_decimal_comma_and_semicolon_are_read_and_said() -> None:
    given = read("decimal-comma-semicolon")
    assert (round(rho(given, "good"), 3), round(rho(given, "noisy"), 3)) == (0.807, 0.489)
    assert said(given, "separated by semicolons")
    assert said(given, "160 cells", "decimal comma")


def test_a_constant_rater_is_named() -> None:
    assert said(read("constant-rater"), "Rater 'r2' gave 5 to all 160 items")


def test_a_reversed_rater_is_named_and_turned_with_a_flag() -> None:
    given = read("reversed-rater")
    assert said(given, "Rater 'r2'", "-0.60", "r2=5:1")
    assert round(rho(read("reversed-rater", scale=(1, 5), rater_scales={"r2": (5, 1)}), "good"), 3) == 0.807


def test_a_partial_judge_has_its_coverage() -> None:
    given = read("partial-judge")
    assert (given.scores["judge"] == "noisy").sum() == 80
    assert round(rho(given, "noisy"), 3) == 0.489


def test_minus_one_stops_and_is_missing_with_a_flag() -> None:
    stops("minus-one-missing", "29 ratings", "-1", "--missing-code -1", "--scale -1:5")
    given = read("minus-one-missing", missing_codes=(-1,))
    assert 0.80 <= rho(given, "good") <= 0.81
    assert given.report["missing_ratings"] == 29
    assert read("minus-one-missing", scale=(-1, 5)).report["missing_ratings"] == 0


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("leading-zeros", 1, ("--id-rule zeros",)),
        ("rmse", 0, ("Scale of 'overall': 0 to 100",)),
    ],
)
def test_the_command_ends_as_it_should(case: str, code: int, words: tuple[str, ...], tmp_path: Path) -> None:
    files = ["--ratings", CASES / case / "ratings.csv", "--scores", CASES / case / "scores.csv", "--out", tmp_path]
    done = CliRunner().invoke(agreement, list(map(str, files)))
    assert done.exit_code == code, done.output
    assert all(word in done.output for word in words)
    if code == 0:
        cells = json.loads((tmp_path / "agreement.json").read_text())["evaluators"]["good"]["overall"]
        assert cells["rmse"]["value"] is None
        assert "not declared" in cells["rmse"]["reason"]
        assert round(cells["spearman"]["value"], 3) == 0.807
