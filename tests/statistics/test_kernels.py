"""The weighted rank walk equals scipy on the sample written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from t2i_eval_kedro.statistics.kernels import LANES, lanes, plan, rank_sums
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics


@st.composite
def weighted_samples(draw):
    n = draw(st.integers(1, 25))
    value = st.integers(0, draw(st.integers(1, 30)))
    x = draw(st.lists(value, min_size=n, max_size=n))
    y = draw(st.lists(value, min_size=n, max_size=n))
    rows = draw(st.integers(1, n))
    row = draw(st.lists(st.integers(0, rows - 1), min_size=n, max_size=n))
    table = draw(st.lists(st.lists(st.integers(0, 3), min_size=rows, max_size=rows), min_size=1, max_size=3))
    width = draw(st.sampled_from([np.uint8, np.int64]))  # a byte takes a way of its own
    return np.array(x, float), np.array(y, float), np.array(row), np.array(table, width)


@settings(max_examples=150, deadline=None)
@given(weighted_samples())
@pytest.mark.filterwarnings("ignore")
def test_equals_scipy_on_the_sample_written_out(sample):
    x, y, row, table = sample
    found = pooled_statistics(x, y, row, Weights(table))
    for draw, weights in enumerate(table):
        copies = weights[row]
        a, b = np.repeat(x, copies), np.repeat(y, copies)
        if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
            assert all(np.isnan(found[name][draw]) for name in ("spearman", "kendall_b", "kendall_c", "pearson"))
            continue
        expected = {
            "spearman": stats.spearmanr(a, b).statistic,
            "kendall_b": stats.kendalltau(a, b).statistic,
            "kendall_c": stats.kendalltau(a, b, variant="c").statistic,
            "pearson": stats.pearsonr(a, b).statistic,
            "rmse": np.sqrt(np.mean((a - b) ** 2)),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][draw], value, rtol=0, atol=1e-12, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(weighted_samples())
def test_pair_counts_equal_counting_every_pair(sample):
    x, y, row, table = sample
    sums = rank_sums(plan(x, y, row), lanes(table), len(table))
    right = sums.pairwise_accuracy((table * (table - 1) // 2) @ np.bincount(row, minlength=table.shape[1]))
    for draw, weights in enumerate(table):
        w = weights[row].astype(int)  # products of bytes would wrap around
        tied_x = tied_y = tied_xy = discordant = agreeing = pairs = 0
        for i in range(len(x)):
            for j in range(i):
                both = w[i] * w[j]
                pairs += both
                agreeing += both * (np.sign(x[i] - x[j]) == np.sign(y[i] - y[j]))
                discordant += both * ((x[i] - x[j]) * (y[i] - y[j]) < 0)
                tied_x += both * (x[i] == x[j])
                tied_y += both * (y[i] == y[j])
                tied_xy += both * (x[i] == x[j] and y[i] == y[j])
        own = int((w * (w - 1) // 2).sum())
        assert sums.discordant[draw] == discordant
        assert (sums.tied_x[draw], sums.tied_y[draw], sums.tied_xy[draw]) == (tied_x + own, tied_y + own, tied_xy + own)
        if pairs:
            assert right[draw] == pytest.approx(agreeing / pairs, abs=1e-12)
        else:
            assert np.isnan(right[draw])


@pytest.mark.parametrize("levels", [9, 10**6])
def test_samples_above_the_16_bit_limit_equal_scipy(levels):
    # Ranks and codes of 32,768 and more distinct values no longer fit 16 bits.
    rng = np.random.default_rng(1)
    x = rng.integers(0, levels, 40_000).astype(float)
    y = np.round(x / levels + 0.3 * rng.normal(size=40_000), 1 if levels == 9 else 12)
    found = pooled_statistics(x, y, np.zeros(40_000, dtype=int), Weights(np.ones((1, 1), dtype=np.int64)))
    assert found["spearman"][0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found["kendall_b"][0] == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found["kendall_c"][0] == pytest.approx(stats.kendalltau(x, y, variant="c").statistic, abs=1e-12)
    assert found["pearson"][0] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)


def test_more_weightings_than_lanes_are_kept_apart():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=30), rng.normal(size=30)
    table = rng.integers(0, 3, size=(LANES + 7, 30))
    many = pooled_statistics(x, y, np.arange(30), Weights(table), ("kendall_b",))["kendall_b"]
    for draw in (0, LANES - 1, LANES, LANES + 6):
        one = pooled_statistics(x, y, np.arange(30), Weights(table[draw : draw + 1]), ("kendall_b",))["kendall_b"]
        assert many[draw] == one[0]
