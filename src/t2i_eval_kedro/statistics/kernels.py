"""Rank statistics of one sample under many integer weightings at once.

A bootstrap resample gives every item a count, and a permutation of two judges gives every score a weight of 0 or 1. The order of
the scores never changes, only the weights do. So the sample is sorted once, and the sorted order is walked for many
weightings side by side: the inner loop runs over weightings (lanes) and is free of branches.

Discordant pairs are counted as in Knight (1966), "A computer method for calculating Kendall's tau with ungrouped data",
with the merges fixed beforehand: bit by bit over the dense code of ``y``, so that few distinct values need few passes.

All sums are whole numbers held in float64 and exact below 2**53; sums of cubes pass that at about 200,000 items and are
then right to about 1e-16 relative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.integer]
"""Whole numbers of any width; tables of weights are as narrow as their values allow."""

LaidOut = npt.NDArray[np.uint8] | npt.NDArray[np.float64]

LANES = 64

_BIT, _START = 1, 2


@dataclass(frozen=True)
class RankPlan:
    """The fixed order of one sample of pairs (x, y).

    Attributes:
        row: ``(n,)`` row of the weight table for each pair, in the order of x, then y.
        x_end: ``(n,)`` true at the last pair of a group tied in x.
        xy_end: ``(n,)`` true at the last pair of a group tied in x and y.
        y_code: ``(n,)`` dense rank of y, from 0.
        y_values: number of distinct values of y.
        level_place: ``(levels, n)`` positions in that order, as each pass of the discordance count takes them.
        level_flag: ``(levels, n)`` marks of each pass.
    """

    row: npt.NDArray[np.int32]
    x_end: npt.NDArray[np.bool_]
    xy_end: npt.NDArray[np.bool_]
    y_code: npt.NDArray[np.int32]
    y_values: int
    level_place: npt.NDArray[np.int32]
    level_flag: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RankSums:
    """Sums of one sample under ``B`` weightings, each ``(B,)``.

    Attributes:
        n: total weight.
        tied_x: pairs tied in x.
        tied_y: pairs tied in y.
        tied_xy: pairs tied in both.
        discordant: pairs ordered one way by x and the other way by y.
        values_x: distinct values of x with a weight above 0.
        values_y: the same for y.
        cross: sum of products of the centred mid-ranks of x and y, each rank counted twice (so times 4).
        square_x: sum of squares of those of x.
        square_y: sum of squares of those of y.
    """

    n: Floats
    tied_x: Floats
    tied_y: Floats
    tied_xy: Floats
    discordant: Floats
    values_x: Floats
    values_y: Floats
    cross: Floats
    square_x: Floats
    square_y: Floats

    def spearman(self) -> Floats:
        """Spearman's rho of each weighting; NaN where a side is constant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.cross / np.sqrt(self.square_x * self.square_y))

    def pairwise_accuracy(self, self_pairs: Floats) -> Floats:
        """Fraction of pairs of different items ordered as ``y`` orders them, ties in both included.

        Args:
            self_pairs: ``(B,)`` number of pairs formed by bootstrap copies of one item; they are excluded from the pairs.
        """
        pairs = self.n * (self.n - 1) / 2
        right = pairs - self.tied_x - self.tied_y + 2 * self.tied_xy - self.discordant
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((right - self_pairs) / (pairs - self_pairs))

    @property
    def _net(self) -> Floats:
        pairs = self.n * (self.n - 1) / 2
        return np.asarray(pairs - self.tied_x - self.tied_y + self.tied_xy - 2 * self.discordant)

    def kendall_b(self) -> Floats:
        """Kendall's tau-b of each weighting; NaN where a side is constant."""
        pairs = self.n * (self.n - 1) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._net / np.sqrt(pairs - self.tied_x) / np.sqrt(pairs - self.tied_y))

    def kendall_c(self) -> Floats:
        """Stuart's tau-c of each weighting; NaN where a side is constant."""
        least = np.minimum(self.values_x, self.values_y)
        with np.errstate(divide="ignore", invalid="ignore"):
            tau = 2 * self._net / (self.n**2 * (least - 1) / least)
        return np.where(least > 1, tau, np.nan)


def unit_scaled(values: Floats) -> Floats:
    """``values`` divided by a power of two, which is exact, so that the largest is between 0.5 and 1."""
    return np.asarray(np.ldexp(values, -int(np.frexp(np.abs(values).max(initial=0.0))[1])))


def plan(x: Floats, y: Floats, row: npt.ArrayLike | None = None) -> RankPlan:
    """Sort the pairs ``(x, y)`` once.

    Args:
        x: ``(n,)`` finite values.
        y: ``(n,)`` finite values.
        row: ``(n,)`` row of the weight table that weights each pair; by default each pair has its own row.
    """
    rows = np.arange(len(x), dtype=np.int32) if row is None else np.asarray(row, dtype=np.int32)
    _, codes = np.unique(y, return_inverse=True)
    order = np.lexsort((codes, x))
    x, codes, rows = x[order], codes[order], rows[order]
    ends = np.ones(len(x), dtype=bool)
    x_end, xy_end = ends.copy(), ends.copy()
    if len(x):
        x_end[:-1] = x[1:] != x[:-1]
        xy_end[:-1] = x_end[:-1] | (codes[1:] != codes[:-1])
    y_values = int(codes.max()) + 1 if len(x) else 0
    levels = max(y_values - 1, 0).bit_length()
    small = np.int16 if y_values < 2**15 else np.int32  # numpy sorts 16-bit integers by radix
    level_place = np.empty((levels, len(x)), dtype=np.int32)
    level_flag = np.empty((levels, len(x)), dtype=np.uint8)
    for level in range(levels):
        block = (codes >> (level + 1)).astype(small)
        within = np.argsort(block, kind="stable")
        starts = np.r_[True, block[within][1:] != block[within][:-1]]
        level_place[level] = within
        level_flag[level] = ((codes[within] >> level) & 1) * _BIT + starts * _START
    return RankPlan(rows, x_end, xy_end, codes.astype(np.int32), y_values, level_place, level_flag)


