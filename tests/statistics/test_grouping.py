"""Statistics inside groups equal scipy on each group; small and undefined groups are counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from t2i_eval_kedro.statistics import correlation
from t2i_eval_kedro.statistics.grouping import (
    Groups,
    average,
    fisher_mean,
    resampled_average,
    resampled_within_groups,
    statistics_within_groups,
)
from t2i_eval_kedro.statistics.pooled import Weights


@st.composite
def grouped(draw):
    n = draw(st.integers(1, 30))
    value = st.integers(0, 5).map(float)
    x, y = (np.array(draw(st.lists(value, min_size=n, max_size=n))) for _ in range(2))
    code = np.array(draw(st.lists(st.integers(-1, 4), min_size=n, max_size=n)))
    return x, y, code


@settings(max_examples=150, deadline=None)
@given(grouped())
def test_inside_equals_scipy_group_by_group(sample):
    x, y, code = sample
    groups = Groups.by_code(code, "abcde")
    found = statistics_within_groups(x, y, groups)
    under_ones = resampled_within_groups(x, y, np.arange(len(x)), groups, Weights(np.ones((1, len(x)), dtype=np.int64)))
    for g in range(5):
        a, b = x[code == g], y[code == g]
        np.testing.assert_allclose(found["pairwise_accuracy"][g], correlation.pairwise_accuracy(a, b), atol=1e-12)
        if correlation.undefined(a, b):
            assert all(np.isnan(found[name][g]) for name in ("spearman", "kendall_b", "pearson"))
            continue
        assert found["spearman"][g] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert found["kendall_b"][g] == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
        assert found["pearson"][g] == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    for name, values in found.items():
        np.testing.assert_allclose(under_ones[name][0], values, atol=1e-12, err_msg=name)


def test_small_and_undefined_groups_are_counted():
    values = np.array([0.5, np.nan, 0.1, 0.3])
    found = average(values, np.array([5, 5, 2, 3]), "spearman", min_group=3)
    assert (found.groups, found.suppressed, found.undefined) == (2, 1, 1)
    assert found.mean == pytest.approx(0.4)
    assert found.fisher == pytest.approx(np.tanh((np.arctanh(0.5) + np.arctanh(0.3)) / 2))


def test_a_perfect_group_has_no_fisher_mean():
    assert np.isnan(fisher_mean(np.array([1.0, 0.2])))
    assert np.isnan(fisher_mean(np.zeros(0)))


def test_drawing_groups_whole_is_a_weighted_mean():
    values, counts = np.array([0.2, 0.4, np.nan]), np.array([[1, 1, 1], [2, 0, 1], [0, 0, 3]])
    found = resampled_average(values, np.array([True, True, True]), counts)
    np.testing.assert_allclose(found, [0.3, 0.2, np.nan])


def test_labels_may_overlap_and_may_be_absent():
    groups = Groups.by_labels([["a", "b"], [], ["b", "b"]])
    assert groups.names == ("a", "b")
    assert [m.tolist() for m in groups.members] == [[0], [0, 2]]


def test_large_groups_equal_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 50, 5000).astype(float), rng.integers(0, 5, 5000).astype(float)
    groups = Groups(("small", "large"), (np.arange(100), np.arange(100, 5000)))
    found = statistics_within_groups(x, y, groups)
    for k, m in enumerate(groups.members):
        assert found["spearman"][k] == pytest.approx(stats.spearmanr(x[m], y[m]).statistic, abs=1e-12)
        assert found["kendall_b"][k] == pytest.approx(stats.kendalltau(x[m], y[m]).statistic, abs=1e-12)
        assert found["pearson"][k] == pytest.approx(stats.pearsonr(x[m], y[m]).statistic, abs=1e-12)
        assert found["pairwise_accuracy"][k] == pytest.approx(correlation.pairwise_accuracy(x[m], y[m]), abs=1e-12)
