"""Cells, rows, encodings, raters and pairs: what is read, what is counted, what stops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from t2i_eval_kedro.agreement.inputs import AgreementInput, read_input
from t2i_eval_kedro.agreement.label_agreement import position_bias, preference_accuracy
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables import ReadingSettings, read_text_table
from t2i_eval_kedro.tables.identifiers import suggest
from t2i_eval_kedro.tables.settings import TableMapping, read_mapping
from t2i_eval_kedro.tables.values import parse_numbers


@pytest.mark.parametrize(
    ("cells", "values", "note"),
    [
        (["1", "2.5", "-3e2"], [1, 2.5, -300], None),
        (["1,5", "2", "-0,25"], [1.5, 2, -0.25], "decimal comma"),
        (["1.234,5", "2,25"], [1234.5, 2.25], "decimal comma"),
        (["1,234.5", "12.5"], [1234.5, 12.5], "commas between thousands"),
        (["1,234,567", "12"], [1234567, 12], "commas between thousands"),
        (["85%", "7.5 %"], [85, 7.5], "per cent"),
        (["85,5%", "7%"], [85.5, 7], "per cent"),
    ],
)
def test_conventions_of_a_whole_column_are_read_and_said(
    cells: list[str], values: list[float], note: str | None
) -> None:
    found = parse_numbers(pd.Series(cells, dtype="str"), "score")
    assert found.values.tolist() == values
    assert not found.unreadable.any()
    assert (note is None and not found.notes) or note in found.notes[0]


@pytest.mark.parametrize(
    "cells",
    [
        ["1,234", "2,345"],  # thousands or decimals
        ["1,5", "2.5"],  # two conventions
        ["85%", "0.85"],  # two scales
        ["1_0"],
        ["٣"],
        ["inf"],
        ["0x10"],
        ["1 2"],
        ["4/5"],
        ["four"],
    ],
)
def test_what_may_mean_two_things_is_unreadable(cells: list[str]) -> None:
    assert parse_numbers(pd.Series(cells, dtype="str")).unreadable.any()


def test_a_given_decimal_sign_settles_it() -> None:
    cells = pd.Series(["1,234", "2,345"], dtype="str")
    assert parse_numbers(cells, decimal=",").values.tolist() == [1.234, 2.345]
    assert parse_numbers(cells, decimal=".").values.tolist() == [1234, 2345]


def test_words_for_a_missing_value_are_missing_and_not_unreadable() -> None:
    found = parse_numbers(pd.Series(["", "NA", "N/A", "nan", "null", "None", "3"], dtype="str"))
    assert (found.n_missing, found.unreadable.any(), np.nansum(found.values)) == (6, False, 3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encoding_and_separator_are_found(tmp_path: Path, encoding: str, separator: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f"item_id{separator}score\nété{separator}1\n".encode(encoding))
    table = read_text_table(path, "scores", ("item_id", "score"))
    assert table.frame.to_dict("list") == {"item_id": ["été"], "score": ["1"]}
    assert any("utf-16" in note or "Windows-1252" in note for note in table.notes) is (encoding in ("utf-16", "cp1252"))
    assert any("separated" in note for note in table.notes) is (separator != ",")


def test_rows_of_another_length_stop_or_are_counted_and_never_move_a_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("item_id,score\n" + "a,1,9\n" * 3 + "b,2\n" * 3)
    with pytest.raises(T2IEvalError, match=r"3 of 6 rows .* the first is row 2 with 3"):
        read_text_table(path, "scores", ("item_id", "score"))
    path.write_text("item_id,score\n" + "a,1,9\n" + "b,2\n" * 30)
    table = read_text_table(path, "scores", ("item_id", "score"))
    assert set(table.frame["item_id"]) == {"b"}
    assert "1 of 31 rows" in table.notes[0]
    assert table.place(0).endswith("line 3")


def test_files_put_together_with_their_headers_are_read_without_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item_id,score\na,1\nitem_id,score\nb,2\n")
    table = read_text_table(tmp_path / "a.csv", "scores", ("item_id", "score"))
    assert table.frame.to_numpy().tolist() == [["a", "1"], ["b", "2"]]
    assert table.lines.tolist() == [2, 4]
    assert any("1 rows repeat the header, the first in line 3" in note for note in table.notes)


@pytest.mark.parametrize(
    "text", ["scale: [5, 1]", "scale: [.nan, 5]", "rater_scales: {r: [.nan, 5]}", "rater_scales: {r: [3, 3]}"]
)
def test_a_mapping_with_a_scale_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t2i_eval.yml").write_text(text)
    with pytest.raises(T2IEvalError, match=r"not valid.*scale"):
        read_mapping(tmp_path / "t2i_eval.yml")


def test_a_quoted_cell_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('sep=;\nitem_id;"score"\n"a;b\nc";1\n')
    assert read_text_table(path, "scores", ("item_id", "score")).frame["item_id"].tolist() == ["a;b\nc"]


@pytest.mark.parametrize("start", ["", "\n", "\r\n\r\n", "sep=,\n\n"])
def test_blank_lines_before_the_header_leave_every_cell_as_it_is_written(tmp_path: Path, start: str) -> None:
    path = tmp_path / "t.csv"
    cells = ["00000", "1.50", "12345678901234567890"]
    path.write_bytes((start + "item_id,score\n" + "".join(f"{cell},1.0\n" for cell in cells)).encode())
    table = read_text_table(path, "scores", ("item_id", "score"))
    assert table.frame.to_dict("list") == {"item_id": cells, "score": ["1.0"] * 3}
    header = start.count("\n") + 1
    assert table.lines.tolist() == [header + 1, header + 2, header + 3]
    path.write_bytes((start + "item_id,score\na,1,9\n" + "b,2\n" * 30).encode())
    table = read_text_table(path, "scores", ("item_id", "score"))
    assert any(f"the first is row {header + 1} with 3" in note for note in table.notes)
    assert table.lines[0] == header + 2


@pytest.mark.parametrize(
    ("left", "right", "rules"),
    [
        (["00007", "00012"], ["7", "12"], ("zeros",)),
        (["7", "12"], ["7.0", "12.0"], ("number",)),
        (["a/x.png", "a/y.png"], ["x", "y"], ("stem",)),
        (["IMG_1", "IMG_2"], ["img_1", "img_2"], ("case",)),
        (["x\u200b1", "x\u200b2"], ["x1", "x2"], ("unicode",)),
        (["out/IMG_1.PNG"], ["img_1"], ("stem", "case")),
        (["a", "b"], ["c", "d"], ()),
    ],
)
def test_the_repair_that_joins_is_found(left: list[str], right: list[str], rules: tuple[str, ...]) -> None:
    assert suggest(left, right) == rules


def frame(n: int = 12, raters: str = "rst", seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings of ``n`` prompts x 4 generators on 1 to 5, and a judge who knows the truth."""
    rng = np.random.default_rng(seed)
    ratings, scores = [], []
    for p in range(n):
        for g in "abcd":
            truth = rng.normal(3, 1)
            scores.append((f"{p}{g}", "judge", truth))
            for rater in raters:
                value = int(np.clip(round(truth + rng.normal(0, 0.7)), 1, 5))
                ratings.append((f"{p}{g}", f"p{p}", g, rater, "overall", value))
    columns = ["item_id", "prompt_id", "generator", "rater_id", "dimension", "score"]
    return pd.DataFrame(ratings, columns=columns), pd.DataFrame(scores, columns=["item_id", "evaluator", "score"])


