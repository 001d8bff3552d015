"""Inter-rater reliability, and what it lets a judge expect.

Ratings come as a table ``(items, raters)`` with NaN where a rater did not rate an item. Where the source gives
unidentified slots (its first column is not the same person throughout), the columns may not be told apart: only one-way
figures are valid then, and raters are not resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

from t2i_eval_kedro.statistics.correlation import pearson, spearman
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights, pooled_statistics
from t2i_eval_kedro.statistics.ties import keep_ties

MIN_COMMON = 5
"""Fewer common items than this say nothing about two raters."""


@dataclass(frozen=True)
class Icc:
    """Intraclass correlations after Shrout and Fleiss (1979): one way, two way for agreement, two way for consistency.

    ``one``, ``agreement`` and ``consistency`` are ICC(1,1), ICC(2,1) and ICC(3,1). The two-way forms need every rater
    to have rated every item, and are NaN elsewhere.
    """

    one: float
    agreement: float
    consistency: float


def alpha(table: Floats, measurement: Literal["nominal", "ordinal", "interval"] = "interval") -> float:
    """Krippendorff's alpha at a level of ``measurement``; NaN where undefined.

    It is one minus the observed over the expected disagreement, which are sums of squares within items and among all ratings. No table of
    values by values is needed. Ordinal distances are those of mid-ranks; nominal ones are those of an indicator of each value.
    """
    paired = table[np.isfinite(table).sum(axis=1) >= 2]
    if len(paired) == 0 or np.nanmin(paired) == np.nanmax(paired):
        return float("nan")
    present = np.isfinite(paired)
    number, total = present.sum(axis=1), present.sum()
    if measurement == "ordinal":
        paired[present] = stats.rankdata(paired[present])
    places: Iterable[Floats] = [paired]
    if measurement == "nominal":
        places = (np.where(present, paired == value, np.nan) for value in np.unique(paired[present]))
    observed = expected = 0.0
    for place in places:
        means = np.nanmean(place, axis=1, keepdims=True)
        observed += float((number / (number - 1) * np.nansum((place - means) ** 2, axis=1)).sum())
        expected += float(total / (total - 1) * np.nansum((place - np.nanmean(place)) ** 2))
    return 1 - _ratio(observed, expected)


def fleiss(table: Floats) -> float:
    """Fleiss' kappa of the ratings as categories, on items with the usual number of ratings; NaN where undefined."""
    number = np.isfinite(table).sum(axis=1)
    usual = _usual(number)
    if usual < 2:
        return float("nan")
    rows = table[number == usual]
    values = np.unique(rows[np.isfinite(rows)])
    if len(values) < 2:
        return float("nan")
    return float(fleiss_kappa(np.stack([(rows == value).sum(axis=1) for value in values], axis=1)))


