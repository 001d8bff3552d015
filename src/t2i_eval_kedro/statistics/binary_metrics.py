"""Metrics of binary labels (an element is present or not) and of preferences between two images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.pooled import Weights


@dataclass(frozen=True)
class BinaryMetrics:
    """Metrics of one judge's labels, each ``(weightings,)``; NaN where undefined.

    Attributes:
        accuracy: (TP + TN) / n.
        precision: TP / (TP + FP), with 'element present' as the positive class.
        recall: TP / (TP + FN).
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
        weights: table of weightings.
        threshold: EvalMuse and NTIRE 2025 use 0.5, which is the majority of three raters.
    """
    predicted, true = scores >= threshold, labels >= threshold
    cells = np.column_stack([predicted & true, predicted & ~true, ~predicted & true, ~predicted & ~true]).astype(float)
    tp, fp, fn, tn = weights.sums(cells, row).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return BinaryMetrics(
            (tp + tn) / (tp + fp + fn + tn), tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)
        )


def preference_hits(difference: Floats, preferred: npt.NDArray[np.int8]) -> tuple[Floats, Floats]:
    """Whether the judge agrees with each preference.

    Args:
        difference: ``(n,)`` the judge's score of a minus that of b; 0 is a tie.
        preferred: ``(n,)`` +1 where the rater prefers a, -1 for b, 0 for a tie.

    Returns:
        ``(n,)`` of 1 where the judge's preference equals the rater's, ties included, else 0; and ``(n,)`` in which a tie
        of the judge counts one half, NaN where the rater ties.
    """
    predicted = np.sign(difference)
    exact = (predicted == preferred).astype(float)
    half = np.where(predicted == 0, 0.5, exact)
    return exact, np.where(preferred == 0, np.nan, half)