def take(ratings: pd.DataFrame, scores: pd.DataFrame, **settings: object) -> AgreementInput:
    return read_input(ratings, scores, settings=ReadingSettings.model_validate(settings))


def test_a_lone_outlier_stops_and_is_counted_with_a_scale() -> None:
    ratings, scores = frame()
    ratings.loc[5, "score"] = 50
    with pytest.raises(T2IEvalError, match=r"1 of 144 ratings .*\(50\).*--scale 1:5"):
        take(ratings, scores)
    assert take(ratings, scores, scale=(1, 5)).report["off_scale_ratings"] == 1


def test_ranks_stop_until_their_direction_is_said() -> None:
    ratings, scores = frame()
    ratings["score"] = ratings.groupby(["prompt_id", "rater_id"]).cumcount() + 1
    with pytest.raises(T2IEvalError, match="ranks 1 to 4 within each prompt"):
        take(ratings, scores)
    turned = take(ratings, scores, ratings_lower_is_better=True).ratings
    assert (
        turned["score"].tolist() == (5 - take(ratings, scores, ratings_lower_is_better=False).ratings["score"]).tolist()
    )


def test_raters_without_a_name_are_slots_and_no_item_is_lost() -> None:
    ratings, scores = frame()
    whole = take(ratings, scores)
    given = take(ratings.assign(rater_id=""), scores)
    assert given.unidentified_raters is True
    assert given.ratings.groupby("item_id")["score"].mean().equals(whole.ratings.groupby("item_id")["score"].mean())
    assert any("unidentified" in note for note in given.notes)


