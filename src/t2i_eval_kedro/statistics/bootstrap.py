"""Resampling of whole groups (prompts, generators, raters) and percentile intervals.

A resample is a count for every group: how often it was drawn with replacement. One table of resamples serves every
judge, so that differences between judges are paired.
"""

from __future__ import annotations

import numpy as np

from t2i_eval_kedro.statistics.kernels import Floats, Ints

MAX_UNDEFINED_FRACTION = 0.05
"""An interval is withheld where the statistic is undefined in more than this fraction of the resamples."""


def resample_counts(groups: int, resamples: int, seed: int) -> Ints:
    """``(resamples, groups)`` counts: each row draws ``groups`` groups with replacement, each equally likely."""
    if groups == 0:
        return np.zeros((resamples, 0), dtype=np.int64)
    rng = np.random.default_rng(seed)
    picked = rng.integers(groups, size=(resamples, groups)) + groups * np.arange(resamples)[:, None]
    return np.bincount(picked.ravel(), minlength=resamples * groups).reshape(resamples, groups)


def percentile_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of ``(resamples,)`` values; NaN twice where too many of them are undefined.

    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3.
    """
    usable = values[np.isfinite(values)]
    if len(usable) == 0 or len(usable) < (1 - MAX_UNDEFINED_FRACTION) * len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
