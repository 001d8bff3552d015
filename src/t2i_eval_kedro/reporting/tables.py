"""Tidy tables and printed numbers from the summary and the canonical tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.ratings import mean_ratings

AGREEMENT = ("evaluator", "dimension", "statistic", "value", "low", "high", "n", "reason")
DIFFERENCES = ("a", "b", "dimension", "statistic", "difference", "low", "high")


def agreement(summary: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each evaluator, dimension and statistic, with the columns ``AGREEMENT``.

    ``value``, ``low`` and ``high`` are NaN where the summary has null, and ``reason`` then says why.
    """
    rows = [
        {"evaluator": evaluator, "dimension": dimension, "statistic": statistic, **cell}
        for evaluator, dimensions in summary.get("evaluators", {}).items()
        for dimension, statistics in dimensions.items()
        for statistic, cell in statistics.items()
    ]
    frame = pd.DataFrame(rows, columns=list(AGREEMENT))
    numbers = ["value", "low", "high", "n"]
    frame[numbers] = frame[numbers].astype("float64")
    return frame


def counts(summary: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each evaluator and dimension: how many items are ``ok``, ``unparsed``, ``failed``, ``not_applicable``."""
    rows = [
        {
            "evaluator": evaluator,
            "dimension": dimension,
            **{status: int(cell.get(status, 0)) for status in schema.STATUSES},
        }
        for evaluator, dimensions in summary.get("counts", {}).items()
        for dimension, cell in dimensions.items()
    ]
    frame = pd.DataFrame(rows, columns=["evaluator", "dimension", *schema.STATUSES])
    frame["items"] = frame[list(schema.STATUSES)].sum(axis=1)
    return frame


def differences(summary: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each paired difference (``a`` minus ``b``); ``excludes_zero`` is true where its interval does."""
    frame = pd.DataFrame(list(summary.get("significance") or []))
    for column in DIFFERENCES:
        if column not in frame:
            frame[column] = None
    numbers = ["difference", "low", "high"]
    frame[numbers] = frame[numbers].astype("float64")
    frame["excludes_zero"] = (frame["low"] > 0) | (frame["high"] < 0)
    return frame


def oriented(pairs: pd.DataFrame, first: str | None) -> pd.DataFrame:
    """The paired differences with evaluator ``first`` as ``a`` wherever it is one of the two; the rest as they are."""
    turned = pairs.copy()
    rows = turned["b"] == first
    turned.loc[rows, ["a", "b"]] = pairs.loc[rows, ["b", "a"]].to_numpy()
    turned.loc[rows, ["difference", "low", "high"]] = -pairs.loc[rows, ["difference", "high", "low"]].to_numpy()
    return turned


def people_means(ratings: pd.DataFrame) -> pd.DataFrame:
    """People's mean for each item (index) and dimension (columns)."""
    return mean_ratings(ratings).pivot(index="item_id", columns="dimension", values="score")


def judge_means(scores: pd.DataFrame, dimension: str) -> pd.DataFrame:
    """Each evaluator's score (columns) of each item (index) on ``dimension``, the mean over runs that ended ``ok``.

    A score of no dimension (``""``) is compared with every dimension.
    """
    usable = scores[
        scores["dimension"].isin([dimension, ""]) & (scores["status"] == schema.OK) & scores["score"].notna()
    ]
    return usable.pivot_table(index="item_id", columns=schema.evaluator_names(usable), values="score", aggfunc="mean")


def lower_is_better(scores: pd.DataFrame) -> set[str]:
    """The evaluators whose low scores mean good images."""
    return set(schema.evaluators(scores[~scores["higher_is_better"].astype(bool)]))


def number(value: object, digits: int | None = 3) -> str:
    """``value`` for print, with a true minus sign; text as it is, nulls as a dash.

    Args:
        value: what to print.
        digits: decimals of a float; None writes six significant digits without trailing zeros.
    """
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and digits == 0):
        return f"{value:,.0f}".replace("-", "−")
    if isinstance(value, float):
        text = f"{value:.6g}" if digits is None else f"{value:.{digits}f}"
        return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
    return str(value)


def count_of(n: int, noun: str) -> str:
    """``n`` and its noun, which takes an s unless ``n`` is 1.

    Example:
        >>> count_of(1, "image"), count_of(2000, "image")
        ('1 image', '2,000 images')
    """
    return f"{number(n)} {noun}" + ("" if n == 1 else "s")


def interval(low: float, high: float, digits: int = 3) -> str:
    """``[low, high]`` with a space that does not break, or nothing where there is no interval.

    A bound that would be rounded to zero has as many decimals, up to six, as show on which side of zero it lies.

    Example:
        >>> interval(-0.012, -0.003, 2).replace("\N{NO-BREAK SPACE}", " ")
        '[−0.01, −0.003]'
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{_bound(low, digits)},\N{NO-BREAK SPACE}{_bound(high, digits)}]"


def _bound(value: float, digits: int) -> str:
    while digits < 6 and value and not round(value, digits):
        digits += 1
    return number(value, digits)