def test_one_identifier_for_several_people_stops_and_is_read_with_a_policy() -> None:
    ratings, scores = frame()
    whole = take(ratings, scores).ratings.groupby("item_id")["score"].mean()
    same = ratings.assign(rater_id="worker")
    with pytest.raises(T2IEvalError, match=r"contradict each other.*--repeated"):
        take(same, scores)
    people = take(same, scores, repeated="people")
    assert people.ratings.groupby("item_id")["score"].mean().equals(whole)
    assert people.unidentified_raters is True
    first = take(same, scores, repeated="first").ratings.set_index("item_id")["score"]
    assert first.equals(ratings[ratings["rater_id"] == "r"].set_index("item_id")["score"].astype(float)[first.index])


def test_few_contradictions_are_excluded_and_counted() -> None:
    ratings, scores = frame()
    more = pd.concat([ratings, ratings.iloc[[0]].assign(score=ratings["score"].iloc[0] % 5 + 1)])
    given = take(more, scores)
    assert given.report["contradicting_ratings"] == 1
    assert given.ratings["score"].isna().sum() == 1


@pytest.mark.parametrize("repeated", ["exclude", "mean", "first", "last"])
@pytest.mark.parametrize("other", [50, None, "good"])
def test_a_value_that_is_off_the_scale_or_is_none_gives_way_to_a_valid_one(repeated: str, other: object) -> None:
    ratings, scores = frame()
    whole = take(ratings, scores, scale=(1, 5))
    for tables in ([ratings.head(3).assign(score=other), ratings], [ratings, ratings.head(3).assign(score=other)]):
        given = take(pd.concat(tables), scores, scale=(1, 5), repeated=repeated)
        key = ["item_id", "rater_id"]
        columns = ["score", "off_scale"]
        assert (
            given.ratings.set_index(key)[columns]
            .sort_index()
            .equals(whole.ratings.set_index(key)[columns].sort_index())
        )
        assert given.report["contradicting_ratings"] == 0
    alone = take(ratings.assign(score=[50, *ratings["score"].iloc[1:]]), scores, scale=(1, 5), repeated=repeated)
    assert alone.ratings.loc[0, ["score", "off_scale"]].isna().tolist() == [True, False]
    assert alone.ratings["off_scale"].sum() == 1


def test_an_empty_cell_does_not_contradict_a_score() -> None:
    ratings, scores = frame()
    for policy in ("exclude", "first", "mean"):
        given = take(ratings, pd.concat([scores.assign(score=None), scores]), repeated=policy)
        assert given.scores.set_index("item_id")["score"].equals(scores.set_index("item_id")["score"])
        assert given.report["contradicting_scores"] == 0


def test_more_than_a_twentieth_of_unreadable_cells_stops_and_quotes_the_first() -> None:
    ratings, scores = frame()
    ratings = ratings.astype({"score": object})
    ratings.loc[:7, "score"] = "good"
    with pytest.raises(T2IEvalError, match=r"8 of 144 ratings cannot be used.*line 1: 'score' is 'good'"):
        take(ratings, scores)
    assert take(ratings, scores, max_unreadable=0.1).report["unreadable_ratings"] == 8
    ratings.loc[:7, "score"] = ""  # absent, not unreadable
    assert take(ratings, scores).report["missing_ratings"] == 8


