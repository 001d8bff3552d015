from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from t2i_eval_kedro import schema
from t2i_eval_kedro.reporting import claims, pages, tables, views
from t2i_eval_kedro.reporting.agreement import agreement_tables, reliance_tables
from t2i_eval_kedro.reporting.inputs import ReportInputs, evaluator_title
from t2i_eval_kedro.reporting.report import build_report


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.12345, 3, "0.123"),
        (-0.5, 2, "−0.50"),
        (-0.0001, 2, "0.00"),
        (float("nan"), 3, "–"),
        (None, 3, "–"),
        (12345, 3, "12,345"),
        (1234.0, 0, "1,234"),
        (69.2, None, "69.2"),
        (True, 3, "yes"),
        ("text", 3, "text"),
    ],
)
def test_numbers_are_printed_for_people(value: object, digits: int | None, text: str) -> None:
    assert tables.number(value, digits) == text


def test_a_title_names_the_judge_and_how_it_was_asked() -> None:
    assert evaluator_title("sft", "levels") == "judge trained by SFT"
    assert evaluator_title("grpo", "decomposed") == "judge trained by GRPO, decomposed verdict"
    assert evaluator_title("base", "dsg") == "untrained judge, asked by dsg"
    assert evaluator_title("teacher", "decomposed") == "teacher of the training examples"
    assert evaluator_title("clipscore_vitb32", None) == evaluator_title("sft", None) == "recorded scores"


def test_differences_turn_so_that_the_followed_evaluator_comes_first() -> None:
    frame = tables.differences(
        {"significance": [{"a": "base", "b": "sft", "difference": -0.6, "low": -0.7, "high": -0.5}]}
    )
    row = tables.oriented(frame, "sft").iloc[0]
    assert (row["a"], row["b"], row["difference"], row["low"], row["high"]) == ("sft", "base", 0.6, 0.5, 0.7)
    assert bool(row["excludes_zero"])
    assert not tables.differences({"significance": [{"low": -0.1, "high": 0.2}]})["excludes_zero"].iloc[0]


def estimate(value: float, **more: object) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 40, **more}


def test_what_figures_rest_on_is_shown_in_the_text_and_in_the_report() -> None:
    headline = {name: estimate(0.5) for name in ("spearman", "kendall_b", "pearson", "pairwise_accuracy")}
    over_runs = {"mean": 0.512, "standard_deviation": 0.034, "by_run": [0.5, 0.52]}
    summary = {
        "benchmark": "b",
        "settings": {"confidence": 0.95},
        "evaluators": {"judge": {"overall": headline}},
        "within_group": {},
        "counts": {"judge": {"overall": {"ok": 30, "unparsed": 10, "failed": 0, "not_applicable": 0}}},
        "significance": [],
        "noise_ceiling": {"overall": {"spearman": estimate(0.8)}},
        "completeness": {
            "judge": {
                "overall": {
                    "coverage": 0.75,
                    "n_unscored": 10,
                    "unscored_as_worst": {
                        "spearman": estimate(0.31),
                        "kendall_b": estimate(0.2),
                        "pearson": estimate(0.3),
                    },
                }
            }
        },
        "runs": {
            "judge": {
                "overall": {"n_runs": 2, "score_standard_deviation": 0.7}
                | dict.fromkeys(("spearman", "kendall_b", "pearson"), over_runs)
            }
        },
        "position_bias": {
            "judge": {
                "first_preferred": estimate(0.7),
                "first_preferred_by_people": estimate(0.5),
                "consistent": estimate(0.6),
                "n_verdicts": 20,
                "n_pairs_in_both_orders": 10,
            }
        },
    }
    titles = [table.title for table in reliance_tables(summary)]
    assert titles == [
        "Completeness",
        "Over the runs of a judge (mean ± standard deviation of the runs)",
        "Position bias of judges of pairs",
    ]
    text = "\n".join(table.frame.to_string() for table in agreement_tables(summary))
    page = build_report(ReportInputs(summary=summary))
    for shown in (text, page):
        for words in ("75.0%", "0.310", "0.512 ± 0.034", "0.700 [0.600, 0.800]"):
            assert words in shown
    assert "0.800 [0.700, 0.900]" in text  # the ceiling's interval
    complete = summary["completeness"]["judge"]["overall"] | {"n_unscored": 0}  # type: ignore[index]
    assert "Completeness" not in [t.title for t in reliance_tables({"completeness": {"judge": {"overall": complete}}})]


def test_means_leave_out_nulls_off_scale_ratings_and_failed_scores() -> None:
    shared = {"item_id": "i", "dimension": "d", "scale_min": 1, "scale_max": 5}
    ratings = schema.RATINGS.frame(
        [
            {**shared, "rater_id": "a", "score": 2, "off_scale": False},
            {**shared, "rater_id": "b", "score": 4, "off_scale": False},
            {**shared, "rater_id": "c", "score": None, "off_scale": False},
            {**shared, "rater_id": "d", "score": 9, "off_scale": True},
        ]
    )
    assert tables.people_means(ratings).loc["i", "d"] == 3
    verdict = {"item_id": "i", "judge": "e", "dimension": "d", "higher_is_better": True}
    scores = schema.SCORES.frame(
        [
            {**verdict, "run": 0, "score": 2, "status": "ok"},
            {**verdict, "run": 1, "score": 4, "status": "ok"},
            {**verdict, "run": 2, "score": None, "status": "unparsed"},
            {**verdict, "judge": "metric", "dimension": "", "run": 0, "score": 7, "status": "ok"},
        ]
    )
    assert tables.judge_means(scores, "d").loc["i"].to_dict() == {"e": 3, "metric": 7}


