"""Rewards of an answered score: plain functions of one score, a target and the scale.

The formulas are this project's own; those of T2I-Eval-R1 (arXiv 2505.17897) are not public in what we could read. A
continuous reward pays two different scores differently, so that a group of answers rarely ties and its advantages are
rarely all zero; the binary one is the control arm that shows what this buys.

No score (None) and a score off the scale earn nothing. A score is never clipped onto the scale first: it would be paid
as if the student had said the end of the scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

Reward = Callable[[float | None, float], float]  # (score or None, target) -> 0 to 1


def on_scale(score: float | None, low: float = 0.0, high: float = 10.0) -> bool:
    """Whether ``score`` is a number from ``low`` to ``high``.

    Example:
        >>> on_scale(10), on_scale(10.5), on_scale(float("nan")), on_scale(None)
        (True, False, False, False)
    """
    return score is not None and low <= score <= high


def format_reward(score: float | None, low: float = 0.0, high: float = 10.0) -> float:
    """1 for an answer from which a score on the scale could be read, else 0.

    Example:
        >>> format_reward(3), format_reward(None)
        (1.0, 0.0)
    """
    return float(on_scale(score, low, high))


def linear_reward(score: float | None, target: float, low: float = 0.0, high: float = 10.0) -> float:
    """1 - abs(score - target) / (high - low): 1 at the target, 0 at the other end of the scale.

    Example:
        >>> linear_reward(7, 5), linear_reward(5, 5), linear_reward(11, 10)
        (0.8, 1.0, 0.0)
    """
    if score is None or not on_scale(score, low, high):
        return 0.0
    return 1.0 - abs(score - target) / (high - low)


def gaussian_reward(
    score: float | None, target: float, low: float = 0.0, high: float = 10.0, sigma: float = 0.2
) -> float:
    """exp(-(score - target)^2 / (2 s^2)) with s = ``sigma`` * (high - low): steepest at an error of s.

    Example:
        >>> round(gaussian_reward(7, 5), 4), gaussian_reward(5, 5), gaussian_reward(None, 5)
        (0.6065, 1.0, 0.0)
    """
    if score is None or not on_scale(score, low, high):
        return 0.0
    return math.exp(-(((score - target) / (sigma * (high - low))) ** 2) / 2)


def binary_reward(
    score: float | None, target: float, low: float = 0.0, high: float = 10.0, tolerance: float = 0.1
) -> float:
    """1 within ``tolerance`` * (high - low) of the target, else 0; the control arm.

    Example:
        >>> binary_reward(5.9, 5), binary_reward(7, 5)
        (1.0, 0.0)
    """
    return float(score is not None and on_scale(score, low, high) and abs(score - target) <= tolerance * (high - low))


def total_reward(
    score: float | None, accuracy: float, format_weight: float, low: float = 0.0, high: float = 10.0
) -> float:
    """What an answer earns: its accuracy, and ``format_weight`` for being a score at all.

    Example:
        >>> total_reward(7, 0.75, 0.25), total_reward(None, 0.0, 0.25)
        (1.0, 0.0)
    """
    return accuracy + format_weight * format_reward(score, low, high)


def best_constant_reward(
    targets: Iterable[float], reward: Reward, low: float = 0.0, high: float = 10.0
) -> tuple[float, float]:
    """The largest mean reward that one and the same score for every image can earn, and that score.

    A judge whose reward is no higher than this need not have looked at the image. Searched over 1,001 evenly spaced
    scores.

    Args:
        targets: the scores to reach, at least one.
        reward: of (score, target).
        low: lowest score of the scale.
        high: highest score of the scale.

    Example:
        >>> best_constant_reward([3, 8, 8, 8], linear_reward)
        (0.875, 8.0)
    """
    values, counts = np.unique(np.asarray(list(targets), dtype=float), return_counts=True)
    candidates = np.linspace(low, high, 1001)
    means = [
        float(np.average([reward(float(score), float(target)) for target in values], weights=counts))
        for score in candidates
    ]
    best = int(np.argmax(means))
    return means[best], float(candidates[best])