def test_a_few_unreadable_cells_are_left_out_counted_and_the_first_is_quoted() -> None:
    ratings, scores = frame()
    ratings, scores = (table.astype({"score": object}) for table in (ratings, scores))
    ratings.loc[[3, 7], "score"] = "good", 7
    scores.loc[5, "score"] = "#REF!"
    given = take(ratings, scores, scale=(1, 5))
    for sentence in (
        "1 of the ratings cannot be read, the first in line 4: 'score' is 'good'; left out.",
        "1 of the ratings are off the scale, the first in line 8: 'score' is '7'; left out.",
        "cannot be read, the first in line 6: 'score' is '#REF!'; left out.",
    ):
        assert any(note.endswith(sentence) for note in given.notes), given.notes


def test_a_judge_of_whom_half_is_unreadable_stops_beside_many_good_ones() -> None:
    ratings, scores = frame()
    more = [scores.assign(evaluator=f"good{i}") for i in range(20)]
    bad = scores.assign(evaluator="bad").astype({"score": object})
    bad.iloc[:24, 2] = "-/-"
    with pytest.raises(T2IEvalError, match="24 of 48 scores of 'bad'"):
        take(ratings, pd.concat([*more, bad]))


def test_a_judge_whose_low_scores_are_good_by_its_own_column_is_turned_and_named() -> None:
    ratings, scores = frame()
    judge = scores["evaluator"].iloc[0]
    given = take(ratings, scores.assign(higher_is_better=(scores["evaluator"] != judge).map(str)))
    assert set(given.scores.loc[given.scores["judge"] == judge, "higher_is_better"]) == {False}
    assert any(f"low scores of '{judge}' mean good images (column 'higher_is_better')" in note for note in given.notes)


def test_runs_are_averaged_and_said() -> None:
    ratings, scores = frame()
    runs = pd.concat([scores.assign(run=run, score=scores["score"] + run) for run in (0, 1, 2)])
    given = take(ratings, runs)
    assert any("3 runs" in note for note in given.notes)
    assert sorted(given.scores["run"].unique()) == [0, 1, 2]
    with pytest.raises(T2IEvalError, match=r"contradict each other.*column 'run'"):
        take(ratings, runs.drop(columns="run"))


def test_ratings_without_a_dimension_are_no_dimension_of_their_own() -> None:
    ratings, scores = frame()
    few = ratings.copy()
    few.loc[few.index[3:6], "dimension"] = ""
    given = take(few, scores)
    assert given.ratings["dimension"].unique().tolist() == ["overall"]
    assert any("3 of 144 ratings name no dimension; they are excluded" in note for note in given.notes)
    many = ratings.copy()
    many.loc[many.index[:30], "dimension"] = ""
    with pytest.raises(T2IEvalError, match=r"30 of 144 ratings cannot be used.*'dimension' is ''"):
        take(many, scores)
    assert take(ratings.assign(dimension=""), scores).ratings["dimension"].unique().tolist() == ["overall"]
    with pytest.raises(T2IEvalError, match="without item_id, prompt_id or generator"):
        take(ratings.assign(generator=["", *ratings["generator"].iloc[1:]]), scores)


def test_a_judges_failures_recorded_as_minus_one_are_named_and_are_no_scores_with_a_flag() -> None:
    ratings, scores = frame()
    failed = scores.copy()
    failed["score"] = [str(abs(float(text))) for text in failed["score"]]
    failed.loc[failed.index[::6], "score"] = "-1"
    n = int((failed["score"] == "-1").sum())
    given = read_input(ratings, failed)
    assert any(f"{n} scores of" in note and "--missing-code -1" in note for note in given.notes)
    assert given.scores["score"].notna().all()
    again = read_input(ratings, failed, settings=ReadingSettings(missing_codes=(-1,)))
    assert again.scores["score"].isna().sum() == again.report["missing_scores"] == n
    assert not any("--missing-code" in note for note in again.notes)


def test_dimensions_that_do_not_join_stop() -> None:
    ratings, scores = frame()
    with pytest.raises(T2IEvalError, match=r"'overall'.*'Overall'.*--id-rule case"):
        take(ratings, scores.assign(dimension="Overall"))
    assert set(take(ratings, scores.assign(dimension="Overall"), id_rules=("case",)).scores["dimension"]) == {"overall"}


