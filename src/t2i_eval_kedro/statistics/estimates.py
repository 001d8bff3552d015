"""One estimate as plain JSON: rounded, with its interval, null with a reason where it is not defined."""

from __future__ import annotations

import math
from typing import Any

from t2i_eval_kedro.statistics.bootstrap import MIN_GROUPS, percentile_interval
from t2i_eval_kedro.statistics.kernels import Floats

DIGITS = 6

Json = dict[str, Any]


def round_or_none(value: float) -> float | None:
    """``value`` rounded to 6 digits; None where it is not finite."""
    return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else None


def estimate(value: float, reason: str | None = None, **more: float | int) -> Json:
    """``{value, **more}``, with a ``reason`` where the value is not finite; whole numbers in ``more`` stay whole."""
    out: Json = {"value": round_or_none(value)}
    out |= {name: entry if isinstance(entry, int) else round_or_none(entry) for name, entry in more.items()}
    if out["value"] is None:
        out["reason"] = reason or "not defined for these values"
    return out


def too_few(n: int, unit: str, least: int, purpose: str = "") -> str:
    """Why nothing is said where there are ``n`` of ``unit`` (in the plural) and not ``least``.

    Example:
        >>> too_few(1, "prompts", 8), too_few(2, "raters", 3, " for an interval")
        ('1 prompt is too few (at least 8)', '2 raters are too few for an interval (at least 3)')
    """
    clause = f"{n} {unit} are" if n != 1 else f"1 {unit.removesuffix('s')} is"
    return f"{clause} too few{purpose} (at least {least})"


def no_interval(groups: int, unit: str = "prompts") -> str:
    """Why a bootstrap of ``groups`` groups gives no interval."""
    if groups < MIN_GROUPS:
        return too_few(groups, unit, MIN_GROUPS)
    return "the statistic is undefined in too many of the resamples"


def bootstrap_estimate(
    resampled: Floats, confidence: float, groups: int, reason: str | None = None, **more: float | int
) -> Json:
    """An estimate and its percentile interval, from ``(1 + B,)`` values: the estimate, then the bootstrap resamples
    of ``groups`` groups."""
    value = float("nan") if reason else float(resampled[0])
    low, high = (
        percentile_interval(resampled[1:], confidence, groups, value)
        if math.isfinite(value)
        else (float("nan"), float("nan"))
    )
    out = estimate(value, reason, low=low, high=high, **more)
    if out["value"] is not None and out["low"] is None:
        out["reason"] = f"no interval: {no_interval(groups)}"
    return out
