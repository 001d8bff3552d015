"""Pairwise accuracy with tie calibration: below a threshold, a difference of the judge's scores counts as a tie.

Deutsch, Foster and Freitag (2023), "Ties Matter: Meta-Evaluating Modern Metrics with Pairwise Accuracy and Tie
Calibration". There the threshold is chosen on the pairs that are scored. Here it is chosen on other prompts: the
prompts are assigned to folds, and every fold is scored with the threshold that is best on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # numba is slow to import, and ratings are averaged where nothing else needs it
    from t2i_eval_kedro.statistics.kernels import Floats, Ints

Bools = npt.NDArray[np.bool_]

MAX_PAIRS = 5_000_000
"""Most pairs of items that are compared at once; beyond it items are sampled, so that memory stays linear in items."""


def keep_ties(means: Floats) -> Floats:
    """``means`` rounded to 40 binary digits (about 12 decimal ones), at any scale.

    The same ratings added up in another order may differ in the last bit; rounded, equal means stay ties.
    """
    fraction, exponent = np.frexp(means)
    return np.asarray(np.ldexp(np.round(np.ldexp(fraction, 40)), exponent - 40))


def snap_ties(means: Floats) -> Floats:
    """``means`` rounded to 12 decimals of the largest absolute value among them, so that rounding makes no order.

    Unlike :func:`keep_ties` it also takes a mean of 0 and one of 1e-17 as equal where others are near 1.
    """
    largest = np.nanmax(np.abs(means), initial=0.0)
    exponent = int(np.frexp(largest)[1])  # a power of two, so that scaling is exact
    return np.asarray(np.round(np.ldexp(means, -exponent), 12))


@dataclass(frozen=True)
class TieCalibrated:
    """Accuracy of the pairs of items of one prompt, after tie calibration.

    Attributes:
        by_prompt: ``(P,)`` accuracy within each prompt, NaN where it has fewer than 2 items.
        thresholds: the threshold of each fold, in the judge's own units.
        items: most items of a group that were compared; None where all were.
    """

    by_prompt: Floats
    thresholds: tuple[float, ...]
    items: int | None = None


def limited_groups(groups: tuple[Ints, ...], seed: int, pairs: int = MAX_PAIRS) -> tuple[tuple[Ints, ...], int | None]:
    """``groups`` with at most ``pairs`` pairs in all, and the most items of a group; None where nothing was left out.

    Where there are more, every larger group is replaced by a random sample of its items, without replacement.
    """
    sizes = np.array([len(m) for m in groups], dtype=np.int64)

    def total(most: int) -> int:
        kept = np.minimum(sizes, most)
        return int((kept * (kept - 1) // 2).sum())

    largest = int(sizes.max(initial=0))
    if total(largest) <= pairs:
        return groups, None
    low, high = 2, largest  # total(low) may exceed the limit where there are very many groups: two items are the least
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= pairs else (low, middle)
    rng = np.random.default_rng(seed)
    return tuple(np.sort(rng.choice(m, low, replace=False)) if len(m) > low else m for m in groups), low


def pairs_within_groups(groups: tuple[Ints, ...]) -> tuple[Ints, Ints, Ints]:
    """All pairs of positions within each group: first, second, group."""
    first, second, owner = [], [], []
    of_size = {size: np.triu_indices(size, 1) for size in {len(members) for members in groups}}
    for g, members in enumerate(groups):
        i, j = of_size[len(members)]
        first.append(members[i])
        second.append(members[j])
        owner.append(np.full(len(i), g))
    if not first:
        return (np.zeros(0, dtype=np.int64),) * 3
    return np.concatenate(first), np.concatenate(second), np.concatenate(owner)


def best_threshold(distance: Floats, agrees: Bools, tied: Bools, weight: Floats | None = None) -> tuple[float, float]:
    """The smallest threshold of the best accuracy, and that accuracy.

    Args:
        distance: ``(m,)`` absolute difference of the judge's scores in each pair.
        agrees: ``(m,)`` the judge orders the pair as people do.
        tied: ``(m,)`` people tie.
        weight: ``(m,)`` weight of each pair; by default all the same.
    """
    weights = np.ones(len(distance)) if weight is None else weight
    # A pair at or below the threshold is called a tie: it wins where people tie and loses what it had right.
    gain = np.where(tied, weights, 0.0) - np.where(agrees, weights, 0.0)
    values, place = np.unique(np.r_[0.0, distance], return_inverse=True)
    by_value = np.bincount(place[1:], weights=gain, minlength=len(values))
    accuracy = (np.where(agrees, weights, 0.0).sum() + np.cumsum(by_value)) / weights.sum()
    best = int(np.argmax(np.round(accuracy, 12)))
    return float(values[best]), float(accuracy[best])


def tie_calibrated(x: Floats, y: Floats, groups: tuple[Ints, ...], folds: int = 2, seed: int = 0) -> TieCalibrated:
    """Accuracy within every group, each fold of groups scored with the threshold chosen on the other groups.

    Args:
        x: ``(n,)`` scores.
        y: ``(n,)`` ratings.
        groups: positions of the items of each prompt.
        folds: number of folds; 2 or more.
        seed: random seed that assigns the prompts to folds.
    """
    compared, most = limited_groups(groups, seed)
    first, second, owner = pairs_within_groups(compared)
    accuracy = np.full(len(groups), np.nan)
    fold = np.random.default_rng(seed).permutation(len(groups)) % folds
    pairs = np.bincount(owner, minlength=len(groups))
    difference, by_people = x[first] - x[second], np.sign(y[first] - y[second])
    distance, tied = np.abs(difference), by_people == 0
    agrees = (np.sign(difference) == by_people) & ~tied
    weight = 1.0 / pairs[owner]
    thresholds = []
    for k in range(folds):
        in_fold = fold[owner] == k
        if in_fold.all() or not in_fold.any():
            return TieCalibrated(accuracy, (), most)
        threshold, _ = best_threshold(distance[~in_fold], agrees[~in_fold], tied[~in_fold], weight[~in_fold])
        right = np.where(distance <= threshold, tied, agrees)
        sums = np.bincount(owner[in_fold], weights=right[in_fold], minlength=len(groups))
        scored = (fold == k) & (pairs > 0)
        accuracy[scored] = sums[scored] / pairs[scored]
        thresholds.append(threshold)
    return TieCalibrated(accuracy, tuple(thresholds), most)
