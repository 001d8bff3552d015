"""Single figures equal scipy's; what is not defined has a reason."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from t2i_eval_kedro.statistics import correlation
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@st.composite
def pairs(draw):
    n = draw(st.integers(2, 40))
    element = st.one_of(st.integers(-3, 3).map(float), FINITE)
    return draw(arrays(float, n, elements=element)), draw(arrays(float, n, elements=element))


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_equals_scipy(sample):
    x, y = sample
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    expected = {
        "spearman": stats.spearmanr(x, y).statistic,
        "kendall_b": stats.kendalltau(x, y).statistic,
        "kendall_c": stats.kendalltau(x, y, variant="c").statistic,
    }
    for name, value in expected.items():
        assert correlation.STATISTIC_FUNCTIONS[name](x, y) == pytest.approx(value, abs=1e-12), name
    if x.std() > 1e-3 * np.abs(x).max() and y.std() > 1e-3 * np.abs(y).max():
        assert correlation.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)


@given(pairs())
@settings(max_examples=50, deadline=None)
def test_rank_statistics_do_not_change_under_a_rising_map(sample):
    x, y = sample
    assume(correlation.undefined(x, y) is None)
    risen = stats.rankdata(x, method="dense") ** 3
    for name in ("spearman", "kendall_b", "kendall_c", "pairwise_accuracy"):
        function = correlation.STATISTIC_FUNCTIONS[name]
        assert function(x, y) == pytest.approx(function(risen, y), abs=1e-12)
        if name != "pairwise_accuracy":
            assert function(-x, y) == pytest.approx(-function(x, y), abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "fewer than 2"),
        ([1], [2], "fewer than 2"),
        ([1, 1], [1, 2], "scores are all"),
        ([1, 2], [3, 3], "ratings are all"),
    ],
)
def test_undefined_figures_have_a_reason(x, y, reason):
    x, y = np.array(x, float), np.array(y, float)
    assert reason in correlation.undefined(x, y)
    for name in ("spearman", "kendall_b", "kendall_c", "pearson", "pearson_logistic"):
        assert np.isnan(correlation.STATISTIC_FUNCTIONS[name](x, y))


def test_pearson_holds_for_very_small_and_very_large_numbers():
    x, y = np.array([1.0, 2, 4]), np.array([1.0, 3, 4])
    expected = stats.pearsonr(x, y).statistic
    assert correlation.pearson(x * 1e-200, y * 1e200) == pytest.approx(expected, abs=1e-12)


def test_the_logistic_straightens_a_bent_scale():
    x = np.linspace(-4, 4, 60)
    y = correlation.logistic(x, 5.0, 1.0, 0.5, 0.4)
    assert correlation.pearson(x, y) < 0.95
    assert correlation.pearson_logistic(x, y) == pytest.approx(1.0, abs=1e-6)


def test_scores_whose_squares_are_no_numbers_end_without_a_warning():
    scores = 1e160 * np.arange(8.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isnan(correlation.pearson_logistic(scores, np.arange(8.0) ** 2))


def test_rmse():
    assert correlation.rmse(np.array([1.0, 2, 3]), np.array([1.0, 2, 5])) == pytest.approx(np.sqrt(4 / 3))


@pytest.mark.parametrize("unit", [1e-300, 1e160, 1e307])
def test_pearson_does_not_depend_on_the_unit(unit):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 9, 50), rng.normal(size=50)
    expected = stats.pearsonr(x, y).statistic
    assert correlation.pearson(x * unit, y) == pytest.approx(expected, abs=1e-12)
    one = Weights(np.ones((1, 50), dtype=np.int64))
    assert pooled_statistics(x * unit, y, np.arange(50), one)["pearson"][0] == pytest.approx(expected, abs=1e-12)
