"""Agreement of two lists of numbers: the judge's scores and the people's ratings of the same items.

Every function takes ``scores`` and ``ratings``, both ``(n,)`` and finite, and returns a float, NaN where the statistic
is not defined; :func:`undefined` says why. Scores are oriented: higher is better.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from scipy import optimize, special, stats

from t2i_eval_kedro.statistics.kernels import Floats, RankSums, lanes, plan, rank_sums, unit_scaled


def undefined(scores: Floats, ratings: Floats) -> str | None:
    """Why no correlation of the two is defined, or None where it is."""
    if len(scores) < 2:
        return "fewer than 2 items have both a score and a rating"
    if np.ptp(scores) == 0:
        return "the scores are all equal"
    if np.ptp(ratings) == 0:
        return "the ratings are all equal"
    return None


def pearson(scores: Floats, ratings: Floats) -> float:
    """Pearson's product-moment correlation, sum of centred products over the root of the product of centred squares."""
    if undefined(scores, ratings):
        return float("nan")
    # Scaled first, so that neither the sum nor the squares of very small or very large values vanish or overflow.
    x, y = unit_scaled(scores), unit_scaled(ratings)
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), -1.0, 1.0))


def spearman(scores: Floats, ratings: Floats) -> float:
    """Spearman's rho: Pearson's correlation of the mid-ranks (tied values share the mean of their ranks)."""
    if undefined(scores, ratings):
        return float("nan")
    return pearson(stats.rankdata(scores), stats.rankdata(ratings))


def kendall_b(scores: Floats, ratings: Floats) -> float:
    """Kendall's tau-b, (C - D) / sqrt((pairs - ties in scores)(pairs - ties in ratings)); Kendall (1945)."""
    return _one(scores, ratings, "kendall_b")


def kendall_c(scores: Floats, ratings: Floats) -> float:
    """Stuart's tau-c, 2 (C - D) / (n^2 (m - 1) / m), m the smaller number of distinct values; Stuart (1953)."""
    return _one(scores, ratings, "kendall_c")


def _one(scores: Floats, ratings: Floats, statistic: str) -> float:
    if undefined(scores, ratings):
        return float("nan")
    return float(getattr(_sums(scores, ratings), statistic)()[0])


def _sums(scores: Floats, ratings: Floats) -> RankSums:
    """The rank sums of the sample as it is: every pair shares one row of weight 1."""
    return rank_sums(plan(scores, ratings, np.zeros(len(scores))), lanes(np.ones((1, 1), dtype=np.uint8)), 1)


def pairwise_accuracy(scores: Floats, ratings: Floats) -> float:
    """Fraction of all pairs of items that the judge orders as people do; a tie counts as right where people tie.

    ``(concordant + tied in both) / pairs``, acc_eq of Deutsch, Foster and Freitag (2023), equation 9.
    """
    if len(scores) < 2:
        return float("nan")
    return float(_sums(scores, ratings).pairwise_accuracy(np.zeros(1))[0])


def logistic(x: Floats, top: float, bottom: float, centre: float, spread: float) -> Floats:
    """The 4-parameter logistic ``bottom + (top - bottom) / (1 + exp(-(x - centre) / |spread|))``."""
    return np.asarray(bottom + (top - bottom) * special.expit((x - centre) / np.abs(spread)))


def _slopes(x: Floats, top: float, bottom: float, centre: float, spread: float) -> Floats:
    """Derivatives of :func:`logistic`, ``(n, 4)``; numeric ones fail where a parameter is near 0."""
    z = (x - centre) / np.abs(spread)
    rise = special.expit(z)
    steep = (top - bottom) * rise * (1 - rise)
    return np.column_stack([rise, 1 - rise, -steep / np.abs(spread), -steep * z / spread])


def fit_logistic(x: Floats, y: Floats, max_evaluations: int = 10_000) -> Floats:
    """``y`` predicted from ``x`` by the least-squares 4-parameter logistic.

    The start is the one common in image-quality assessment: the extremes of ``y``, then the mean and the population
    standard deviation of ``x``.

    Returns:
        ``(n,)`` predicted values; all NaN where the fit does not converge.
    """
    # A curve as steep as a step has no covariance matrix, but its parameters are right.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        start = [y.max(), y.min(), x.mean(), x.std()]
        try:
            parameters, _ = optimize.curve_fit(logistic, x, y, p0=start, jac=_slopes, maxfev=max_evaluations)
        except RuntimeError:
            return np.full(len(x), np.nan)
        return logistic(x, *parameters)


def pearson_logistic(scores: Floats, ratings: Floats) -> float:
    """Pearson's correlation after the scores are mapped to the ratings by the least-squares 4-parameter logistic."""
    if undefined(scores, ratings) or len(scores) < 5:
        return float("nan")
    mapped = fit_logistic(scores, ratings)
    return float("nan") if np.isnan(mapped).any() else pearson(mapped, ratings)


def rmse(scores: Floats, ratings: Floats) -> float:
    """Root of the mean squared difference; it means something only where both are on one scale."""
    return float(np.sqrt(np.mean((scores - ratings) ** 2))) if len(scores) else float("nan")


STATISTIC_FUNCTIONS: Mapping[str, Callable[[Floats, Floats], float]] = MappingProxyType(
    {
        "spearman": spearman,
        "kendall_b": kendall_b,
        "kendall_c": kendall_c,
        "pearson": pearson,
        "pearson_logistic": pearson_logistic,
        "rmse": rmse,
        "pairwise_accuracy": pairwise_accuracy,
    }
)
"""Every statistic over all items, by name."""