def test_counts_that_are_alike_share_a_row(make_summary: Callable[..., dict[str, Any]]) -> None:
    given = make_summary(sft=0.7, base=0.1)
    given["counts"]["base"]["appearance"] = {"ok": 30, "unparsed": 6, "failed": 0, "not_applicable": 0}
    rows = views.counts(claims.report_context(ReportInputs(summary=given)), ["sft", "base"])["rows"]
    assert [(row["evaluator"], row["dimension"], row["ok"], row["items"]) for row in rows] == [
        ("sft", "all", 36, 36),
        ("base", "overall", 36, 36),
        ("base", "appearance", 30, 36),
    ]


def test_the_best_rmse_is_the_lowest(make_summary: Callable[..., dict[str, Any]]) -> None:
    given = make_summary(a=0.7, b=0.1)
    given["evaluators"]["a"]["overall"]["rmse"] = {"value": 1.0, "low": 0.9, "high": 1.1, "n": 36}
    given["evaluators"]["b"]["overall"]["rmse"] = {"value": 2.0, "low": 1.9, "high": 2.1, "n": 36}
    block = views.agreement(given, claims.report_context(ReportInputs(summary=given)), ["overall"], set())[0]
    assert block["further"]["statistics"] == ["rmse"]
    assert {row["evaluator"]: row["best"] for row in block["further"]["rows"]} == {"a": [True], "b": [False]}
    assert {row["evaluator"]: row["best"] for row in block["main"]["rows"]} == {"a": [True] * 3, "b": [False] * 3}


def test_agreement_within_groups_and_of_incomplete_judges_stands_beside_the_overall_one(
    make_summary: Callable[..., dict[str, Any]],
) -> None:
    given = make_summary(a=0.7, base_dsg=0.5)
    inside = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 36, "n_groups": 12}
    given["within_group"] = {
        "prompt": {"a": {"overall": {"spearman": inside}}},
        "generator": {"a": {"overall": {"spearman": None}}},
        "skill": {"a": {"overall": {"spearman": inside}}},
    }
    given["completeness"] = {
        "a": {"overall": {"coverage": 0.75, "unscored_as_worst": {"spearman": {"value": 0.6}}}},
        "base_dsg": {"overall": {"coverage": 1.0, "unscored_as_worst": {"spearman": {"value": 0.5}}}},
    }
    given["best_untrained"] = {"evaluator": "base_dsg", "candidates": [{"protocol": "dsg"}, {"protocol": "pn_vqa"}]}
    about = claims.report_context(ReportInputs(summary=given))
    table = views.agreement(given, about, ["overall"], set())[0]["main"]
    assert table["within"] == ["within prompts"]
    assert table["incomplete"]
    rows = {row["evaluator"]: row for row in table["rows"]}
    assert [cell["value"] for cell in rows["a"]["within"]] == [0.4]
    assert rows["base_dsg"]["within"] == [None]
    assert (rows["a"]["coverage"], rows["a"]["as_worst"]) == (0.75, 0.6)
    given["completeness"]["a"]["overall"]["coverage"] = 1.0
    assert not views.agreement(given, about, ["overall"], set())[0]["main"]["incomplete"]
    assert about.title("base_dsg").endswith("the best of dsg and pn_vqa on validation prompts")
    (block,) = views.breakdown(given, about, ["a"], ["overall", "appearance"])
    assert block["columns"] == ["within a skill"]
    assert [cell["value"] for cell in block["rows"][0][1]] == [0.4]


def test_any_data_card_can_be_shown() -> None:
    shown = views.card(
        {
            "name": "x",
            "licence": "MIT",
            "sizes": {"items": 3, "elements": 0},
            "splits": {"prompt": {"test": {"items": 3}}},
            "raters": [{"rater": "1", "mean": 2.5}],
            "recorded_evaluators": ["a", "b"],
            "faults": [{"kind": "null rating", "count": 2, "action": "left out", "examples": ["row 3: -"]}],
        }
    )
    assert ("Licence", "MIT") in shown["facts"]
    assert ("Recorded evaluators", "a, b") in shown["facts"]
    assert ("sizes", [("items", "3")]) in shown["groups"]
    assert ("splits", [("prompt · test", "items 3")]) in shown["groups"]
    assert shown["tables"][0][1]["rows"] == [["1", "2.500"]]
    assert shown["data_issues"] == [{"text": "null rating (2): left out", "examples": ["row 3: -"]}]
    assert not views.card({})["present"]


def test_rebalancing_draws_what_has_bins_and_lists_all(inputs: ReportInputs) -> None:
    assert inputs.rebalancing is not None
    shown = views.rebalancing(inputs.rebalancing)
    assert shown is not None
    assert len(shown["panels"]) == 1
    assert len(shown["rows"]) == 13
    assert [row["bin"] for row in shown["rows"] if row["task"] == "score"][-2:] == ["10", "N/A"]
    buffer = io.StringIO(inputs.rebalancing.to_csv(index=False))
    again = views.rebalancing(pd.read_csv(buffer))  # reads "N/A" and "" as null
    assert again is not None
    assert [row["bin"] for row in again["rows"]] == [row["bin"] for row in shown["rows"]]
    assert views.rebalancing(pd.DataFrame()) is None


@pytest.mark.parametrize(("value", "text"), [(0.0004, "<0.001"), (0.25, "0.250"), (None, "–"), (np.nan, "–")])
def test_small_p_values_are_not_rounded_to_zero(value: float | None, text: str) -> None:
    assert pages.p_value(value) == text
