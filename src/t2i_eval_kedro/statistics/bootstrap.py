"""Resampling of whole groups (prompts, generators) and percentile intervals.

A resample is a count for every group: how often it was drawn with replacement. One table of resamples serves every
judge, so that differences between judges are paired.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from t2i_eval_kedro.statistics.kernels import Counts, Floats

MAX_UNDEFINED_FRACTION = 0.05
"""An interval is withheld where the statistic is undefined in more than this fraction of the resamples."""

MIN_GROUPS = 8
"""Fewest groups for an interval. Simulated coverage at nominal 95% (``perf/results/coverage.json``): from 8 on 93% to 97%; averages within
prompts have 87% to 93% with 5 to 7, statistics over all items 81% to 93% with 4."""


def resample_counts(groups: int, resamples: int, seed: int) -> Counts:
    """``(resamples, groups)`` counts: each row draws ``groups`` groups with replacement, each equally likely.

    One byte a count, unless one is above 255.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros((resamples, groups), dtype=np.uint8)
    for place in range(resamples if groups else 0):  # row by row: the picks of all rows would take 8 bytes each
        counts = np.bincount(rng.integers(groups, size=groups), minlength=groups)
        if counts.max() > np.iinfo(out.dtype).max:
            out = out.astype(np.int64)
        out[place] = counts
    return out


def with_sample(counts: Counts) -> Counts:
    """``(1 + resamples, groups)``: every group once, which is the sample itself, then the resamples."""
    return np.vstack([np.ones((1, counts.shape[1]), dtype=counts.dtype), counts])


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
