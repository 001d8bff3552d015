"""One figure as plain JSON: rounded, with its interval, null with a reason where it is not defined."""

from __future__ import annotations

import math
from typing import Any

from t2i_eval_kedro.statistics.bootstrap import percentile_interval
from t2i_eval_kedro.statistics.kernels import Floats

DIGITS = 6

Json = dict[str, Any]


def number(value: float) -> float | None:
    """``value`` rounded to 6 digits; None where it is not finite."""
    return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else None


def figure(value: float, reason: str | None = None, **more: float | int) -> Json:
    """``{value, **more}``, with a ``reason`` where the value is not finite; whole numbers in ``more`` stay whole."""
    out: Json = {"value": number(value)}
    out |= {name: entry if isinstance(entry, int) else number(entry) for name, entry in more.items()}
    if out["value"] is None:
        out["reason"] = reason or "not defined for these values"
    return out


def drawn(draws: Floats, level: float, reason: str | None = None, **more: float | int) -> Json:
    """A figure and its percentile interval from ``(1 + B,)`` draws, of which the first is the figure itself."""
    value = float("nan") if reason else float(draws[0])
    low, high = percentile_interval(draws[1:], level) if math.isfinite(value) else (float("nan"), float("nan"))
    out = figure(value, reason, low=low, high=high, **more)
    if out["value"] is not None and out["low"] is None:
        out["reason"] = "no interval: the figure is undefined in too many of the draws"
    return out
