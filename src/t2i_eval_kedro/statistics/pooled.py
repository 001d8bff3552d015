"""Statistics pooled over all items, under many weightings of the items: bootstrap resamples, permutations, or one.

Rank statistics come from the sorted walk of :mod:`~t2i_eval_kedro.statistics.kernels`; everything that is a sum over
items is summed once a weight row and multiplied with the table of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from t2i_eval_kedro.statistics.correlation import STATISTIC_FUNCTIONS
from t2i_eval_kedro.statistics.kernels import Counts, Floats, Ints, LaidOut, lanes, plan, rank_sums, unit_scaled

POOLED_STATISTICS = ("spearman", "kendall_b", "kendall_c", "pearson", "rmse", "pairwise_accuracy")
"""The statistics that :func:`pooled_statistics` computes for all weightings at once."""

BLOCK = 1 << 22
"""Most weights that are held as floats at once."""


@dataclass(frozen=True)
class Weights:
    """A table of whole-number weights, ``(weightings, rows)``; every pair (score, rating) names the row that weights it."""

    table: Counts

    @cached_property
    def laid_out(self) -> LaidOut:
        """The table in the layout of the walk."""
        return lanes(self.table)

    @property
    def n_weightings(self) -> int:
        """Number of weightings."""
        return int(self.table.shape[0])

    def sums(self, values: Floats, row: Ints) -> Floats:
        """``(weightings, k)`` weighted column sums of ``values`` ``(n, k)``."""
        rows = self.table.shape[1]
        by_row = [np.bincount(row, weights=column, minlength=rows) for column in values.T]
        return self.product(np.column_stack(by_row))

    def product(self, values: Floats | Ints) -> Floats:
        """``(weightings, k)`` matrix product of the table and ``values`` ``(rows, k)``."""
        return integer_product(self.table, values)


def integer_product(table: Counts, values: Floats | Ints) -> Floats:
    """``table @ values``, with a few rows of ``table`` as floats at a time: the whole would take eight times its memory."""
    rows = max(1, BLOCK // max(1, table.shape[1]))
    out = np.empty((len(table), *values.shape[1:]))
    for begin in range(0, len(table), rows):
        out[begin : begin + rows] = table[begin : begin + rows].astype(float) @ values
    return out


def pooled_statistics(
    x: Floats, y: Floats, row: Ints, weights: Weights, names: tuple[str, ...] = POOLED_STATISTICS
) -> dict[str, Floats]:
    """Statistics of the pairs ``(x, y)`` under every weighting, each ``(weightings,)``; NaN where undefined.

    Args:
        x: ``(n,)`` finite scores.
        y: ``(n,)`` finite ratings.
        row: ``(n,)`` weight row of each pair.
        weights: table of weightings.
        names: which of :data:`POOLED_STATISTICS`; any other of :data:`~t2i_eval_kedro.statistics.correlation.STATISTIC_FUNCTIONS` is
            computed on each weighted sample written out, which is slower.
    """
    out: dict[str, Floats] = {}
    if {"pearson", "rmse"} & set(names):
        moments = _moments(x, y, row, weights)
        out |= {name: moments[name] for name in ("pearson", "rmse") if name in names}
    if {"spearman", "kendall_b", "kendall_c", "pairwise_accuracy"} & set(names):
        sums = rank_sums(plan(x, y, row), weights.laid_out, weights.n_weightings)
        for name in ("spearman", "kendall_b", "kendall_c"):
            if name in names:
                out[name] = getattr(sums, name)()
        if "pairwise_accuracy" in names:
            items = np.bincount(row, minlength=weights.table.shape[1])
            out["pairwise_accuracy"] = sums.pairwise_accuracy(_self_pairs(weights.table, items))
    for name in set(names) - set(POOLED_STATISTICS):
        function = STATISTIC_FUNCTIONS[name]
        out[name] = np.array([function(np.repeat(x, copies), np.repeat(y, copies)) for copies in weights.table[:, row]])
    return out


def _self_pairs(table: Counts, items: Ints) -> Floats:
    """``(weightings,)`` pairs of copies of one item: ``sum w (w - 1) / 2`` over items."""
    out = np.empty(len(table))
    rows = max(1, BLOCK // max(1, table.shape[1]))
    for begin in range(0, len(table), rows):
        part = table[begin : begin + rows].astype(float)
        out[begin : begin + rows] = part * (part - 1) / 2 @ items
    return out


def _moments(x: Floats, y: Floats, row: Ints, weights: Weights) -> dict[str, Floats]:
    """Pearson's correlation and the root mean squared difference."""
    if len(x) == 0:
        return dict.fromkeys(("pearson", "rmse"), np.full(weights.n_weightings, np.nan))
    # Centred and scaled over the whole sample, so that no weighting loses digits to a large mean.
    u, v = _standard(x), _standard(y)
    difference = x - y
    largest = np.abs(difference).max() or 1.0  # scaled, so that its square does not overflow
    n, su, sv, suu, svv, suv, square = weights.sums(
        np.column_stack([np.ones_like(x), u, v, u * u, v * v, u * v, (difference / largest) ** 2]), row
    ).T
    with np.errstate(divide="ignore", invalid="ignore"):
        top, left, right = suv - su * sv / n, suu - su * su / n, svv - sv * sv / n
        # Rounding leaves a trace of variance where a resample holds one value only.
        tiny = 1e-12 * n
        r = np.where((left > tiny) & (right > tiny), top / np.sqrt(left) / np.sqrt(right), np.nan)
        return {"pearson": np.clip(r, -1, 1), "rmse": np.where(n > 0, largest * np.sqrt(square / n), np.nan)}


def _standard(values: Floats) -> Floats:
    values = unit_scaled(values)  # so that the sum does not overflow
    centred = values - values.mean()
    largest = np.abs(centred).max()
    return np.asarray(centred / largest) if largest > 0 else np.asarray(centred)
