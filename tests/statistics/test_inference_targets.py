"""Bootstrap draws and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from t2i_eval_kedro.statistics import inference_targets
from t2i_eval_kedro.statistics.bootstrap import percentile_interval, resample_counts
from t2i_eval_kedro.statistics.correlation import spearman
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics


def test_counts_take_a_byte_and_the_same_picks_as_in_one_call():
    counts = resample_counts(300, 20, 4)
    picked = np.random.default_rng(4).integers(300, size=(20, 300))
    assert counts.dtype == np.uint8
    assert np.array_equal(counts, [np.bincount(row, minlength=300) for row in picked])
    assert resample_counts(1, 3, 0).tolist() == [[1], [1], [1]]
    assert resample_counts(0, 3, 0).shape == (3, 0)


def test_draws_are_with_replacement_and_repeatable():
    counts = resample_counts(50, 400, 3)
    assert counts.shape == (400, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert np.array_equal(counts, resample_counts(50, 400, 3))
    assert abs((counts == 0).mean() - np.exp(-1)) < 0.01


def test_with_many_groups_the_interval_is_the_percentile_interval():
    values = np.arange(100.0)
    assert percentile_interval(values, 0.95, 10**6) == pytest.approx((2.475, 96.525), abs=1e-3)
    assert percentile_interval(values, 0.5, 10**6) == pytest.approx((24.75, 74.25), abs=1e-3)


def test_with_few_groups_the_interval_of_a_mean_is_that_of_students_t():
    # The bootstrap distribution of a mean is close to normal with the standard error s / sqrt(G) times sqrt((G - 1) / G).
    rng = np.random.default_rng(0)
    sample = rng.normal(size=8)
    means = rng.choice(sample, size=(200_000, 8)).mean(axis=1)
    low, high = percentile_interval(means, 0.95, 8)
    t = stats.t.interval(0.95, 7, sample.mean(), stats.sem(sample))
    assert high - low == pytest.approx(t[1] - t[0], rel=0.1)
    plain = np.quantile(means, [0.025, 0.975])
    assert plain[1] - plain[0] < 0.82 * (t[1] - t[0])


def test_an_interval_is_withheld_where_resamples_are_undefined_or_groups_are_few():
    values = np.arange(100.0)
    assert np.isfinite(percentile_interval(values, 0.95, 8)).all()
    assert np.isnan(percentile_interval(values, 0.95, 7)).all()
    values[:10] = np.nan
    assert np.isnan(percentile_interval(values, 0.95, 100)).all()


def test_the_interval_over_prompts_covers_the_truth():
    # Items of one prompt share an effect: an interval over items would be too narrow.
    rng = np.random.default_rng(0)
    covered, widths, values = 0, [], []
    for seed in range(200):
        prompt = np.repeat(np.arange(60), 5)
        x = rng.normal(size=60)[prompt] + rng.normal(size=300)
        y = rng.normal(size=60)[prompt] + rng.normal(size=300)
        draws = pooled_statistics(x, y, prompt, Weights(resample_counts(60, 200, seed)), ("spearman",))["spearman"]
        low, high = percentile_interval(draws, 0.95, 60)
        covered += low <= 0 <= high
        widths.append(high - low)
        values.append(spearman(x, y))
    assert 180 <= covered <= 198
    # Its mean width is that of the normal interval with the true standard error.
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.12)


def panel(quality, raters, rng):
    """Ratings 1 to 5 of one panel; each rater is lenient or strict in their own way."""
    noise = rng.normal(size=(len(quality), raters))
    return np.clip(np.round(3 + quality[:, None] + 0.3 * rng.normal(size=raters) + noise), 1, 5)


def test_the_interval_over_raters_is_the_jackknife_of_the_fisher_transform():
    rng = np.random.default_rng(0)
    quality = rng.normal(size=80)
    table, x = panel(quality, 5, rng), quality + rng.normal(size=80)
    low, high = inference_targets.over_raters(x, table, 0.95, ("pearson",))["pearson"]
    z = np.arctanh(np.corrcoef(x, table.mean(axis=1))[0, 1])
    without = [np.arctanh(np.corrcoef(x, np.delete(table, r, axis=1).mean(axis=1))[0, 1]) for r in range(5)]
    reach = stats.t.ppf(0.975, 4) * np.sqrt(4 * np.var(without))
    assert (low, high) == (pytest.approx(np.tanh(z - reach), abs=1e-9), pytest.approx(np.tanh(z + reach), abs=1e-9))


@pytest.mark.slow
@pytest.mark.parametrize("raters", [3, 5, 9])
def test_the_interval_over_raters_covers_what_other_panels_say(raters):
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, raters])
        quality = rng.normal(size=120)
        x = quality + rng.normal(size=120)
        truth = np.mean([spearman(x, panel(quality, raters, rng).mean(axis=1)) for _ in range(30)])
        low, high = inference_targets.over_raters(x, panel(quality, raters, rng), 0.95, ("spearman",))["spearman"]
        covered += low <= truth <= high
    assert covered >= 85  # a bootstrap of raters covers it in 54 to 61 of 100


def test_items_that_only_one_rater_rated_are_left_out_without_that_rater():
    rng = np.random.default_rng(1)
    quality = rng.normal(size=60)
    table = panel(quality, 4, rng)
    table[:10, 1:] = np.nan
    low, high = inference_targets.over_raters(quality, table, 0.95, ("spearman",))["spearman"]
    assert low < spearman(quality, np.nanmean(table, axis=1)) < high


def test_the_interval_over_prompts_and_generators_counts_the_noise_of_items_once():
    rng = np.random.default_rng(0)
    sd = {"prompts": 0.05, "generators": 0.12, "items": 0.04}
    z = 0.6
    drawn = {name: np.tanh(z + spread * rng.normal(size=20_000)) for name, spread in sd.items()}
    low, high = inference_targets.over_prompts_and_generators(
        np.r_[np.tanh(z), drawn["prompts"]], drawn["generators"], drawn["items"], 40, 10, 0.95
    )
    variance = 0.05**2 * 40 / 39 + 0.12**2 * 10 / 9 - 0.04**2 * 400 / 399
    freedom = variance**2 / ((0.05**2 * 40 / 39) ** 2 / 39 + (0.12**2 * 10 / 9) ** 2 / 9)
    reach = stats.t.isf(0.025, freedom) * np.sqrt(variance)
    assert (low, high) == (pytest.approx(np.tanh(z - reach), abs=0.01), pytest.approx(np.tanh(z + reach), abs=0.01))
    none = inference_targets.over_prompts_and_generators(
        np.r_[np.tanh(z), drawn["prompts"]], drawn["generators"], drawn["items"], 40, 7, 0.95
    )
    assert np.isnan(none).all()


def test_the_interval_over_groups_is_students_on_the_transformed_scale():
    z = 0.5 + 0.1 * np.random.default_rng(1).normal(size=20_000)
    low, high = inference_targets.over_groups(np.tanh(0.5), np.tanh(z), 12, 0.9)
    reach = stats.t.isf(0.05, 11) * 0.1 * np.sqrt(12 / 11)
    assert (low, high) == (
        pytest.approx(np.tanh(0.5 - reach), abs=0.003),
        pytest.approx(np.tanh(0.5 + reach), abs=0.003),
    )
    for nothing in (
        inference_targets.over_groups(1.0, np.tanh(z), 12, 0.9),
        inference_targets.over_groups(0.5, np.full(100, np.nan), 12, 0.9),
        inference_targets.over_groups(0.5, np.tanh(z), 7, 0.9),
    ):
        assert np.isnan(nothing).all()


def test_an_interval_never_excludes_its_own_estimate():
    values = np.linspace(0.90, 0.977, 500)
    low, high = percentile_interval(values, 0.95, 30, 0.98)
    assert low == percentile_interval(values, 0.95, 30)[0]
    assert high == 0.98
    assert percentile_interval(values, 0.95, 30, 0.95) == percentile_interval(values, 0.95, 30)


def test_the_degrees_of_freedom_are_those_of_welch_and_satterthwaite():
    rng = np.random.default_rng(0)
    z, groups = 0.6, 10
    prompts, generators, items = (np.tanh(z + spread * rng.normal(size=50_000)) for spread in (0.2, 0.2, 0.05))
    low, high = inference_targets.over_prompts_and_generators(
        np.r_[np.tanh(z), prompts], generators, items, groups, groups, 0.95
    )
    one = 0.2**2 * 10 / 9
    variance = 2 * one - 0.05**2 * 100 / 99
    freedom = variance**2 / (2 * one**2 / 9)
    assert freedom > 16  # and not the 9 of the fewest groups, whose interval is .05 wider
    reach = stats.t.isf(0.025, freedom) * np.sqrt(variance)
    assert np.arctanh(high) - np.arctanh(low) == pytest.approx(2 * reach, rel=0.01)
