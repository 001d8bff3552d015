"""Resampling of whole groups (prompts, generators) and percentile intervals.

A resample is a count for every group: how often it was drawn with replacement. One table of resamples serves every
judge, so that differences between judges are paired.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from t2i_eval_kedro.statistics.kernels import Floats, Ints

MAX_UNDEFINED_FRACTION = 0.05
"""An interval is withheld where the statistic is undefined in more than this fraction of the resamples."""

MIN_GROUPS = 5
"""Fewest groups for an interval. Simulated coverage at nominal 95% (``perf/results/coverage.json``, standard error 1.5 points): about
50% for 2 groups and 80% for 3; from 5 on 89% to 98%, where plain percentiles have 85% to 96%."""


def resample_counts(groups: int, resamples: int, seed: int) -> Ints:
    """``(resamples, groups)`` counts: each row draws ``groups`` groups with replacement, each equally likely."""
    if groups == 0:
        return np.zeros((resamples, 0), dtype=np.int64)
    rng = np.random.default_rng(seed)
    picked = rng.integers(groups, size=(resamples, groups)) + groups * np.arange(resamples)[:, None]
    return np.bincount(picked.ravel(), minlength=resamples * groups).reshape(resamples, groups)


def percentile_interval(
    values: Floats, confidence: float, groups: int, estimate: float | None = None
) -> tuple[float, float]:
    """The expanded percentile interval of ``(resamples,)`` values; NaN twice where there is none.

    The plain percentile interval is too narrow where few groups are resampled: it leaves out the factor
    ``sqrt(G / (G - 1))`` and takes normal quantiles for Student's t. The expanded one reads the quantiles at
    ``Phi(-t sqrt(G / (G - 1)))`` with t of G - 1 degrees of freedom (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", section 4.1.4); from about 50 groups on the two agree.

    Args:
        values: statistic in each resample, NaN where undefined.
        confidence: confidence level, such as 0.95.
        groups: number G of groups that were resampled; below :data:`MIN_GROUPS` there is no interval.
        estimate: value of the statistic itself. Near the end of its range all resamples may lie below it; the interval is then
            extended to it, as an interval that excludes its own estimate says nothing that can be believed.
    """
    usable = values[np.isfinite(values)]
    if groups < MIN_GROUPS or len(usable) == 0 or len(usable) < (1 - MAX_UNDEFINED_FRACTION) * len(values):
        return float("nan"), float("nan")
    tail = special.ndtr(-special.stdtrit(groups - 1, (1 + confidence) / 2) * np.sqrt(groups / (groups - 1)))
    low, high = np.quantile(usable, [tail, 1 - tail])
    if estimate is not None and np.isfinite(estimate):
        low, high = min(low, estimate), max(high, estimate)
    return float(low), float(high)
