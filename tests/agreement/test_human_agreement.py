"""Sections of the summary about raters."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.agreement import human_agreement
from t2i_eval_kedro.statistics.bootstrap import resample_counts
from t2i_eval_kedro.statistics.pooled import Weights

TABLE = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_one_rater_and_published_means_have_no_reliability():
    one = np.ones((5, 1))
    assert "one rater" in human_agreement.rater_agreement(one, False)["reason"]
    assert human_agreement.noise_ceiling(one, ["r"], False)["spearman"]["value"] is None
    assert human_agreement.leave_one_out_baseline(one, np.arange(5.0))["spearman"]["rater"] is None


def test_unidentified_raters_have_one_way_coefficients_only():
    found = human_agreement.rater_agreement(TABLE, unidentified=True)
    assert found["icc_1"]["value"] == pytest.approx(0.17, abs=0.005)
    assert found["icc_2"]["value"] is None
    assert "slots" in found["weighted_kappa"]["reason"]


def test_the_baseline_tells_rater_and_judge_apart():
    judge = np.array([1.0, 2, 3, 6, 5, 4])  # agrees badly with every rater
    found = human_agreement.leave_one_out_baseline(TABLE, judge)["spearman"]
    assert found["rater"] > 0.5
    assert found["judge"] < found["rater"] - 0.5


def test_correction_for_attenuation_divides_by_the_ceiling():
    figures = {"spearman": {"value": 0.6}, "pearson": {"value": None}}
    human_agreement.add_attenuation_correction(figures, {"spearman": {"value": 0.8}, "pearson": {"value": 0.9}})
    assert figures["spearman"]["corrected_for_attenuation"] == 0.75
    assert figures["pearson"]["corrected_for_attenuation"] is None


def rated(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(np.round(3 + rng.normal(size=n)[:, None] + 0.7 * rng.normal(size=(n, 3))), 1, 5)


def test_a_constant_rater_does_not_raise_the_ceiling_and_is_named():
    table = rated()
    of_two = human_agreement.noise_ceiling(table[:, :2], ["r0", "r1"], False)["spearman"]["value"]
    table[:, 2] = 5
    found = human_agreement.noise_ceiling(table, ["r0", "r1", "r2"], False)["spearman"]
    assert found["value"] == of_two
    assert "r2" in found["note"]


def test_a_reversed_rater_leaves_no_ceiling_and_is_named():
    table = rated()
    table[:, 2] = 6 - table[:, 2]
    found = human_agreement.noise_ceiling(table, ["r0", "r1", "r2"], False)["spearman"]
    assert found["value"] is None
    assert found["reason"].startswith("rater r2 ordered the items against the other raters")


@pytest.mark.parametrize("unidentified", [True, False])
def test_raters_who_do_not_agree_leave_no_ceiling(unidentified):
    # Each pair of raters disagrees a little: single-rater reliability is below 0.
    table = np.array([[1.0, 2, 3], [2, 3, 1], [3, 1, 2], [1, 3, 2], [2, 1, 3], [3, 2, 1]])
    found = human_agreement.noise_ceiling(table, ["a", "b", "c"], unidentified)["pearson"]
    assert found["value"] is None
    assert found["reason"].startswith("the raters do not agree")


def test_the_interval_of_the_ceiling_covers_what_more_prompts_give():
    prompt = np.repeat(np.arange(30), 2)
    weights = Weights(np.vstack([np.ones((1, 30), dtype=np.int64), resample_counts(30, 200, 0)]))
    population = human_agreement.noise_ceiling(rated(60_000, 99), ["a", "b", "c"], False)["pearson"]["value"]
    covered = 0
    for seed in range(40):
        found = human_agreement.noise_ceiling(rated(60, seed), ["a", "b", "c"], False, prompt, weights)["pearson"]
        assert found["low"] < found["value"] < found["high"]
        covered += found["low"] <= population <= found["high"]
    assert 34 <= covered <= 40
