"""People's mean and spread as a distribution over evenly spaced levels, to train a level's probabilities on.

Source: DeQA-Score's soft label, a Gaussian integrated over the interval of each level, then corrected linearly to sum to one
and to have the ratings' mean; the recipe that the NTIRE 2025 report attributes to team WT is this construction by its
description. The published form

* is uniform where the mean is the middle of the scale, whatever the spread (its correction there is 0 / 0);
* after negative probabilities are clipped, neither sums to one nor has the mean.

**Corrected (ours)**: the Gaussian's probabilities times exp(lambda * level), with the lambda that gives the mean. Among all
distributions with that mean it is the nearest to the Gaussian's in Kullback-Leibler divergence (Csiszar, 1975), always
positive, and defined at the middle. The spread is at least half a step between levels, so that a mean between two levels
can be reached.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import norm

from t2i_eval_kedro.errors import T2IEvalError

Floats = npt.NDArray[np.float64]

_NARROW = 0.2  # standard deviation, in steps, below which the published form takes the two neighbouring levels
_OFF = 0.1  # error of the mean, in steps, from which it does so too
_EPSILON = 1e-9  # keeps the published correction from dividing by zero


def published(mean: float, std: float, levels: int = 5, density: Literal["cdf", "pdf"] = "cdf") -> Floats:
    """DeQA-Score's soft label, ``(levels,)`` from the lowest level to the highest; it need not sum to one.

    Source: arXiv 2501.11561 and its released ``gen_soft_label.py``, which prefers ``cdf`` where people's ratings differ little
    and ``pdf`` where they differ much.

    Args:
        mean: mean of the ratings, on 1 to ``levels``.
        std: standard deviation of the ratings, on the same scale.
        levels: number of levels, one apart.
        density: ``cdf`` integrates the Gaussian over half a step to either side of a level; ``pdf`` takes its density at the
            level.
    """
    values = np.arange(1.0, levels + 1)
    middle = values.mean()
    if std >= _NARROW:
        raw = _integrated(values, mean, std) if density == "cdf" else np.asarray(norm.pdf(values, mean, std))
        total, first = raw.sum(), values @ raw
        alpha = (mean - middle) / (first - middle * total + _EPSILON)
        clipped = np.maximum(alpha * raw + (1 - alpha * total) / levels, 0)
        if abs(values @ clipped - mean) <= _OFF:
            return np.asarray(clipped)
    return np.asarray(np.maximum(0, 1 - np.abs(values - mean)))


def corrected(mean: float, std: float, levels: int = 5) -> Floats:
    """Soft label, ``(levels,)``, that sums to one and has the given mean; arguments as for :func:`published`.

    Raises:
        T2IEvalError: the mean or the standard deviation is not a finite number, or the latter is negative.
    """
    if not (np.isfinite(mean) and np.isfinite(std) and std >= 0):
        raise T2IEvalError(
            f"A soft label needs a finite mean and a standard deviation of 0 or more, not {mean} and {std}; an item with one "
            "rating has no standard deviation: leave it out or give its spread."
        )
    values = np.arange(1.0, levels + 1)
    if not 1 < mean < levels:
        return np.asarray((values == np.clip(mean, 1, levels)).astype(float))
    std = max(std, 0.5)
    # Log probabilities in a form that does not underflow far from the mean.
    near, far = (np.abs(values - mean) + sign * 0.5 for sign in (-1, 1))
    upper, lower = norm.logsf(near / std), norm.logsf(far / std)
    raw = upper + np.log1p(-np.exp(lower - upper))

    def tilted(tilt: float) -> Floats:
        return np.asarray(softmax(raw + tilt * (values - mean)))

    reach = 1.0
    while not tilted(-reach) @ values < mean < tilted(reach) @ values:
        reach *= 2
    return tilted(brentq(lambda tilt: float(tilted(tilt) @ values) - mean, -reach, reach, xtol=1e-12))


def _integrated(values: Floats, mean: float, std: float) -> Floats:
    return np.asarray(norm.cdf((values + 0.5 - mean) / std) - norm.cdf((values - 0.5 - mean) / std))
