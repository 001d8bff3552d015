"""Pairwise accuracy with tie calibration: below a threshold, a difference of the judge's scores counts as a tie.

Deutsch, Foster and Freitag (2023), "Ties Matter: Meta-Evaluating Modern Metrics with Pairwise Accuracy and Tie
Calibration". There the threshold is chosen on the pairs that are scored. Here it is chosen on other prompts: the
prompts are assigned to folds, and every fold is scored with the threshold that is best on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.kernels import Floats, Ints

Bools = npt.NDArray[np.bool_]


def keep_ties(means: Floats) -> Floats:
    """``means`` rounded to 40 binary digits (about 12 decimal ones), at any scale.

    The same ratings added up in another order may differ in the last bit; rounded, equal means stay ties.
    """
    fraction, exponent = np.frexp(means)
    return np.asarray(np.ldexp(np.round(np.ldexp(fraction, 40)), exponent - 40))


@dataclass(frozen=True)
class TieCalibrated:
    """Accuracy of the pairs of items of one prompt, after tie calibration.

    Attributes:
        by_prompt: ``(P,)`` accuracy within each prompt, NaN where it has fewer than 2 items.
        thresholds: the threshold of each fold, in the judge's own units.
    """

    by_prompt: Floats
    thresholds: tuple[float, ...]


def pairs_within_groups(groups: tuple[Ints, ...]) -> tuple[Ints, Ints, Ints]:
    """All pairs of positions within each group: first, second, group."""
    first, second, owner = [], [], []
    for g, members in enumerate(groups):
        i, j = np.triu_indices(len(members), 1)
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
    first, second, owner = pairs_within_groups(groups)
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
            return TieCalibrated(accuracy, ())
        threshold, _ = best_threshold(distance[~in_fold], agrees[~in_fold], tied[~in_fold], weight[~in_fold])
        right = np.where(distance <= threshold, tied, agrees)
        sums = np.bincount(owner[in_fold], weights=right[in_fold], minlength=len(groups))
        scored = (fold == k) & (pairs > 0)
        accuracy[scored] = sums[scored] / pairs[scored]
        thresholds.append(threshold)
    return TieCalibrated(accuracy, tuple(thresholds))
