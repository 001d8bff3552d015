"""A summary of agreement as a few tables with printed numbers, and as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.reporting.inputs import asked_in_both_orders, plain
from t2i_eval_kedro.reporting.pages import environment

Grouping = Literal["none", "prompt", "generator", "skill"]
GROUPINGS: tuple[Grouping, ...] = ("none", "prompt", "generator", "skill")
STATISTICS = {
    "spearman": "Spearman",
    "kendall_b": "Kendall tau-b",
    "pearson": "Pearson",
    "pairwise_accuracy": "Pairwise accuracy",
}


@dataclass(frozen=True)
class PrintedTable:
    """A table to be read: ``title`` above ``frame``, whose cells are texts and counts."""

    title: str
    frame: pd.DataFrame


def agreement_tables(summary: Mapping[str, Any], by: Grouping = "none") -> list[PrintedTable]:
    """The tables of ``summary``: agreement, response status, noise ceiling, differences, preferences, what they rest on; those that there are.

    Args:
        summary: what :func:`t2i_eval_kedro.agreement.summarise` returned.
        by: groups within which agreement is computed and then averaged.

    Raises:
        T2IEvalError: ``by`` is ``skill`` and no item has one.
    """
    tables = [
        agreement_table(summary, by),
        _status(summary),
        _ceiling(summary),
        differences_table(summary, by),
        _preferences(summary),
        *reliance_tables(summary),
    ]
    return [table for table in tables if len(table.frame)]


def reliance_tables(summary: Mapping[str, Any]) -> list[PrintedTable]:
    """What the figures of ``summary`` rest on: completeness, runs, strength of preferences, position bias; those that there are."""
    tables = [make(summary) for make in (_completeness, _runs, _strengths, _position)]
    return [table for table in tables if len(table.frame)]


def agreement_table(summary: Mapping[str, Any], by: Grouping = "none") -> PrintedTable:
    """The agreement of every evaluator on every dimension, highest Spearman first.

    Over all items (``by`` none) the columns also give Spearman within prompts and generators, the coverage, and Spearman with the
    evaluator's worst score for items without one.
    """
    if by == "skill" and not summary["within_group"].get("skill"):
        raise T2IEvalError("There are no skills; give the ratings a column 'skill' (several separated by ';').")
    source = summary["evaluators"] if by == "none" else summary["within_group"].get(by, {})
    measured = [(name, dimension, cells) for name, cells_of in source.items() for dimension, cells in cells_of.items()]

    def place(row: tuple[str, str, Mapping[str, Any]]) -> tuple[str, float, str]:
        value = row[2]["spearman"]["value"]
        return row[1], math.inf if value is None else -value, row[0]

    def beside(name: str, dimension: str) -> dict[str, str]:
        """Columns that belong to the agreement over all items."""
        if by != "none":
            return {}
        within, complete = summary["within_group"], summary["completeness"].get(name, {}).get(dimension, {})
        figures = {
            "within prompts": within.get("prompt", {}).get(name, {}).get(dimension, {}).get("spearman"),
            "within generators": within.get("generator", {}).get(name, {}).get(dimension, {}).get("spearman"),
            "coverage": {"value": complete.get("coverage")},
            "unscored as worst": complete.get("unscored_as_worst", {}).get("spearman"),
        }
        return {label: _number((cell or {}).get("value")) for label, cell in figures.items()}

    rows = [
        {"evaluator": name, "dimension": dimension, "Spearman": _estimate(cells.get("spearman"))}
        | beside(name, dimension)
        | {label: _estimate(cells.get(statistic)) for statistic, label in STATISTICS.items() if statistic != "spearman"}
        | {"n": cells["spearman"].get("n"), "note": cells["spearman"].get("reason", "")}
        for name, dimension, cells in sorted(measured, key=place)
    ]
    level = 100 * float(summary["settings"]["confidence"])
    grouped = "" if by == "none" else f", averaged within each {by}"
    return PrintedTable(f"Agreement with the mean rating{grouped} ({level:g}% interval over prompts)", _frame(rows))


def differences_table(summary: Mapping[str, Any], by: Grouping = "none") -> PrintedTable:
    """The paired differences between evaluators: in Spearman over all items, and within prompts in Kendall's tau-b, which is tested there."""
    statistic, title = "spearman", "Spearman over all items"
    if by == "prompt":
        statistic, title = "kendall_b_within_prompt", "Kendall tau-b within prompts"
    rows = [
        {
            "a": entry["a"],
            "b": entry["b"],
            "dimension": entry["dimension"],
            "a minus b": _estimate({**entry, "value": entry["difference"]}),
            "p": _number(entry["p"]),
            "p (Holm)": _number(entry.get("p_holm")),
            "note": entry.get("reason", ""),
        }
        for entry in summary["significance"]
        if entry["statistic"] == statistic
    ]
    return PrintedTable(f"Paired differences in {title} (prompt-level permutation test)", _frame(rows))


