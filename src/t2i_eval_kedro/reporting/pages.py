"""The Jinja environment that every page is rendered with, and the filters that write figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jinja2

from t2i_eval_kedro.reporting import tables
from t2i_eval_kedro.reporting.inputs import plain, statistic_label


def environment() -> jinja2.Environment:
    """The templates of this package with the filters of this module; every value is escaped, an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("t2i_eval_kedro.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "interval": interval,
        "plain": plain,
        "statistic": statistic_label,
        "p_value": p_value,
        "percent": percent,
        "share": share,
    }
    return environment


def percent(share: float) -> str:
    """A share of 1 in percent."""
    return f"{100 * share:g}%"


def share(value: float | None) -> str:
    """A share of 1 in percent to one decimal, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}%"


def interval(row: Mapping[str, Any]) -> str:
    """The interval of a row or figure with ``low`` and ``high``."""
    return tables.interval(float(row["low"]), float(row["high"]))


def p_value(value: object) -> str:
    """A p-value to three decimals, or that it is smaller."""
    if not isinstance(value, float) or math.isnan(value):
        return "–"
    return "<0.001" if value < 0.001 else tables.number(value)
