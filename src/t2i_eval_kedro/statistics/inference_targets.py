"""Intervals for other targets than new prompts: new generators, new raters, new prompts and generators at once.

* Generators: from the variance over resampled whole generators. With fewer than 8 there is no interval.
* Raters: jackknife over whole raters, with the gold averaged anew. Raters must be identified persons; at least 3.
* Prompts and generators: from the variances over each. A bootstrap of both at once, in which an item counts with the product of both
  counts, is too wide: noise of single items enters up to three times (McCullagh 2000; Owen 2007, "The pigeonhole bootstrap"); it
  covered 99.8% of 500 simulated values at nominal 95%.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from t2i_eval_kedro.statistics.bootstrap import MAX_UNDEFINED_FRACTION, MIN_GROUPS, resample_counts
from t2i_eval_kedro.statistics.correlation import STATISTIC_FUNCTIONS
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.ties import keep_ties

MIN_RATERS = 3
"""Fewest raters for an interval over raters. Simulated coverage at nominal 95% (``perf/results/coverage.json``, standard error 1 point):
93% to 96% for 3 to 27 raters, where a bootstrap of raters has 45% to 85%; with 2 it is as wide as the scale."""

ITEM_RESAMPLES = 200
"""Most resamples of single items: every item has a count of its own in each."""


def over_generators(
    x: Floats, y: Floats, generator: Ints, generators: int, resamples: int, seed: int, names: tuple[str, ...]
) -> dict[str, Floats]:
    """Statistics under a bootstrap of whole generators, each ``(resamples,)``; items of no generator are left out."""
    kept = generator >= 0
    weights = Weights(resample_counts(generators, resamples, seed))
    return pooled_statistics(x[kept], y[kept], generator[kept], weights, names)


def over_prompts_and_generators(
    by_prompts: Floats, by_generators: Floats, by_items: Floats, prompts: int, generators: int, confidence: float
) -> tuple[float, float]:
    """The interval of a correlation for new prompts and new generators at once; NaN twice where there is none.

    ``z +- t sqrt(V_prompts + V_generators - V_items)``: the variances of its Fisher transform z over resampled prompts and over resampled
    generators hold the noise of single items twice, so that of resampled items is taken off once (Cameron, Gelbach and Miller 2011,
    "Robust Inference With Multiway Clustering", equation 2.13). Each is multiplied by G / (G - 1) for its G groups; t has the degrees of
    freedom of Welch and Satterthwaite (1946), ``V^2 / (V_prompts^2 / (P - 1) + V_generators^2 / (G - 1))``.

    Args:
        by_prompts: ``(1 + B,)`` the estimate, then its resamples over prompts.
        by_generators: ``(B,)`` resamples over generators.
        by_items: ``(B,)`` resamples over items.
        prompts: number of prompts.
        generators: number of generators.
        confidence: confidence level, such as 0.95.
    """
    fewest = min(prompts, generators)
    over_prompts, over_generators = _variance(by_prompts[1:], prompts), _variance(by_generators, generators)
    total = over_prompts + over_generators - _variance(by_items, prompts * generators)
    if not np.isfinite(total):
        return float("nan"), float("nan")
    total = max(
        total, over_prompts, over_generators
    )  # by chance the difference may be less than one of the two, which cannot be
    noise = over_prompts**2 / (prompts - 1) + over_generators**2 / (generators - 1)
    freedom = max(total**2 / noise, fewest - 1) if noise > 0 else fewest - 1
    return _transformed_interval(float(by_prompts[0]), total, fewest, freedom, confidence)


def over_groups(estimate: float, resampled: Floats, groups: int, confidence: float) -> tuple[float, float]:
    """The interval of a correlation for new groups, ``z +- t sqrt(V G / (G - 1))``; NaN twice where there is none.

    V is the variance of its Fisher transform z over the resamples ``(B,)`` of ``groups`` groups G, t has G - 1 degrees of freedom. Of few
    groups of many items it covers more than quantiles of the resamples do.
    """
    return _transformed_interval(estimate, _variance(resampled, groups), groups, groups - 1, confidence)


def _variance(resampled: Floats, groups: int) -> float:
    """``G / (G - 1)`` times the variance of the Fisher transform; NaN where too many resamples are undefined."""
    usable = resampled[np.isfinite(resampled)]
    if groups < 2 or len(usable) < max((1 - MAX_UNDEFINED_FRACTION) * len(resampled), 2):
        return float("nan")
    transformed = np.arctanh(np.clip(usable, -1 + 1e-9, 1 - 1e-9))
    return float(transformed.var(ddof=1)) * groups / (groups - 1)


def _transformed_interval(
    estimate: float, variance: float, groups: int, freedom: float, confidence: float
) -> tuple[float, float]:
    if groups < MIN_GROUPS or not abs(estimate) < 1 - 1e-12 or not np.isfinite(variance):
        return float("nan"), float("nan")
    reach = special.stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(variance)
    return float(np.tanh(np.arctanh(estimate) - reach)), float(np.tanh(np.arctanh(estimate) + reach))


def over_items(x: Floats, y: Floats, resamples: int, seed: int, names: tuple[str, ...]) -> dict[str, Floats]:
    """Statistics under a bootstrap of single items, each ``(resamples,)``."""
    return pooled_statistics(x, y, np.arange(len(x)), Weights(resample_counts(len(x), resamples, seed)), names)


def over_raters(x: Floats, table: Floats, confidence: float, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Intervals of statistics for another panel of as many raters of the same items, by the jackknife over raters.

    ``z +- t sqrt((R - 1) / R sum (z_r - mean z_r)^2)`` with z the Fisher transform of the statistic, z_r that without rater r,
    and t of R - 1 degrees of freedom (Efron and Tibshirani 1993, section 11.2; Tukey 1958). A bootstrap of raters would not do:
    a resample has about a third fewer raters, whose mean is noisier, so that all resamples lie below the estimate.

    Args:
        x: ``(n,)`` scores, NaN where missing.
        table: ``(n, raters)`` ratings, NaN where missing.
        confidence: confidence level.
        names: correlations, any of :data:`~t2i_eval_kedro.statistics.correlation.STATISTIC_FUNCTIONS`.

    Returns:
        Statistic -> low and high; NaN where the statistic is undefined or 1 with all raters or without one of them.
    """
    table = table[:, np.isfinite(table).any(axis=0)]
    raters = table.shape[1]
    filled, present = np.nan_to_num(table), np.isfinite(table)
    total, number = filled.sum(axis=1), present.sum(axis=1)

    def transformed(total: Floats, number: Ints) -> list[float]:
        kept = (number > 0) & np.isfinite(x)
        gold = keep_ties(total[kept] / number[kept])
        values = [STATISTIC_FUNCTIONS[name](x[kept], gold) for name in names]
        return [float(np.arctanh(v)) if abs(v) < 1 - 1e-12 else float("nan") for v in values]

    whole = np.array(transformed(total, number))
    without = np.array([transformed(total - filled[:, r], number - present[:, r]) for r in range(raters)])
    error = np.sqrt((raters - 1) / raters * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = special.stdtrit(raters - 1, (1 + confidence) / 2) * error
    return {
        name: (float(np.tanh(z - r)), float(np.tanh(z + r))) for name, z, r in zip(names, whole, reach, strict=True)
    }