def lanes(weights: Counts) -> LaidOut:
    """``(B, rows)`` weights laid out as ``(blocks, rows, LANES)``; the last block is filled up with zeros.

    Weights of one byte keep it, as most of the walk's time is waiting for them; others become floats.
    """
    weightings, rows = weights.shape
    blocks = -(-weightings // LANES)
    shape = (blocks, rows, LANES)
    out: LaidOut = np.zeros(shape, dtype=np.uint8) if weights.dtype == np.uint8 else np.zeros(shape, dtype=np.float64)
    for block in range(blocks):
        part = weights[block * LANES : (block + 1) * LANES]
        out[block, :, : len(part)] = part.T
    return out


def rank_sums(order: RankPlan, laid_out: LaidOut, weightings: int) -> RankSums:
    """The sums of one planned sample under ``weightings`` weightings, laid out by :func:`lanes`."""
    sums = np.zeros((10, laid_out.shape[0] * LANES))
    _walk(
        order.row,
        order.x_end,
        order.xy_end,
        order.y_code,
        order.y_values,
        order.level_place,
        order.level_flag,
        laid_out,
        sums,
    )
    return RankSums(*sums[:, :weightings])


@numba.njit(cache=True, fastmath={"contract", "nsz"}, boundscheck=False)
def _walk(row, x_end, xy_end, y_code, y_values, level_place, level_flag, weights, sums):  # type: ignore[no-untyped-def]
    size = len(row)
    rank_y = np.empty((y_values, LANES))
    total, tied_y, cubes_y, values_y = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    tied_x, cubes_x, values_x, tied_xy = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    group, joint, product, cross = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    seen, discordant = np.empty(LANES), np.empty(LANES)
    for block in range(weights.shape[0]):
        table = weights[block]
        rank_y[:] = 0.0
        for i in range(size):
            r, code = row[i], y_code[i]
            for k in range(LANES):
                rank_y[code, k] += float(table[r, k])
        total[:] = 0.0
        tied_y[:] = 0.0
        cubes_y[:] = 0.0
        values_y[:] = 0.0
        for code in range(y_values):
            for k in range(LANES):
                w = rank_y[code, k]
                tied_y[k] += w * (w - 1.0)
                cubes_y[k] += w * w * w
                values_y[k] += 1.0 if w > 0.0 else 0.0
                rank_y[code, k] = 2.0 * total[k] + w + 1.0
                total[k] += w
        for code in range(y_values):
            for k in range(LANES):
                rank_y[code, k] -= total[k] + 1.0
        tied_x[:] = 0.0
        cubes_x[:] = 0.0
        values_x[:] = 0.0
        tied_xy[:] = 0.0
        group[:] = 0.0
        joint[:] = 0.0
        product[:] = 0.0
        cross[:] = 0.0
        seen[:] = 0.0
        for i in range(size):
            r, code = row[i], y_code[i]
            for k in range(LANES):
                w = float(table[r, k])
                group[k] += w
                joint[k] += w
                product[k] += w * rank_y[code, k]
            if xy_end[i]:
                for k in range(LANES):
                    w = joint[k]
                    tied_xy[k] += w * (w - 1.0)
                    joint[k] = 0.0
            if x_end[i]:
                for k in range(LANES):
                    w = group[k]
                    tied_x[k] += w * (w - 1.0)
                    cubes_x[k] += w * w * w
                    values_x[k] += 1.0 if w > 0.0 else 0.0
                    cross[k] += (2.0 * seen[k] + w - total[k]) * product[k]
                    seen[k] += w
                    group[k] = 0.0
                    product[k] = 0.0
        discordant[:] = 0.0
        for level in range(level_place.shape[0]):
            for i in range(size):
                r, flag = row[level_place[level, i]], level_flag[level, i]
                if flag & _START:
                    seen[:] = 0.0
                if flag & _BIT:
                    for k in range(LANES):
                        seen[k] += float(table[r, k])
                else:
                    for k in range(LANES):
                        discordant[k] += float(table[r, k]) * seen[k]
        first = block * LANES
        for k in range(LANES):
            n = total[k]
            sums[0, first + k] = n
            sums[1, first + k] = tied_x[k] / 2.0
            sums[2, first + k] = tied_y[k] / 2.0
            sums[3, first + k] = tied_xy[k] / 2.0
            sums[4, first + k] = discordant[k]
            sums[5, first + k] = values_x[k]
            sums[6, first + k] = values_y[k]
            sums[7, first + k] = cross[k]
            sums[8, first + k] = (n * n * n - cubes_x[k]) / 3.0
            sums[9, first + k] = (n * n * n - cubes_y[k]) / 3.0
