"""Rank statistics of two judges whose scores change places at random, for many draws at once.

Both sides of a swap hold every item once: one side takes the first judge's score of an item where the other takes the
second's. So the scores of both judges are merged and sorted once, and one walk counts both sides: what the first side has
not seen of a tie group or of a block of lower ratings, the second has. Lanes are draws; counts are whole numbers in 32 bits,
emptied into 64 bits before they can overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.agreement.kernels import LANES, Floats, Ints, RankSums, plan

Masks = npt.NDArray[np.int8]


@dataclass(frozen=True)
class SwapTable:
    """Which groups change sides in which draw, laid out for the walk.

    Attributes:
        draws: their number.
        laid_out: ``(blocks, groups, LANES)`` masks, 0 or -1 (all bits), the last block filled up with zeros.
    """

    draws: int
    laid_out: Masks

    @staticmethod
    def of(table: npt.NDArray[np.integer]) -> SwapTable:
        """Lay out ``table``, ``(draws, groups)`` of 0 and 1."""
        draws, groups = table.shape
        blocks = -(-draws // LANES)
        padded = np.zeros((blocks, LANES, groups), dtype=np.int8)
        padded.reshape(blocks * LANES, groups)[:draws] = -table
        return SwapTable(draws, np.ascontiguousarray(padded.transpose(0, 2, 1)))


def swapped_sums(a: Floats, b: Floats, y: Floats, group: Ints, swaps: SwapTable) -> tuple[RankSums, RankSums]:
    """The sums of both sides under every draw.

    Args:
        a: ``(n,)`` scores of the first judge.
        b: ``(n,)`` scores of the second, on the same scale.
        y: ``(n,)`` ratings.
        group: ``(n,)`` column of the table of each item.
        swaps: the draws.
    """
    # An odd row marks the second judge's score, which the first side holds where its group is swapped.
    order = plan(np.r_[a, b], np.r_[y, y], np.r_[2 * group, 2 * group + 1])
    n = len(y)
    times = np.unique(y, return_counts=True)[1]
    # Twice the mid-rank, centred; the same on both sides, as every side holds every rating once.
    rank_y = (2 * (np.cumsum(times) - times) + times - n)[order.y_code].astype(np.int32)
    draws = swaps.draws
    sums = np.zeros((2, 10, swaps.laid_out.shape[0] * LANES))
    _walk_both(
        order.row, order.x_end, order.xy_end, rank_y, order.level_place, order.level_flag, swaps.laid_out, n, sums
    )
    sums[:, 0] = n
    sums[:, 2] = (times * (times - 1) // 2).sum()
    sums[:, 6] = len(times)
    sums[:, 9] = (float(n) ** 3 - (times.astype(float) ** 3).sum()) / 3
    return RankSums(*sums[0, :, :draws]), RankSums(*sums[1, :, :draws])


@numba.njit(cache=True, fastmath={"contract", "nsz"}, boundscheck=False)
def _walk_both(row, x_end, xy_end, rank_y, level_place, level_flag, tables, n, sums):  # type: ignore[no-untyped-def]
    size = len(row)
    chunk = max(1, (2**31 - 1) // (n + 1))
    seen, group, joint = np.empty(LANES, np.int32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    part, other_part = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    product, full_product = np.empty(LANES, np.int32), np.empty(LANES)
    single, pairs, other_pairs = np.empty(LANES, np.int32), np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    total = np.empty((2, 6, LANES))
    # The weights in the order of the walk: the later passes read them nearly in sequence.
    masks = np.empty((size, LANES), np.int8)
    for block in range(tables.shape[0]):
        table = tables[block]
        total[:] = 0.0
        seen[:] = 0
        group[:] = 0
        joint[:] = 0
        product[:] = 0
        full_product[:] = 0.0
        single[:] = 0
        pairs[:] = 0
        other_pairs[:] = 0
        begin = begin_joint = in_product = small = 0
        ranks = 0.0
        for i in range(size):
            r, flip, rank = row[i] >> 1, np.int8((row[i] & 1) - 1), rank_y[i]
            ranks += rank
            in_product += 1
            for k in range(LANES):
                mask = np.int8(table[r, k] ^ flip)
                masks[i, k] = mask
                group[k] -= np.int32(mask)
                product[k] += rank & np.int32(mask)
            if in_product == chunk or x_end[i]:
                in_product = 0
                for k in range(LANES):
                    full_product[k] += product[k]
                    product[k] = 0
            if not (xy_end[i] and begin_joint == i):
                for k in range(LANES):
                    joint[k] -= np.int32(masks[i, k])
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
                    total[0, 3, k] += float(2 * seen[k] + w - n) * full_product[k]
                    total[1, 3, k] += float(ahead - 2 * seen[k] + v) * (ranks - full_product[k])
                    seen[k] += w
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
        for level in range(level_place.shape[0]):
            passed = 0
            part[:] = 0
            other_part[:] = 0
            for i in range(size):
                flag = level_flag[level, i]
                if flag & 2:
                    seen[:] = 0
                    passed = 0
                place = level_place[level, i]
                if flag & 1:
                    passed += 1
                    for k in range(LANES):
                        seen[k] -= np.int32(masks[place, k])
                else:
                    here = np.int32(passed)
                    for k in range(LANES):
                        own = np.int32(masks[place, k])
                        part[k] += seen[k] & own
                        other_part[k] += (here - seen[k]) & ~own
                if (i + 1) % chunk == 0 or i + 1 == size:
                    for k in range(LANES):
                        total[0, 5, k] += part[k]
                        total[1, 5, k] += other_part[k]
                        part[k] = 0
                        other_part[k] = 0
        first = block * LANES
        for side in range(2):
            for k in range(LANES):
                sums[side, 1, first + k] = (total[side, 0, k] - n) / 2.0
                sums[side, 3, first + k] = total[side, 2, k] / 2.0
                sums[side, 4, first + k] = total[side, 5, k]
                sums[side, 5, first + k] = total[side, 4, k]
                sums[side, 7, first + k] = total[side, 3, k]
                sums[side, 8, first + k] = (float(n) * n * n - total[side, 1, k]) / 3.0