def test_a_single_dimension_that_does_not_join_is_no_plural() -> None:
    ratings, scores = frame()
    with pytest.raises(T2IEvalError, match="There is one of the dimensions of evaluator 'good', and it does not join"):
        take(ratings.assign(dimension="Alignment"), scores.assign(evaluator="good", dimension="alignment"))


def test_invisible_characters_in_dimensions_of_scores_are_repaired_as_those_of_ratings() -> None:
    ratings, scores = frame()
    given = take(
        ratings.assign(dimension="over\u200ball"), scores.assign(dimension="over\u200ball"), id_rules=("unicode",)
    )
    assert set(given.scores["dimension"]) == set(given.ratings["dimension"]) == {"overall"}


def test_a_rule_that_makes_two_identifiers_one_stops() -> None:
    ratings, scores = frame()
    ratings["item_id"] = ratings["item_id"].str.replace("1a", "a/1.png").str.replace("2a", "b/1.png")
    with pytest.raises(T2IEvalError, match="the same identifier '1'"):
        take(ratings, scores, id_rules=("stem",))


def pairs(labels: list[str], **columns: object) -> pd.DataFrame:
    rows = [(f"p{i}", f"{i}a", f"{i}b", "r", label) for i, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=["prompt_id", "item_a", "item_b", "rater_id", "label"]).assign(**columns)


@pytest.mark.parametrize(
    "labels", [["A", "B", "Tie"], ["left", "Right", "both"], ["first", "second", "equal"], ["a", "b", "tie"]]
)
def test_labels_of_preferences(labels: list[str]) -> None:
    ratings, scores = frame()
    given = read_input(ratings, scores, pairs(labels))
    assert given.preferences is not None
    assert given.preferences["label"].tolist() == ["a", "b", "tie"]


def test_numeric_labels_stop_until_they_are_said() -> None:
    ratings, scores = frame()
    with pytest.raises(T2IEvalError, match=r"do not say which image they prefer.*--label"):
        read_input(ratings, scores, pairs(["0", "0.5", "1"]))
    settings = ReadingSettings(labels={"1": "a", "0": "b", "0.5": "tie"})
    given = read_input(ratings, scores, pairs(["0", "0.5", "1"]), settings=settings)
    assert given.preferences is not None
    assert given.preferences["label"].tolist() == ["b", "tie", "a"]


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", ""])
def test_a_label_that_is_a_word_for_a_missing_value_is_missing(word: str) -> None:
    ratings, scores = frame()
    given = read_input(ratings, scores, pairs(["a", "b", "tie", word]))
    assert given.preferences is not None
    assert given.preferences["label"].tolist() == ["a", "b", "tie"]
    assert given.report["missing_preferences"] == 1


def test_self_pairs_pairs_across_prompts_and_both_orders() -> None:
    ratings, scores = frame()
    rows = pairs(["a"] * 12)
    more = pd.DataFrame(
        [
            ("p0", "0b", "0a", "r", "b"),  # the first pair once more, the other way round
            ("p1", "1a", "1a", "r", "a"),
            ("p1", "1a", "2b", "r", "a"),
            ("p1", "1a", "nobody", "r", "a"),
        ],
        columns=rows.columns,
    )
    given = read_input(ratings, scores, pd.concat([rows, more]))
    assert given.preferences is not None
    assert len(given.preferences) == 12
    counted = {name: n for name, n in given.report.items() if "preferences" in name and n}
    assert counted == {
        "repeated_preferences": 1,
        "preferences_of_an_item_with_itself": 1,
        "preferences_across_prompts": 1,
        "preferences_of_unknown_items": 1,
    }


