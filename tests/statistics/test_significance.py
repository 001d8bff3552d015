"""Tests between judges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from t2i_eval_kedro.statistics import correlation
from t2i_eval_kedro.statistics import significance as tests


@pytest.mark.parametrize("statistic", ["spearman", "kendall_b", "pearson", "kendall_c", "pairwise_accuracy"])
def test_swapped_differences_equal_swapping_by_hand(statistic):
    rng = np.random.default_rng(0)
    n, groups = 40, 8
    a, b = rng.integers(0, 6, n).astype(float), rng.normal(size=n) * 100
    y, group = rng.integers(1, 6, n).astype(float), rng.integers(0, groups, n)
    swaps = tests.random_exchanges(groups, 70, 1)
    found = tests.PairedPermutation(swaps).pooled(a, b, y, group, (statistic,))[statistic]
    one, other = (tests.one_scale(v, "pearson" if statistic == "pearson" else "rank") for v in (a, b))
    function = correlation.STATISTIC_FUNCTIONS[statistic]
    for k in (0, 33, 69):
        swapped = swaps[k][group].astype(bool)
        by_hand = function(np.where(swapped, other, one), y) - function(np.where(swapped, one, other), y)
        assert found[k] == pytest.approx(by_hand, abs=1e-12)


def test_permuted_differences_of_large_samples_equal_scipy():
    rng = np.random.default_rng(2)
    n = 40_000
    y, a, b = (rng.normal(size=n) for _ in range(3))
    group = rng.integers(0, 50, n)
    exchanged = tests.random_exchanges(50, 2, 1)
    found = tests.PairedPermutation(exchanged).pooled(a, b, y, group, ("spearman", "kendall_b"))
    one, other = stats.rankdata(a), stats.rankdata(b)
    flip = exchanged[1][group].astype(bool)
    first, second = np.where(flip, other, one), np.where(flip, one, other)
    expected = stats.spearmanr(first, y).statistic - stats.spearmanr(second, y).statistic
    assert found["spearman"][1] == pytest.approx(expected, abs=1e-12)
    expected = stats.kendalltau(first, y).statistic - stats.kendalltau(second, y).statistic
    assert found["kendall_b"][1] == pytest.approx(expected, abs=1e-12)


def test_grouped_swaps_leave_out_groups_that_one_judge_lacks():
    swaps = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 0]])
    found = tests.PairedPermutation(swaps).grouped(np.array([0.5, 0.4, np.nan]), np.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(found, [0.3, -0.1, -0.3])


def test_p_value_counts_the_observed_arrangement():
    assert tests.p_value(1.0, np.array([0.5, -1.0, 0.2]))[0] == pytest.approx(2 / 4)
    assert tests.p_value(1.0, np.array([0.5, np.nan, 0.2]))[0] == pytest.approx(2 / 4)
    p, error = tests.p_value(3.0, np.zeros(99))
    assert (p, error) == (pytest.approx(0.01), pytest.approx(np.sqrt(0.01 * 0.99 / 100)))


def test_the_monte_carlo_p_value_approaches_the_exact_one():
    gap = np.array([0.3, 0.5, -0.1, 0.4, 0.2, 0.6])
    signs = np.array(list(itertools.product([0, 1], repeat=6)))
    exact = np.mean(np.abs((1 - 2 * signs) @ gap) >= abs(gap.sum()) - 1e-12)
    null = tests.PairedPermutation(np.random.default_rng(0).integers(0, 2, size=(20000, 6))).grouped(gap, np.zeros(6))
    assert tests.p_value(gap.mean(), null)[0] == pytest.approx(exact, abs=0.005)


def test_where_all_exchanges_are_few_each_is_visited_once_and_the_p_value_is_exact():
    gap = np.array([0.3, 0.5, -0.1, 0.4, 0.2, 0.6])
    table = tests.random_exchanges(6, 63, 0)
    assert len({tuple(row) for row in table}) == 63  # all but the one that exchanges nothing
    assert table.any(axis=1).all()
    signs = np.array(list(itertools.product([0, 1], repeat=6)))
    exact = np.mean(np.abs((1 - 2 * signs) @ gap) >= abs(gap.sum()) - 1e-12)
    every = tests.PairedPermutation(table)
    assert every.p_value(gap.mean(), every.grouped(gap, np.zeros(6))) == (pytest.approx(exact, abs=1e-12), 0.0)
    some = tests.PairedPermutation(tests.random_exchanges(6, 62, 0))
    assert some.p_value(gap.mean(), some.grouped(gap, np.zeros(6)))[1] > 0


def test_sign_test():
    assert tests.sign_test(np.array([1.0, 2, 3, np.nan, 0]), np.zeros(5)) == pytest.approx(0.25)
    assert tests.sign_test(np.zeros(3), np.zeros(3)) == 1


def test_williams_and_steiger_hold_their_level_for_independent_items():
    rng = np.random.default_rng(0)
    rejected = np.zeros(2)
    for _ in range(600):
        y = rng.normal(size=80)
        a, b = (y + rng.normal(size=80) for _ in range(2))
        r = np.corrcoef([a, b, y])
        rejected += [
            tests.williams(r[0, 2], r[1, 2], r[0, 1], 80) < 0.05,
            tests.steiger(r[0, 2], r[1, 2], r[0, 1], 80) < 0.05,
        ]
    assert ((rejected / 600 > 0.025) & (rejected / 600 < 0.08)).all()
    assert tests.williams(0.9, 0.1, 0.2, 80) < 1e-6
    assert np.isnan(tests.williams(0.5, 0.5, 1.0, 80))
    assert np.isnan(tests.steiger(1.0, 0.5, 0.5, 80))
    assert np.isnan(tests.williams(0.5, 0.4, 0.3, 3))


def test_adjusted_p_values_equal_scipy_and_the_definition():
    p = [0.01, 0.04, 0.03, 0.005]
    assert tests.holm(p) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # by hand: 4 x .005, 3 x .01, 2 x .03, then the running maximum
    assert tests.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert tests.holm([]) == tests.benjamini_hochberg([]) == []


def test_rank_clusters():
    values = {"a": 0.9, "b": 0.8, "c": 0.5, "d": 0.4}
    p = {("a", "b"): 0.5, ("a", "c"): 0.01, ("c", "b"): 0.2, ("c", "d"): 0.001}
    assert tests.rank_clusters(values, p) == {"a": 1, "b": 1, "c": 2, "d": 3}


def test_the_test_does_not_depend_on_the_unit_of_the_scores():
    rng = np.random.default_rng(0)
    y, a, b = (rng.normal(size=60) for _ in range(3))
    permutation = tests.PairedPermutation(tests.random_exchanges(12, 30, 0))
    plain, scaled = (permutation.pooled(a * unit, b, y, np.repeat(np.arange(12), 5)) for unit in (1.0, 1e160))
    for name, values in plain.items():
        np.testing.assert_allclose(scaled[name], values, atol=1e-12, err_msg=name)


def test_williams_test_equals_its_formula_for_few_items():
    r_ay, r_by, r_ab, n = 0.8, 0.4, 0.5, 12
    correlations = np.array([[1, r_ay, r_by], [r_ay, 1, r_ab], [r_by, r_ab, 1]])
    both = (r_ay + r_by) ** 2 / 4 * (1 - r_ab) ** 3
    t = (r_ay - r_by) * np.sqrt((n - 1) * (1 + r_ab) / (2 * (n - 1) / (n - 3) * np.linalg.det(correlations) + both))
    assert tests.williams(r_ay, r_by, r_ab, n) == pytest.approx(2 * stats.t.sf(t, n - 3), rel=1e-9)


def test_a_p_value_at_the_level_itself_opens_no_rank():
    values = {"a": 0.9, "b": 0.8}
    assert tests.rank_clusters(values, {("a", "b"): 0.05}) == {"a": 1, "b": 1}
    assert tests.rank_clusters(values, {("a", "b"): 0.0499}) == {"a": 1, "b": 2}
