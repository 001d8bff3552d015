"""Accuracy of labels: elements that are there or not, and preferences between two images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights


@dataclass(frozen=True)
class BinaryMetrics:
    """Figures of one judge's labels, each a float or ``(draws,)``; NaN where undefined.

    Attributes:
        accuracy: share of labels that are right.
        precision: of what the judge calls present, the share that is.
        recall: of what is present, the share that the judge calls so.
        f1: harmonic mean of both, 2 TP / (2 TP + FP + FN).
    """

    accuracy: Floats
    precision: Floats
    recall: Floats
    f1: Floats


def element_labels(
    scores: Floats, labels: Floats, row: Ints, weights: Weights, threshold: float = 0.5
) -> BinaryMetrics:
    """Accuracy and F1 of elements; a value at or above ``threshold`` means present, for the judge and for people.

    Args:
        scores: ``(n,)`` the judge's score of each element of each item.
        labels: ``(n,)`` the mean of the people's labels of it.
        row: ``(n,)`` weight row of each.
        weights: the weightings.
        threshold: EvalMuse and NTIRE 2025 use 0.5, which is the majority of three raters.
    """
    said, true = scores >= threshold, labels >= threshold
    cells = np.column_stack([said & true, said & ~true, ~said & true, ~said & ~true]).astype(float)
    tp, fp, fn, tn = weights.sums(cells, row).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return BinaryMetrics(
            (tp + tn) / (tp + fp + fn + tn), tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)
        )


def preference_hits(difference: Floats, wanted: npt.NDArray[np.int8]) -> tuple[Floats, Floats]:
    """How right the judge is about each preference.

    Args:
        difference: ``(n,)`` the judge's score of a minus that of b; 0 is a tie.
        wanted: ``(n,)`` +1 where the rater prefers a, -1 for b, 0 for a tie.

    Returns:
        ``(n,)`` of 1 where the judge says exactly what the rater says, ties included, else 0; and ``(n,)`` for the
        pairs without the raters' ties, where the judge's tie counts one half, NaN where the rater ties.
    """
    said = np.sign(difference)
    exact = (said == wanted).astype(float)
    half = np.where(said == 0, 0.5, exact)
    return exact, np.where(wanted == 0, np.nan, half)
