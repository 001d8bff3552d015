"""Bootstrap draws and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_eval_kedro.statistics import inference_targets
from t2i_eval_kedro.statistics.bootstrap import percentile_interval, resample_counts
from t2i_eval_kedro.statistics.correlation import spearman
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics


def test_draws_are_with_replacement_and_repeatable():
    counts = resample_counts(50, 400, 3)
    assert counts.shape == (400, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert np.array_equal(counts, resample_counts(50, 400, 3))
    assert abs((counts == 0).mean() - np.exp(-1)) < 0.01


def test_an_interval_is_withheld_where_draws_are_undefined():
    values = np.arange(100.0)
    assert percentile_interval(values) == pytest.approx((2.475, 96.525))
    assert percentile_interval(values, 0.5) == pytest.approx((24.75, 74.25))
    values[:10] = np.nan
    assert np.isnan(percentile_interval(values)).all()


def test_the_interval_over_prompts_covers_the_truth():
    # Items of one prompt share an effect: an interval over items would be too narrow.
    rng = np.random.default_rng(0)
    covered, widths, values = 0, [], []
    for seed in range(200):
        prompt = np.repeat(np.arange(60), 5)
        x = rng.normal(size=60)[prompt] + rng.normal(size=300)
        y = rng.normal(size=60)[prompt] + rng.normal(size=300)
        draws = pooled_statistics(x, y, prompt, Weights(resample_counts(60, 200, seed)), ("spearman",))["spearman"]
        low, high = percentile_interval(draws)
        covered += low <= 0 <= high
        widths.append(high - low)
        values.append(spearman(x, y))
    assert 180 <= covered <= 198
    # Its mean width is that of the normal interval with the true standard error.
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.12)


def test_equal_draws_of_raters_are_the_plain_figure():
    rng = np.random.default_rng(0)
    table, x = rng.integers(1, 6, (40, 3)).astype(float), rng.normal(size=40)
    draws = inference_targets.over_raters(x, table, 300, 1, ("spearman",))["spearman"]
    counts = resample_counts(3, 300, 1)
    even = (counts == 1).all(axis=1)
    assert even.any()
    np.testing.assert_allclose(draws[even], spearman(x, table.mean(axis=1)), atol=1e-12)
    first = counts[:, 0] == 3
    np.testing.assert_allclose(draws[first], spearman(x, table[:, 0]), atol=1e-12)


def test_two_way_draws_equal_the_sample_written_out():
    rng = np.random.default_rng(0)
    prompt, generator = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    x, y = rng.normal(size=24), rng.integers(1, 4, 24).astype(float)
    found = inference_targets.over_prompts_and_generators(x, y, prompt, 6, generator, 4, 150, 5, ("spearman",))[
        "spearman"
    ]
    weights = resample_counts(6, 150, 5)[:, prompt] * resample_counts(4, 150, 6)[:, generator]
    for draw in (0, 130, 149):
        np.testing.assert_allclose(
            found[draw], spearman(np.repeat(x, weights[draw]), np.repeat(y, weights[draw])), atol=1e-12
        )
