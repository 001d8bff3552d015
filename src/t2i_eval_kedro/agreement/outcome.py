"""What a summary of tables that people brought may claim: no error on unlike scales, no success without a figure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.estimates import Json

UNLIKE_SCALES = "the scores are not declared to be on the scale of the ratings"


def withhold_rmse(summary: Json, evaluators: Collection[str] | None = None) -> None:
    """Set every RMSE of ``summary``, or those of ``evaluators``, to null: the difference of numbers on two scales means nothing."""
    for name, by_dimension in summary["evaluators"].items():
        if evaluators is not None and name not in evaluators:
            continue
        for cells in by_dimension.values():
            if cells.get("rmse", {}).get("value") is not None:
                cells["rmse"] |= {"value": None, "low": None, "high": None, "reason": UNLIKE_SCALES}


def refuse_without_figure(summary: Mapping[str, Any]) -> None:
    """Stop where no judge has a correlation or an accuracy of preferences.

    Raises:
        T2IEvalError: the sentence gives the reason of the first judge.
    """
    cells = [
        (f"'{name}' on '{dimension}'", cell["spearman"])
        for name, by_dimension in summary["evaluators"].items()
        for dimension, cell in by_dimension.items()
    ] + [
        (f"preferences of '{name}'", cell["accuracy"])
        for name, by_dimension in summary.get("preferences", {}).items()
        for cell in by_dimension.values()
    ]
    if any(cell["value"] is not None for _, cell in cells):
        return
    where, reason = (
        (cells[0][0], cells[0][1].get("reason", "")) if cells else ("any evaluator", "nobody rated what it scored")
    )
    raise T2IEvalError(f"No figure can be computed: {where}: {reason}.")
