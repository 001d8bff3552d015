"""The summary: right figures, reasons for missing ones, the same result whatever the order of the rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement import summarise


def tables(n_prompts=30, n_generators=4, seed=0):
    rng = np.random.default_rng(seed)
    items, ratings, scores = [], [], []
    for p in range(n_prompts):
        for g in range(n_generators):
            item, truth = f"p{p}g{g}", rng.normal() + g
            items.append(
                {"item_id": item, "benchmark": "b", "prompt_id": f"p{p}", "prompt": f"text {p}", "generator": f"g{g}"}
            )
            for rater in range(3):
                value = float(np.clip(np.round(truth + 2 + rng.normal()), 1, 5))
                ratings.append(
                    {
                        "item_id": item,
                        "rater_id": f"r{rater}",
                        "dimension": "overall",
                        "score": value,
                        "scale_min": 1,
                        "scale_max": 5,
                        "off_scale": False,
                    }
                )
            for name, noise in (("good", 0.3), ("poor", 4.0), ("constant", None)):
                value = 0.0 if noise is None else truth + noise * rng.normal()
                scores.append(
                    {
                        "item_id": item,
                        "judge": name,
                        "dimension": "",
                        "run": 0,
                        "score": value,
                        "status": "ok",
                        "higher_is_better": True,
                    }
                )
    return schema.ITEMS.frame(items), schema.RATINGS.frame(ratings), schema.SCORES.frame(scores)


def test_figures_equal_scipy_and_lie_inside_their_interval():
    items, ratings, scores = tables()
    found = summarise(items, ratings, scores, n_resamples=200)["evaluators"]["good"]["overall"]
    gold = ratings.groupby("item_id")["score"].mean()
    judge = scores[scores["judge"] == "good"].set_index("item_id")["score"].loc[gold.index]
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(judge, gold).statistic, abs=1e-6)
    assert found["kendall_b"]["value"] == pytest.approx(stats.kendalltau(judge, gold).statistic, abs=1e-6)
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(judge, gold).statistic, abs=1e-6)
    for name in ("spearman", "kendall_b", "kendall_c", "pearson", "pearson_logistic", "pairwise_accuracy"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
        assert (found[name]["n"], found[name]["n_prompts"]) == (120, 30)


def test_the_better_judge_is_found_better():
    items, ratings, scores = tables()
    entry = summarise(items, ratings, scores, n_resamples=200, pairs=[("good", "poor")])["significance"][0]
    assert (entry["a"], entry["b"], entry["statistic"]) == ("good", "poor", "spearman")
    assert entry["difference"] > 0.2
    assert entry["low"] > 0
    assert entry["p"] == pytest.approx(1 / 201, abs=1e-6)


def test_same_seed_same_bytes_in_any_order_of_rows():
    items, ratings, scores = tables()
    one = summarise(items, ratings, scores, n_resamples=50)
    other = summarise(
        items.sample(frac=1, random_state=1),
        ratings.sample(frac=1, random_state=2),
        scores.sample(frac=1, random_state=3),
        n_resamples=50,
    )
    assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert summarise(items, ratings, scores, n_resamples=50, seed=7)["evaluators"] != one["evaluators"]


def test_a_constant_judge_is_null_with_its_reason():
    items, ratings, scores = tables()
    out = summarise(items, ratings, scores, n_resamples=20)
    found = out["evaluators"]["constant"]["overall"]
    assert found["spearman"]["value"] is None
    assert found["spearman"]["reason"] == "the scores are all equal"
    entry = next(e for e in out["significance"] if {e["a"], e["b"]} == {"constant", "good"})
    assert entry["difference"] is None
    assert entry["reason"] == "the scores are all equal"


def test_a_judge_that_is_not_there_and_a_dimension_without_ratings_are_said():
    items, ratings, scores = tables(5)
    scores.loc[scores["judge"] == "poor", "dimension"] = "beauty"
    out = summarise(items, ratings, scores, n_resamples=20, pairs=[("good", "absent")])
    assert out["evaluators"]["poor"]["beauty"]["spearman"]["reason"] == "no rating of this dimension"
    assert out["significance"][0]["reason"] == "no scores of absent in this dimension"


def test_plain_json_types_only():
    items, ratings, scores = tables(6)
    found = summarise(items, ratings, scores, n_resamples=20)
    # Raises on NaN, on infinities and on numpy's types; tuples and keys that are no text would not come back equal.
    assert json.loads(json.dumps(found, allow_nan=False)) == found