def weighted_kappas(table: Floats) -> Floats:
    """Cohen's kappa with quadratic weights of every pair of raters with enough common items, ``(pairs,)``.

    The weights are squared differences of the ratings themselves (Cohen 1968), also where a point of the scale was never
    used: 1, 2 and 5 are not equally spaced.
    """
    values = np.unique(table[np.isfinite(table)])
    out = []
    for a, b in combinations(range(table.shape[1]), 2):
        both = np.isfinite(table[:, a]) & np.isfinite(table[:, b])
        if both.sum() < MIN_COMMON:
            continue
        counts = np.zeros((len(values), len(values)))
        np.add.at(counts, (np.searchsorted(values, table[both, a]), np.searchsorted(values, table[both, b])), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = (
                cohens_kappa(counts, weights=values, wt="quadratic", return_results=False)
                if len(values) > 1
                else np.nan
            )
        out.append(float(kappa))
    return np.array(out)


def icc(table: Floats) -> Icc:
    """Intraclass correlations of single ratings.

    ICC(1) uses every item with two ratings or more, with ``n0 = (N - sum k_i^2 / N) / (n - 1)`` for unequal numbers
    (Searle, Casella and McCulloch 1992, "Variance Components", section 3.6).
    """
    rows = table[np.isfinite(table).sum(axis=1) >= 2]
    n = len(rows)
    if n < 2:
        return Icc(float("nan"), float("nan"), float("nan"))
    number = np.isfinite(rows).sum(axis=1)
    total = number.sum()
    means = np.nanmean(rows, axis=1)
    between = float((number * (means - np.nansum(rows) / total) ** 2).sum() / (n - 1))
    within = float(np.nansum((rows - means[:, None]) ** 2) / (total - n))
    each = (total - (number**2).sum() / total) / (n - 1)
    one = _ratio(between - within, between + (each - 1) * within)
    k = rows.shape[1]
    if number.min() < k or n < len(table):
        return Icc(one, float("nan"), float("nan"))
    columns = float(n * ((rows.mean(axis=0) - rows.mean()) ** 2).sum() / (k - 1))
    left = rows - rows.mean(axis=0) - means[:, None] + rows.mean()
    error = float((left**2).sum() / ((n - 1) * (k - 1)))
    agreement = _ratio(between - error, between + (k - 1) * error + k * (columns - error) / n)
    return Icc(one, agreement, _ratio(between - error, between + (k - 1) * error))


def spearman_brown(reliability: Floats, raters: float) -> Floats:
    """Reliability of the mean of ``raters`` ratings, ``k r / (1 + (k - 1) r)``; NaN where one rater has none (r <= 0)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reliability > 0, raters * reliability / (1 + (raters - 1) * reliability), np.nan)


def single_reliability(
    table: Floats, statistic: str, unidentified: bool, row: Ints | None = None, weights: Weights | None = None
) -> Floats:
    """Single-rater reliability: how well one rater's ratings predict another's, ``(weightings,)``.

    The mean correlation of all pairs of raters, weighted by their common items; for unidentified slots ICC(1), of the
    ratings for Pearson and of their mid-ranks among all ratings for Spearman.

    Args:
        table: ``(n, raters)`` ratings, NaN where missing.
        statistic: ``spearman`` or ``pearson``.
        unidentified: whether the columns are slots that cannot be told apart.
        row: ``(n,)`` weight row of each item; by default all items share one.
        weights: table of weightings; by default one of all ones.
    """
    row = np.zeros(len(table), dtype=np.int64) if row is None else row
    weights = Weights(np.ones((1, int(row.max(initial=0)) + 1), dtype=np.int64)) if weights is None else weights
    if unidentified:
        values = table
        if statistic == "spearman":
            values = np.full_like(table, np.nan)
            values[np.isfinite(table)] = stats.rankdata(table[np.isfinite(table)])
        return _icc_one(values, row, weights)
    total, size = np.zeros(weights.n_weightings), np.zeros(weights.n_weightings)
    for a, b in combinations(range(table.shape[1]), 2):
        both = np.isfinite(table[:, a]) & np.isfinite(table[:, b])
        if both.sum() < MIN_COMMON:
            continue
        value = pooled_statistics(table[both, a], table[both, b], row[both], weights, (statistic,))[statistic]
        common = weights.sums(np.ones((int(both.sum()), 1)), row[both])[:, 0]
        total += np.where(np.isfinite(value), value * common, 0.0)
        size += np.where(np.isfinite(value), common, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / size)


def _icc_one(table: Floats, row: Ints, weights: Weights) -> Floats:
    """ICC(1) under every weighting, as in :func:`icc`."""
    number = np.isfinite(table).sum(axis=1)
    kept = number >= 2
    if kept.sum() < 2:
        return np.full(weights.n_weightings, np.nan)
    values, number = table[kept] - np.nanmean(table[kept]), number[kept].astype(float)
    means = np.nanmean(values, axis=1)
    inside = np.nansum((values - means[:, None]) ** 2, axis=1)
    columns = [np.ones_like(number), number, number**2, number * means, number * means**2, inside]
    n, total, squares, first, second, within = weights.sums(np.column_stack(columns), row[kept]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        between, within = (second - first**2 / total) / (n - 1), within / (total - n)
        each = (total - squares / total) / (n - 1)
        bottom = between + (each - 1) * within
        return np.where(bottom > 0, (between - within) / bottom, np.nan)


def noise_ceiling(
    table: Floats, statistic: str, unidentified: bool, row: Ints | None = None, weights: Weights | None = None
) -> Floats:
    """The highest correlation with the mean of these raters that a judge can expect: the root of that mean's
    reliability, ``(weightings,)``; NaN where the raters do not agree.

    ``sqrt(k r / (1 + (k - 1) r))`` with the reliability r of one rater and k the harmonic mean of the number of ratings
    an item. A judge that knew what an unlimited number of such raters would say on average would reach it (Spearman
    1904); for Spearman's rho it is an approximation. Arguments as for :func:`single_reliability`.
    """
    number = np.isfinite(table).sum(axis=1)
    number = number[number > 0]
    single = single_reliability(table, statistic, unidentified, row, weights)
    return np.asarray(np.sqrt(spearman_brown(single, len(number) / (1 / number).sum() if len(number) else 1.0)))


def constant_raters(table: Floats) -> npt.NDArray[np.bool_]:
    """``(raters,)`` whether a rater rated enough items and gave one value to all of them."""
    number = np.isfinite(table).sum(axis=0)
    largest, lowest = (
        f(np.where(np.isfinite(table), table, -s * np.inf), axis=0) for f, s in ((np.max, 1), (np.min, -1))
    )
    return np.asarray((number >= MIN_COMMON) & (largest == lowest))


def reversed_raters(table: Floats, alpha: float = 0.01) -> npt.NDArray[np.bool_]:
    """``(raters,)`` whether a rater's Spearman correlation with the mean of the others is significantly negative.

    One-sided, by Fisher's transform with the standard error ``1.03 / sqrt(n - 3)`` (Fieller, Hartley and Pearson 1957).
    Items are taken as independent, which errs on the side of naming a rater.
    """
    out = np.zeros(table.shape[1], dtype=bool)
    for r in range(table.shape[1]):
        others = np.delete(table, r, axis=1)
        kept = np.isfinite(table[:, r]) & np.isfinite(others).any(axis=1)
        n = int(kept.sum())
        if n < MIN_COMMON:
            continue
        value = spearman(table[kept, r], keep_ties(np.nanmean(others[kept], axis=1)))
        out[r] = np.isfinite(value) and np.arctanh(min(max(value, -0.999999), 0.999999)) < -stats.norm.isf(
            alpha
        ) * 1.03 / np.sqrt(n - 3)
    return out


def leave_one_rater_out(table: Floats, statistic: str, judge: Floats | None = None) -> tuple[Floats, Floats]:
    """Each rater against the mean of the others, and the judge against the same mean, both ``(raters,)``.

    Only items count that this rater and at least one other rated (and the judge scored, for both figures, where a judge
    is given); NaN where there are too few.

    Args:
        table: ``(n, raters)``.
        statistic: ``spearman`` or ``pearson``.
        judge: ``(n,)`` scores, NaN where missing.
    """
    function = _function(statistic)
    of_rater, of_judge = np.full(table.shape[1], np.nan), np.full(table.shape[1], np.nan)
    for r in range(table.shape[1]):
        others = np.delete(table, r, axis=1)
        number = np.isfinite(others).sum(axis=1)
        kept = np.isfinite(table[:, r]) & (number > 0)
        if judge is not None:
            kept &= np.isfinite(judge)
        if kept.sum() < MIN_COMMON:
            continue
        mean = keep_ties(np.nanmean(others[kept], axis=1))
        of_rater[r] = function(table[kept, r], mean)
        if judge is not None:
            of_judge[r] = function(judge[kept], mean)
    return of_rater, of_judge


def _function(statistic: str) -> Callable[[Floats, Floats], float]:
    return {"spearman": spearman, "pearson": pearson}[statistic]


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else float("nan")


def _usual(number: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    present = number[number > 0]
    return int(np.bincount(present).argmax()) if len(present) else 0