def _status(summary: Mapping[str, Any]) -> PrintedTable:
    return PrintedTable(
        "Response status (rated items)",
        _frame(
            [
                {"evaluator": name, "dimension": dimension} | dict(cell)
                for name, dimensions in summary["counts"].items()
                for dimension, cell in dimensions.items()
            ]
        ),
    )


def _ceiling(summary: Mapping[str, Any]) -> PrintedTable:
    return PrintedTable(
        "Noise ceiling",
        _frame(
            [
                {
                    "dimension": dimension,
                    "statistic": statistic,
                    "noise ceiling": _estimate(cell) if cell.get("low") is not None else _number(cell["value"]),
                    "note": cell.get("reason", ""),
                }
                for dimension, cells in summary["noise_ceiling"].items()
                for statistic, cell in cells.items()
            ]
        ),
    )


def _preferences(summary: Mapping[str, Any]) -> PrintedTable:
    twice = asked_in_both_orders(summary)
    return PrintedTable(
        "Agreement with people's preferences",
        _frame(
            [
                {"evaluator": name, "dimension": dimension or "(any)"}
                | {plain(kind): _estimate(cell[kind]) for kind in ("accuracy", "accuracy_without_ties")}
                | ({"same in both orders": _estimate(cell.get("order_consistency"))} if twice else {})
                | {"n": cell["accuracy"]["n"], "without score": cell["n_unscored"]}
                for name, dimensions in summary.get("preferences", {}).items()
                for dimension, cell in dimensions.items()
            ]
        ),
    )


def _strengths(summary: Mapping[str, Any]) -> PrintedTable:
    return PrintedTable(
        "Accuracy by the strength of people's preference (without ties)",
        _frame(
            [
                {"evaluator": name, "dimension": dimension or "(any)", "strength": strength}
                | {"accuracy": _estimate(of), "n": of["n"]}
                for name, dimensions in summary.get("preferences", {}).items()
                for dimension, cell in dimensions.items()
                for strength, of in cell.get("by_strength", {}).items()
            ]
        ),
    )


def _position(summary: Mapping[str, Any]) -> PrintedTable:
    return PrintedTable(
        "Position bias of judges of pairs",
        _frame(
            [
                {
                    "evaluator": name,
                    "first preferred": _estimate(cell["first_preferred"]),
                    "by people": _estimate(cell["first_preferred_by_people"]),
                    "same image in both orders": _estimate(cell["consistent"]),
                    "verdicts": cell["n_verdicts"],
                    "pairs in both orders": cell["n_pairs_in_both_orders"],
                }
                for name, cell in summary.get("position_bias", {}).items()
            ]
        ),
    )


def _completeness(summary: Mapping[str, Any]) -> PrintedTable:
    """Shown where some judge lacks scores of rated items."""
    rows = [
        {
            "evaluator": name,
            "dimension": dimension,
            "coverage": f"{cell['coverage']:.1%}",
            "unscored": cell["n_unscored"],
        }
        | {
            f"{label}, unscored as worst": _number(cell["unscored_as_worst"][statistic]["value"])
            for statistic, label in STATISTICS.items()
            if statistic in cell["unscored_as_worst"]
        }
        for name, dimensions in summary.get("completeness", {}).items()
        for dimension, cell in dimensions.items()
        if cell["coverage"] is not None
    ]
    complete = all(row["unscored"] == 0 for row in rows)
    return PrintedTable("Completeness", _frame([] if complete else rows))


def _runs(summary: Mapping[str, Any]) -> PrintedTable:
    def spread(cell: Mapping[str, Any]) -> str:
        deviation = cell["standard_deviation"]
        return _number(cell["mean"]) + (f" ± {deviation:.3f}" if deviation is not None else "")

    return PrintedTable(
        "Over the runs of a judge (mean ± standard deviation of the runs)",
        _frame(
            [
                {"evaluator": name, "dimension": dimension, "runs": cell["n_runs"]}
                | {label: spread(cell[statistic]) for statistic, label in STATISTICS.items() if statistic in cell}
                | {"spread of a score": _number(cell["score_standard_deviation"])}
                for name, dimensions in summary.get("runs", {}).items()
                for dimension, cell in dimensions.items()
            ]
        ),
    )


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """``rows`` without the column ``note`` where no row has one."""
    frame = pd.DataFrame(list(rows))
    return frame.drop(columns="note") if "note" in frame and (frame["note"] == "").all() else frame


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _estimate(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["value"] is None:
        return "-"
    return f"{cell['value']:.3f} [{_number(cell['low'])}, {_number(cell['high'])}]"


def build_agreement(summary: Mapping[str, Any], by: Grouping = "none") -> str:
    """The tables of ``summary`` as one HTML page, without scripts and without anything to fetch."""
    notes = {plain(name): count for name, count in summary.get("input", {}).items() if count}
    return (
        environment()
        .get_template("agreement.html.jinja")
        .render(tables=agreement_tables(summary, by), notes=notes, settings=summary["settings"])
    )
