"""Reliability of raters against published worked examples with disagreement, other libraries and simulated truth."""

from __future__ import annotations

import itertools
import tracemalloc

import krippendorff
import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from t2i_eval_kedro.statistics import reliability
from t2i_eval_kedro.statistics.correlation import pearson
from t2i_eval_kedro.statistics.pooled import Weights

# Shrout and Fleiss (1979), table 2: 6 targets, 4 judges.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: 12 units, 4 observers, missing data.
N = np.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T

# The textbook table of Fleiss' kappa: 10 items, 14 raters, 5 categories; P-bar 0.378, P_e 0.213, kappa 0.210.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def simulated(n=4000, k=3, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    return truth, truth[:, None] + noise * rng.normal(size=(n, k))


def likert(n=40, k=3, seed=1):
    rng = np.random.default_rng(seed)
    return np.clip(np.round(3 + rng.normal(size=n)[:, None] + 0.8 * rng.normal(size=(n, k))), 1, 5)


@pytest.mark.parametrize(("measurement", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_equals_krippendorffs_worked_example_with_disagreement(measurement, published):
    assert round(reliability.alpha(KRIPPENDORFF, measurement), 3) == published


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 4).flatmap(
        lambda raters: st.lists(
            st.lists(st.sampled_from([np.nan, np.nan, 1.0, 2.0, 2.5, 4.0, -7.25]), min_size=raters, max_size=raters),
            min_size=1,
            max_size=8,
        )
    ),
    st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_alpha_equals_the_package_krippendorff(rows, measurement):
    table = np.array(rows)
    paired = table[np.isfinite(table).sum(axis=1) >= 2]
    assume(len(paired) and np.nanmin(paired) < np.nanmax(paired))
    before = table.copy()
    expected = krippendorff.alpha(reliability_data=table.T, level_of_measurement=measurement)
    assert reliability.alpha(table, measurement) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(table, before)


@pytest.mark.parametrize("measurement", ["ordinal", "interval"])
def test_alpha_of_ratings_that_all_differ_takes_memory_in_proportion_to_them(measurement):
    _, table = simulated(4000)
    tracemalloc.start()
    found = reliability.alpha(table, measurement)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    assert found == pytest.approx(0.5, abs=0.03)  # as much noise as truth


def test_alpha_of_differences_too_small_to_square_is_not_defined():
    assert np.isnan(reliability.alpha(np.array([[0.0, 1e-200], [1e-200, 0.0]])))


def test_fleiss_kappa_equals_its_worked_example_with_disagreement():
    table = np.array([np.repeat([1.0, 2, 3, 4, 5], counts) for counts in FLEISS])
    assert round(reliability.fleiss(table), 3) == 0.210


def test_fleiss_kappa_is_over_items_with_the_usual_number_of_ratings():
    table = np.array([np.repeat([1.0, 2, 3, 4, 5], counts) for counts in FLEISS])
    short = np.vstack([table, np.r_[1.0, np.full(13, np.nan)]])
    assert reliability.fleiss(short) == pytest.approx(reliability.fleiss(table))


def test_weighted_kappa_has_quadratic_weights():
    table = likert()
    expected = [
        cohen_kappa_score(table[:, a], table[:, b], weights="quadratic") for a, b in itertools.combinations(range(3), 2)
    ]
    linear = [
        cohen_kappa_score(table[:, a], table[:, b], weights="linear") for a, b in itertools.combinations(range(3), 2)
    ]
    found = reliability.weighted_kappas(table)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.abs(found - linear) > 0.05).all()


def test_quadratic_weighted_kappa_equals_the_concordance_coefficient():
    # Fleiss and Cohen (1973): 2 cov / (var + var + squared difference of means), moments with divisor n.
    table = likert(seed=2)[:, :2]
    x, y = table.T
    expected = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert reliability.weighted_kappas(table)[0] == pytest.approx(expected, abs=1e-12)


def test_icc_equals_the_worked_example():
    found = reliability.icc(SHROUT_FLEISS)  # Shrout and Fleiss (1979), tables 2 and 4
    assert (round(found.one, 2), round(found.agreement, 2), round(found.consistency, 2)) == (0.17, 0.29, 0.71)


def test_icc_equals_pingouin():
    table = likert(25, 4, seed=3)
    rows = pd.DataFrame(
        {"item": np.repeat(np.arange(25), 4), "rater": np.tile(np.arange(4), 25), "score": table.ravel()}
    )
    theirs = pingouin.intraclass_corr(rows, "item", "rater", "score")["ICC"].to_numpy()[:3]
    ours = reliability.icc(table)
    np.testing.assert_allclose([ours.one, ours.agreement, ours.consistency], theirs, atol=1e-6)


def test_icc_with_unequal_numbers_is_close_to_the_full_one():
    _, table = simulated()
    full = reliability.icc(table).one
    table[::3, 2] = np.nan
    part = reliability.icc(table)
    assert part.one == pytest.approx(full, abs=0.03)
    assert np.isnan(part.agreement)


def test_undefined_coefficients_are_nan():
    assert np.isnan(reliability.alpha(np.array([[1.0, 1], [1, 1]])))
    assert np.isnan(reliability.alpha(np.array([[1.0, np.nan], [np.nan, 1]])))
    assert np.isnan(reliability.fleiss(np.ones((4, 3))))
    assert np.isnan(reliability.icc(np.ones((1, 3))).one)


