"""Resampling of whole groups (prompts, generators, raters) and percentile intervals.

A draw is a count for every group: how often it was drawn with replacement. One table of draws serves every judge, so
that differences between judges are paired.
"""

from __future__ import annotations

import numpy as np

from t2i_eval_kedro.statistics.kernels import Floats, Ints

UNDEFINED_SHARE = 0.05
"""An interval is withheld where the figure is undefined in more than this share of the draws."""


def draw_counts(groups: int, draws: int, seed: int) -> Ints:
    """``(draws, groups)`` counts: each row draws ``groups`` groups with replacement, each equally likely."""
    if groups == 0:
        return np.zeros((draws, 0), dtype=np.int64)
    rng = np.random.default_rng(seed)
    picked = rng.integers(groups, size=(draws, groups)) + groups * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * groups).reshape(draws, groups)


def percentile_interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of ``(draws,)`` values; NaN twice where too many of them are undefined.

    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3.
    """
    usable = values[np.isfinite(values)]
    if len(usable) == 0 or len(usable) < (1 - UNDEFINED_SHARE) * len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
