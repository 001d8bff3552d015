"""Rank statistics of two judges whose labels are exchanged at random, for many permutations at once.

Both sides of a permutation hold every item once: one side takes the first judge's score of an item where the other takes the
second's. So the scores of both judges are merged and sorted once, and one walk counts both sides: what the first side has
not seen of a tie group or of the larger ratings, the second has. Lanes are permutations; counts are whole numbers in 32 bits,
emptied into 64 bits before they can overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.kernels import Floats, Ints, RankSums, plan

Masks = npt.NDArray[np.int8]

LANES = 256  # wide enough that the compiler makes vector instructions of every inner loop; 64 take three times as long


@dataclass(frozen=True)
class ExchangeTable:
    """Which groups are exchanged in which permutation, laid out for the walk.

    Attributes:
        permutations: number of permutations.
        laid_out: ``(blocks, groups, LANES)`` masks, 0 or -1 (all bits), the last block filled up with zeros.
    """

    permutations: int
    laid_out: Masks

    @staticmethod
    def of(table: npt.NDArray[np.integer]) -> ExchangeTable:
        """Lay out ``table``, ``(permutations, groups)`` of 0 and 1."""
        permutations, groups = table.shape
        blocks = -(-permutations // LANES)
        padded = np.zeros((blocks, LANES, groups), dtype=np.int8)
        padded.reshape(blocks * LANES, groups)[:permutations] = -table
        return ExchangeTable(permutations, np.ascontiguousarray(padded.transpose(0, 2, 1)))


def exchanged_sums(a: Floats, b: Floats, y: Floats, group: Ints, exchanges: ExchangeTable) -> tuple[RankSums, RankSums]:
    """The rank sums of both sides under every permutation.

    Args:
        a: ``(n,)`` scores of the first judge.
        b: ``(n,)`` scores of the second, on the same scale.
        y: ``(n,)`` ratings.
        group: ``(n,)`` column of the table of each item.
        exchanges: table of exchanges.
    """
    # An odd row marks the second judge's score, which the first side holds where its group is exchanged.
    order = plan(np.r_[a, b], np.r_[y, y], np.r_[2 * group, 2 * group + 1])
    n = len(y)
    times = np.unique(y, return_counts=True)[1]
    # Twice the mid-rank, centred; the same on both sides, as every side holds every rating once.
    rank_y = (2 * (np.cumsum(times) - times) + times - n)[order.y_code].astype(np.int32)
    permutations = exchanges.permutations
    sums = np.zeros((2, 10, exchanges.laid_out.shape[0] * LANES))
    _walk_both(order.row, order.x_end, order.xy_end, order.y_code, order.y_values, rank_y, exchanges.laid_out, n, sums)
    sums[:, 0] = n
    sums[:, 2] = (times * (times - 1) // 2).sum()
    sums[:, 6] = len(times)
    sums[:, 9] = (float(n) ** 3 - (times.astype(float) ** 3).sum()) / 3
    return RankSums(*sums[0, :, :permutations]), RankSums(*sums[1, :, :permutations])


@numba.njit(cache=True, fastmath={"contract", "nsz"}, boundscheck=False)
def _walk_both(row, x_end, xy_end, y_code, y_values, rank_y, tables, n, sums):  # type: ignore[no-untyped-def]
    size = len(row)
    chunk = max(1, (2**31 - 1) // (n + 1))
    above = _seen_above(y_code, y_values)
    # Fenwick's tree over the values of y, the largest first: what the first side has seen so far.
    tree = np.empty((y_values + 1, LANES), np.int32)
    mask, higher = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    seen, group, joint = np.empty(LANES, np.int32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    part, other_part = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    product, full_product = np.empty(LANES, np.int32), np.empty(LANES)
    single, pairs, other_pairs = np.empty(LANES, np.int32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    total = np.empty((2, 6, LANES))
    for block in range(tables.shape[0]):
        table = tables[block]
        total[:] = 0.0
        tree[:] = 0
        seen[:] = 0
        group[:] = 0
        joint[:] = 0
        part[:] = 0
        other_part[:] = 0
        product[:] = 0
        full_product[:] = 0.0
        single[:] = 0
        pairs[:] = 0
        other_pairs[:] = 0
        begin = begin_joint = small = 0
        ranks = 0.0
        for i in range(size):
            r, flip, rank = row[i] >> 1, np.int32((row[i] & 1) - 1), rank_y[i]
            ranks += rank
            for k in range(LANES):
                held_here = np.int32(table[r, k]) ^ flip
                mask[k] = held_here
                group[k] -= held_here
                product[k] += rank & held_here
            node = y_values - y_code[i]
            place = node - 1
            if place > 0:
                for k in range(LANES):
                    higher[k] = tree[place, k]
                place &= place - 1
                while place > 0:
                    for k in range(LANES):
                        higher[k] += tree[place, k]
                    place &= place - 1
                here = np.int32(above[i])
                for k in range(LANES):
                    part[k] += higher[k] & mask[k]
                    other_part[k] += (here - higher[k]) & ~mask[k]
            while node <= y_values:
                for k in range(LANES):
                    tree[node, k] -= mask[k]
                node += node & -node
            if (i + 1) % chunk == 0 or i + 1 == size:
                for k in range(LANES):
                    full_product[k] += product[k]
                    product[k] = 0
                    total[0, 5, k] += part[k]
                    total[1, 5, k] += other_part[k]
                    part[k] = 0
                    other_part[k] = 0
            if not (xy_end[i] and begin_joint == i):
                for k in range(LANES):
                    joint[k] -= mask[k]
            if xy_end[i]:
                alike = np.int32(i + 1 - begin_joint)
                begin_joint = i + 1
                if alike > 1:
                    for k in range(LANES):
                        w, v = float(joint[k]), float(alike - joint[k])
                        total[0, 2, k] += w * (w - 1.0)
                        total[1, 2, k] += v * (v - 1.0)
                        joint[k] = 0
            if x_end[i]:
                held, ahead = np.int32(i + 1 - begin), np.int32(2 * begin - n)
                begin = i + 1
                for k in range(LANES):
                    w, v = group[k], held - group[k]
                    first_product = full_product[k] + product[k]
                    total[0, 3, k] += float(2 * seen[k] + w - n) * first_product
                    total[1, 3, k] += float(ahead - 2 * seen[k] + v) * (ranks - first_product)
                    seen[k] += w
                    product[k] = 0
                    full_product[k] = 0.0
                ranks = 0.0
                if held <= 2:
                    small += int(held)
                    for k in range(LANES):
                        w, v = group[k], held - group[k]
                        single[k] += w
                        pairs[k] += w >> 1
                        other_pairs[k] += v >> 1
                        group[k] = 0
                else:
                    for k in range(LANES):
                        w, v = float(group[k]), float(held - group[k])
                        total[0, 0, k] += w * w
                        total[1, 0, k] += v * v
                        total[0, 1, k] += w * w * w
                        total[1, 1, k] += v * v * v
                        total[0, 4, k] += 1.0 if w > 0.0 else 0.0
                        total[1, 4, k] += 1.0 if v > 0.0 else 0.0
                        group[k] = 0
        # In a group of one or two, w^2 = w + 2 t, w^3 = w + 6 t and [w > 0] = w - t, with t = 1 where both are held.
        for k in range(LANES):
            w, v = float(single[k]), float(small - single[k])
            t, u = float(pairs[k]), float(other_pairs[k])
            total[0, 0, k] += w + 2.0 * t
            total[1, 0, k] += v + 2.0 * u
            total[0, 1, k] += w + 6.0 * t
            total[1, 1, k] += v + 6.0 * u
            total[0, 4, k] += w - t
            total[1, 4, k] += v - u
        first = block * LANES
        for side in range(2):
            for k in range(LANES):
                sums[side, 1, first + k] = (total[side, 0, k] - n) / 2.0
                sums[side, 3, first + k] = total[side, 2, k] / 2.0
                sums[side, 4, first + k] = total[side, 5, k]
                sums[side, 5, first + k] = total[side, 4, k]
                sums[side, 7, first + k] = total[side, 3, k]
                sums[side, 8, first + k] = (float(n) * n * n - total[side, 1, k]) / 3.0


@numba.njit(cache=True, boundscheck=False)
def _seen_above(y_code, y_values):  # type: ignore[no-untyped-def]
    """How many before each place of the walk, of both sides, have a larger y."""
    tree = np.zeros(y_values + 1, np.int64)
    out = np.empty(len(y_code), np.int64)
    for i in range(len(y_code)):
        node = y_values - y_code[i]
        place, count = node - 1, 0
        while place > 0:
            count += tree[place]
            place &= place - 1
        out[i] = count
        while node <= y_values:
            tree[node] += 1
            node += node & -node
    return out