def test_preferences_without_ratings_and_a_judges_own_verdicts_in_either_order() -> None:
    people = pairs(["a"] * 10)
    verdicts = people.rename(columns={"rater_id": "evaluator"}).assign(evaluator="judge")
    turned = verdicts["prompt_id"].isin(["p0", "p1"])
    verdicts.loc[turned, ["item_a", "item_b"]] = verdicts.loc[turned, ["item_b", "item_a"]].to_numpy()
    verdicts.loc[turned, "label"] = "b"  # the same image
    verdicts.loc[9, "label"] = "b"  # the other one
    given = read_input(None, None, people, pairwise_scores=verdicts)
    assert (len(given.items), len(given.ratings)) == (20, 0)
    found = preference_accuracy(given.items, given.preferences, given.scores, given.pairwise_scores, 100, 0.95, 0)[
        "judge"
    ][""]
    assert found["accuracy"]["value"] == 0.9


def verdicts_of(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Verdicts of one judge: prompt, shown first, shown second, label."""
    return pd.DataFrame(rows, columns=["prompt_id", "item_a", "item_b", "label"]).assign(evaluator="judge")


@pytest.mark.parametrize("named", [True, False])
def test_verdicts_join_by_their_images_however_they_spell_the_prompts(named: bool) -> None:
    people = pairs(["a"] * 10)
    verdicts = verdicts_of([(f"a prompt {i}", f"{i}a", f"{i}b", "a") for i in range(10)])
    settings = ReadingSettings(preferences=TableMapping(columns={} if named else {"prompt_id": None}))
    people = people if named else people.drop(columns="prompt_id")
    given = read_input(None, None, people, pairwise_scores=verdicts, settings=settings)
    found = preference_accuracy(given.items, given.preferences, given.scores, given.pairwise_scores, 100, 0.95, 0)
    assert (found["judge"][""]["accuracy"]["value"], found["judge"][""]["n_unscored"]) == (1.0, 0)
    for table in (given.pairwise_scores, given.shown_pairs):
        assert table is not None
        assert table["prompt_id"].tolist() == [f"{'' if named else 'a prompt '}{'p' * named}{i}" for i in range(10)]


def test_a_judge_that_prefers_the_first_image_is_found_out_and_has_no_verdict_on_such_pairs() -> None:
    """Ten pairs in both orders; on the first four the judge takes whatever is first, on the others always image a."""
    people = pairs(["a"] * 10)
    rows = []
    for i in range(10):
        rows.append((f"p{i}", f"{i}a", f"{i}b", "a"))
        rows.append((f"p{i}", f"{i}b", f"{i}a", "a" if i < 4 else "b"))
    given = read_input(None, None, people, pairwise_scores=verdicts_of(rows))
    assert given.report["pairs_decided_by_position"] == 4
    assert any("on 4 pairs a judge prefers another image when the order is exchanged" in note for note in given.notes)
    found = preference_accuracy(given.items, given.preferences, given.scores, given.pairwise_scores, 100, 0.95, 0)
    cell = found["judge"][""]
    assert (cell["accuracy"]["value"], cell["accuracy"]["n"], cell["n_unscored"]) == (1.0, 6, 4)
    assert given.shown_pairs is not None
    bias = position_bias(given.shown_pairs, given.preferences, 100, 0.95, 0)["judge"]
    assert (bias["n_verdicts"], bias["n_pairs_in_both_orders"]) == (20, 10)
    assert bias["first_preferred"]["value"] == 14 / 20
    assert bias["first_preferred_by_people"]["value"] == 0.5
    assert bias["consistent"]["value"] == 0.6


def test_a_judge_asked_in_one_order_alone_has_no_consistency() -> None:
    people = pairs(["a", "b"] * 5)
    given = read_input(
        None, None, people, pairwise_scores=verdicts_of([(f"p{i}", f"{i}a", f"{i}b", "a") for i in range(10)])
    )
    assert given.shown_pairs is not None
    bias = position_bias(given.shown_pairs, given.preferences, 100, 0.95, 0)["judge"]
    assert (bias["first_preferred"]["value"], bias["first_preferred_by_people"]["value"]) == (1.0, 0.5)
    assert (bias["consistent"]["value"], bias["n_pairs_in_both_orders"]) == (None, 0)


def test_two_raters_who_saw_a_pair_in_either_order_are_compared_with_one_verdict() -> None:
    people = pd.concat([pairs(["a"] * 8), pairs(["a"] * 8)], ignore_index=True)
    people.loc[8:, ["item_a", "item_b"]] = people.loc[8:, ["item_b", "item_a"]].to_numpy()
    people.loc[8:, ["rater_id", "label"]] = ["another", "b"]  # the same image
    given = read_input(
        None, None, people, pairwise_scores=verdicts_of([(f"p{i}", f"{i}a", f"{i}b", "a") for i in range(8)])
    )
    found = preference_accuracy(given.items, given.preferences, given.scores, given.pairwise_scores, 100, 0.95, 0)
    assert (found["judge"][""]["accuracy"]["value"], found["judge"][""]["accuracy"]["n"]) == (1.0, 16)


def test_raters_without_a_name_stay_two_where_a_pair_was_shown_in_both_orders() -> None:
    people = pairs(["a"] * 10, rater_id="")
    turned = people.rename(columns={"item_a": "item_b", "item_b": "item_a"})
    verdicts = verdicts_of([(f"p{i}", f"{i}a", f"{i}b", "a") for i in range(10)])
    for label in ("a", "b"):  # another image, the same image
        given = read_input(None, None, pd.concat([people, turned.assign(label=label)]), pairwise_scores=verdicts)
        assert given.preferences is not None
        assert len(given.preferences) == 20
        assert given.report["repeated_preferences"] == given.report["contradicting_preferences"] == 0


def test_the_strength_of_a_preference_has_a_column() -> None:
    ratings, scores = frame()
    people = pairs(["a", "b"] * 5, strength=["1", "6"] * 4 + ["1", "strong"])
    given = read_input(ratings, scores, people)
    assert given.preferences is not None
    assert given.preferences["strength"].tolist() == pytest.approx([1, 6] * 4 + [1, float("nan")], nan_ok=True)
    assert given.report["unreadable_strengths"] == 1
    by_strength = preference_accuracy(given.items, given.preferences, given.scores, None, 100, 0.95, 0)
    counts = {name: cell["n"] for name, cell in next(iter(by_strength.values()))[""]["by_strength"].items()}
    assert counts == {"1": 5, "6": 4}


def test_a_mapping_reads_other_names_wide_raters_and_wide_judges(tmp_path: Path) -> None:
    ratings, scores = frame()
    wide = ratings.pivot(index=["item_id", "prompt_id"], columns="rater_id", values="score").reset_index()
    wide.rename(columns={"item_id": "image", "prompt_id": "text"}).to_csv(tmp_path / "people.csv", index=False)
    scores.rename(columns={"item_id": "image", "score": "judge"})[["image", "judge"]].to_csv(
        tmp_path / "m.csv", index=False
    )
    (tmp_path / "t2i_eval.yml").write_text(
        "ratings: {file: people.csv, columns: {item_id: image, prompt_id: text, generator: null, dimension: null}, wide: [r, s, t]}\n"
        "scores: {file: m.csv, columns: {item_id: image}, wide: [judge]}\n"
    )
    given = read_input(None, None, settings=read_mapping(tmp_path / "t2i_eval.yml"))
    whole = take(ratings, scores)
    key = ["item_id", "rater_id"]
    assert given.ratings.set_index(key)["score"].sort_index().equals(whole.ratings.set_index(key)["score"].sort_index())
    assert given.scores.set_index("item_id")["score"].equals(whole.scores.set_index("item_id")["score"])
    assert set(given.items["generator"]) == {"unknown"}


def test_a_mapping_that_says_what_is_not_known_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t2i_eval.yml"
    path.write_text("ratngs: {}\n")
    with pytest.raises(T2IEvalError, match="'ratngs'"):
        read_mapping(path)
    assert TableMapping().columns == {}


def test_a_prompt_of_100_000_characters_costs_itself_alone() -> None:
    """An array of fixed-width texts would take 400 kB for each of the 1,000 items."""
    import tracemalloc

    from t2i_eval_kedro.agreement.rated_items import build

    ratings, scores = frame(250, "r")
    ratings["prompt_id"] = ratings["prompt_id"].replace("p7", "x" * 100_000)
    given = take(ratings, scores)
    tracemalloc.start()
    build(given.items, given.ratings, given.scores)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