@pytest.mark.parametrize("unidentified", [True, False])
@pytest.mark.parametrize("statistic", ["spearman", "pearson"])
def test_the_noise_ceiling_is_what_the_truth_reaches(unidentified, statistic):
    truth, table = simulated()
    reached = np.corrcoef(truth, table.mean(axis=1))[0, 1]
    assert reliability.noise_ceiling(table, statistic, unidentified)[0] == pytest.approx(reached, abs=0.03)


def test_the_noise_ceiling_is_the_root_of_the_spearman_brown_reliability():
    table = likert(60, 3, seed=4)
    single = np.mean([stats.pearsonr(table[:, a], table[:, b])[0] for a, b in itertools.combinations(range(3), 2)])
    expected = np.sqrt(3 * single / (1 + 2 * single))
    assert reliability.noise_ceiling(table, "pearson", False)[0] == pytest.approx(expected, abs=1e-12)


def test_the_leave_one_out_baseline_of_rater_and_judge_equals_a_plain_computation():
    table = likert(50, 4, seed=5)
    judge = np.random.default_rng(6).normal(size=50) + table.mean(axis=1)
    of_rater, of_judge = reliability.leave_one_rater_out(table, "spearman", judge)
    for r in range(4):
        others = np.delete(table, r, axis=1).mean(axis=1)
        assert of_rater[r] == pytest.approx(stats.spearmanr(table[:, r], others).statistic, abs=1e-9)
        assert of_judge[r] == pytest.approx(stats.spearmanr(judge, others).statistic, abs=1e-9)


def test_a_judge_that_is_one_more_rater_reaches_the_leave_one_out_baseline():
    truth, table = simulated(noise=1.0)
    judge = truth + np.random.default_rng(9).normal(size=len(truth))
    of_rater, of_judge = reliability.leave_one_rater_out(table, "pearson", judge)
    assert of_rater.mean() == pytest.approx(of_judge.mean(), abs=0.02)
    assert of_judge.mean() < pearson(judge, table.mean(axis=1))


def test_weighted_kappa_takes_the_distances_of_the_ratings_not_of_their_ranks():
    # Nobody used 3 and 4: 2 and 5 are three points apart, as are 1 and 4.
    x, y = np.array([1.0, 1, 2, 2, 5, 5, 2, 1]), np.array([1.0, 2, 2, 5, 5, 2, 1, 1])
    weight = (x[:, None] - y[None, :]) ** 2
    expected = 1 - np.diag(weight).mean() / weight.mean()
    assert reliability.weighted_kappas(np.column_stack([x, y]))[0] == pytest.approx(expected, abs=1e-12)
    ranks = 1 - np.mean([0, 1, 0, 1, 0, 1, 1, 0]) / np.mean(
        (stats.rankdata(x, "dense")[:, None] - stats.rankdata(y, "dense")[None, :]) ** 2
    )
    assert abs(ranks - expected) > 0.05


def test_constant_and_reversed_raters_are_told_from_noisy_ones():
    _, table = simulated(60, 4)
    table[:, 2] = 3.0
    assert reliability.constant_raters(table).tolist() == [False, False, True, False]
    table[:, 3] *= -1
    assert reliability.reversed_raters(table).tolist() == [False, False, False, True]
    noise = np.random.default_rng(8).normal(size=(60, 4))
    assert not reliability.reversed_raters(noise).any()


def test_reliability_under_weights_equals_the_items_written_out():
    table = likert(30, 3, seed=7)
    table[::4, 1] = np.nan
    row, counts = np.repeat(np.arange(10), 3), np.random.default_rng(0).integers(0, 3, (6, 10))
    for statistic in ("pearson", "spearman"):
        found = reliability.single_reliability(table, statistic, False, row, Weights(counts))
        for k, weights in enumerate(counts):
            copies = np.repeat(table, weights[row], axis=0)
            assert found[k] == pytest.approx(reliability.single_reliability(copies, statistic, False)[0], abs=1e-9)
    found = reliability.single_reliability(table, "pearson", True, row, Weights(counts))
    for k, weights in enumerate(counts):
        assert found[k] == pytest.approx(reliability.icc(np.repeat(table, weights[row], axis=0)).one, abs=1e-9)


def test_a_panel_of_two_has_fleiss_kappa_and_items_nobody_rated_do_not_count():
    pairs = np.array([[1, 1], [1, 2], [2, 2], [2, 2], [1, 1.0]])
    # Scott's pi, which Fleiss' kappa of two raters is: observed 4/5, expected .5^2 + .5^2.
    assert reliability.fleiss(pairs) == pytest.approx((0.8 - 0.5) / (1 - 0.5))
    unrated = np.full((20, 2), np.nan)
    assert reliability.fleiss(np.vstack([pairs, unrated])) == reliability.fleiss(pairs)


@pytest.mark.parametrize("missing", ["a rating of an item with others", "an item with one rating"])
def test_where_a_rating_is_missing_only_the_first_icc_is_defined(missing):
    table = likert(30, 3, seed=1)
    table[0, 2] = np.nan
    if missing == "an item with one rating":
        table[0, 1] = np.nan
    found = reliability.icc(table)
    assert np.isfinite(found.one)
    assert np.isnan([found.agreement, found.consistency]).all()


def test_items_without_a_score_are_left_out_of_both_leave_one_out_figures():
    table = likert(50, 4, seed=5)
    judge = np.random.default_rng(6).normal(size=50) + table.mean(axis=1)
    judge[::3] = np.nan
    scored = np.isfinite(judge)
    found = reliability.leave_one_rater_out(table, "spearman", judge)
    expected = reliability.leave_one_rater_out(table[scored], "spearman", judge[scored])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other)
