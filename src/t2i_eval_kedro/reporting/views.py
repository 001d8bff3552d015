"""What the page's tables show, made from the summary, the data card and the canonical tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from t2i_eval_kedro import schema
from t2i_eval_kedro.ratings import valid_ratings
from t2i_eval_kedro.reporting import figures, tables
from t2i_eval_kedro.reporting.claims import ReportContext
from t2i_eval_kedro.reporting.inputs import (
    HEADLINE,
    LOWER_IS_BETTER,
    asked_in_both_orders,
    order_dimensions,
    order_statistics,
    ordered,
    plain,
    statistic_label,
)
from t2i_eval_kedro.steps import MERGE

_CARD_KNOWN = (
    "name",
    "title",
    "description",
    "synthetic",
    "licence",
    "source",
    "citation",
    "teacher",
    "data_issues",
    "faults",  # the name of data_issues in cards written before 0.2
    "dimensions",
)
_OPEN_RECORDS = 8  # a longer list of records is folded
_PAIRS_SHOWN = 12
_WITHIN = {
    "within prompts": ("within_group", "prompt"),
    "within generators": ("within_group", "generator"),
}
_BREAKDOWN = {
    "within a skill": ("within_group", "skill"),
    "ranking of generators": ("ranking",),
}

_ON_ELEMENTS = ("accuracy", "precision", "recall", "f1")
_ON_PREFERENCES = ("accuracy", "accuracy_without_ties")


def text(value: object) -> str:
    """Any value of a card or of a record on one line; a figure is printed with its interval."""
    if isinstance(value, Mapping):
        if "value" in value:
            low, high = (float("nan") if value.get(end) is None else float(value[end]) for end in ("low", "high"))
            return f"{tables.number(value['value'])} {tables.interval(low, high)}".strip()
        return ", ".join(f"{key} {text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(one) for one in value)
    return tables.number(value, None)


def pairs(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (name, value) lines; a nested key is named after its parents."""
    lines = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            lines += pairs(value, f"{name} · ")
        else:
            lines.append((name, text(value)))
    return lines


def records(rows: object) -> dict[str, Any] | None:
    """A list of records as a table; the columns are all the keys in the order of first use; None without records."""
    if not isinstance(rows, Iterable) or isinstance(rows, str | Mapping):
        return None
    kept = [row for row in rows if isinstance(row, Mapping)]
    columns = list(dict.fromkeys(key for row in kept for key in row))
    if not columns:
        return None
    return {
        "columns": [(name, all(not isinstance(row.get(name), str) for row in kept)) for name in columns],
        "rows": [
            [
                tables.number(row.get(name)) if isinstance(row.get(name), float) else text(row.get(name))
                for name in columns
            ]
            for row in kept
        ],
        "folded": len(kept) > _OPEN_RECORDS,
    }


def published(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Published figures and their reproduction as a table, all with as many decimals as the source printed."""
    shown = []
    for row in rows:
        decimals = len(repr(float(row["published"])).partition(".")[2])
        shown.append(
            {
                name: tables.number(value, max(decimals, 3)) if isinstance(value, float) else value
                for name, value in row.items()
            }
        )
    table = records(shown)
    if table is not None:
        numeric = {name for row in rows for name, value in row.items() if isinstance(value, int | float)}
        table["columns"] = [(name, name in numeric) for name, _ in table["columns"]]
    return table


_MONEY = ("building_the_training_set", "training", "teacher_an_image", "student_an_image")
_CHECKS = {
    "agreement_with_people": "Agreement of the teacher with people over all items, by aspect; 95% intervals over prompts.",
    "answers": "What became of the teacher's answers, by sub-task, as shares of those asked.",
    "contradictions": "Answers that speak against the teacher's own scores.",
    "leakage": "Labels that stand in the text from which they should be predicted.",
    "agreement_of_runs": "How far two runs of the teacher agree.",
    "stages": "How errors compound along the chain: each stage over all, and where everything before it was right or something "
    "was wrong.",
}


_DIAGNOSTICS = {
    "extraction": (
        "Extraction",
        "The questions that the chain asks, against the known elements of the prompts. Exact: the share of items whose questions are these "
        "elements and no others.",
    ),
    "answers": (
        "Answers by skill",
        "Answers of the chain to questions about known elements: the share that most people agree with.",
    ),
    "steps": (
        "The chain step by step",
        "What each step alone says of an item (its mean where several are asked), against people: Spearman. True answers are people's labels in "
        "place of the judge's answers.",
    ),
    "attribution": (
        "Where the chain loses agreement",
        "The chain is asked again about some items with exactly one stage made true, from people's labels and ratings: what the agreement of "
        "the final score gains (Spearman, an item without a score counts as the worst; intervals over prompts). With true summaries, what is "
        "still missing is the merge's own error.",
    ),
    "kept_or_forgotten": (
        "Kept or forgotten",
        "Sub-tasks before and after a training: the share of answers about elements that is right, by protocol and skill, and its change with an "
        "interval over prompts.",
    ),
    "rationales": (
        "Rationales",
        "What an evaluator says is wrong, against people's labels of the prompt's elements, with intervals over prompts: the share of true faults that "
        "it names, of named faults that are none, and of rationales that contradict their own score.",
    ),
    "score_variety": (
        "Variety of scores",
        "The fewest different scores that an evaluator gives on a dimension, and the share of items to which it gives one score on every dimension.",
    ),
    "out_of_vocabulary": (
        "Probability outside the answers",
        "What an evaluator gives to other words than the answers that it may choose from: the mean and the highest share, and the share of "
        "requests above the limit, whose scores are null.",
    ),
    "skills_kendall": (
        "EvalAlign’s study",
        "Kendall's tau-b of the generators' ranking by a judge's options and by people's, with an interval over generators. Faithfulness is "
        "averaged over all applicable (image, skill) pairs, macro over skills; alignment is the published total an image, and a question.",
    ),
    "skills_by_generator": ("Skills by generator", "The figures behind these rankings."),
    "skills_kappa": (
        "Raters of skills",
        "How far raters choose the same option: Cohen's kappa, the mean over pairs of raters.",
    ),
}
_FLAGS = ("forgotten", "few", "same", "alike", "mostly_other")  # said in sentences


def diagnostics(given: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences about judges that lost a sub-task or hardly tell images apart, and the tables behind them."""
    tables_of = {**given.get("chain", {}), **given}
    forgotten = [row for row in tables_of.get("kept_or_forgotten", []) if row["forgotten"]]
    other = [row for row in tables_of.get("out_of_vocabulary", []) if row["mostly_other"]]
    alike = [row for row in tables_of.get("score_variety", []) if row["alike"]]
    return {
        "warnings": [
            f"{row['after']} answers {plain(row['skill'])} worse than {row['before']} did ({row['protocol']}): "
            f"{row['accuracy_after']:.0%} of {row['n']} answers are right in place of {row['accuracy_before']:.0%}."
            for row in forgotten
        ]
        + [
            f"{row['evaluator']} gives "
            + " and ".join(
                [
                    *(
                        [f"{row['fewest_values']} different scores on {plain(row['dimension']) or 'its dimension'}"]
                        if row["few"]
                        else []
                    ),
                    *(
                        [f"one score on every dimension to {row['one_score_for_all']:.0%} of its items"]
                        if row["same"]
                        else []
                    ),
                ]
            )
            + "."
            for row in alike
        ]
        + [
            f"{row['evaluator']} gives {row['mean']:.1%} of the probability to other words than the answers that it may choose from: it "
            "was not taught to answer so, and its scores say little."
            for row in other
        ],
        "blocks": [
            {
                "name": name,
                "title": title,
                "text": sentence,
                "table": records(_WIDE[name](tables_of[name]) if name in _WIDE else _without_flags(tables_of[name])),
                "detail": records(_without_flags(tables_of[name])) if name in _WIDE else None,
            }
            for name, (title, sentence) in _DIAGNOSTICS.items()
            if tables_of.get(name)
        ],
    }


def _without_flags(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in _FLAGS} for row in rows]


def _steps(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Spearman with a column for each step, in the order of the chain."""
    order = [step for step in _STEPS if any(row["step"] == step for row in rows)]
    cells = {(row["judge"], row["dimension"], row["step"]): row["spearman"] for row in rows}
    keys = dict.fromkeys((row["judge"], row["dimension"]) for row in rows)
    return [
        {"judge": judge, "dimension": dimension} | {step: cells.get((judge, dimension, step)) for step in order}
        for judge, dimension in keys
    ]


def _attribution(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each judge: its own chain, and the change with each stage made true."""
    out: dict[str, dict[str, Any]] = {}
    for row in rows:
        mine = out.setdefault(row["judge"], {"judge": row["judge"]})
        if row["change"] is None:
            mine |= {"items": row["items"], "scored": row["scored"], "own chain": row["spearman"]}
        else:
            mine[f"true {row['true_stage']}"] = row["change"]
    return list(out.values())


_STEPS = ("answers", "true answers", "evaluations", "summaries", MERGE)
_WIDE = {"steps": _steps, "attribution": _attribution}


def teacher(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The teacher's account, checks and break-even point; None where there was no teacher."""
    costs, checks = given.get("costs") or {}, given.get("checks") or {}
    if not costs:
        return None
    paid = costs.get("account") or {}
    money = {
        f"{name} {costs['currency']}": value for name, value in given.get("break_even", {}).items() if name in _MONEY
    }
    return {
        "kind": costs["teacher"],
        "model": costs.get("model"),
        "as_of": costs.get("prices_as_of"),
        "currency": costs.get("currency"),
        "account": [
            (plain(name).capitalize(), tables.number(value, 4 if name == "cost" else 0)) for name, value in paid.items()
        ]
        if costs.get("model")
        else [],
        "dropped": list((costs.get("dropped") or {}).items()),
        "break_even": [(plain(name).capitalize(), f"{value:.6g}") for name, value in money.items()],
        "images": given.get("break_even", {}).get("images"),
        "as_if_asked": given.get("break_even", {}).get("as_if_asked"),
        "tables": [(name, title, records(checks[name])) for name, title in _CHECKS.items() if checks.get(name)],
    }


def card(given: Mapping[str, Any]) -> dict[str, Any]:
    """The data card: the known texts, the data issues as sentences, everything else as labelled values and tables."""
    rest = {key: value for key, value in given.items() if key not in _CARD_KNOWN and value not in (None, "", [], {})}
    mappings = {key: value for key, value in rest.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in rest.items() if isinstance(value, list | tuple)}
    return {
        "present": bool(given),
        "title": given.get("title") or given.get("name"),
        "description": given.get("description"),
        "facts": [
            (plain(key).capitalize(), text(given[key])) for key in ("licence", "source", "citation") if given.get(key)
        ]
        + [(plain(str(key)).capitalize(), text(value)) for key, value in rest.items() if key not in (*mappings, *lists)]
        + [(plain(key).capitalize(), text(value)) for key, value in lists.items() if records(value) is None],
        "groups": [
            (plain(str(key)), [line for line in pairs(value) if line[1] and (key, line[1]) != ("sizes", "0")])
            for key, value in mappings.items()
        ],
        "tables": [(plain(str(key)), records(value)) for key, value in lists.items() if records(value) is not None],
        "data_issues": _data_issues(given.get("data_issues") or given.get("faults") or []),
    }


def _data_issues(given: Mapping[str, Any] | Sequence[Any]) -> list[dict[str, Any]]:
    """Each issue as a sentence and its examples, from a list of texts, of records, or from a mapping."""
    if isinstance(given, Mapping):
        return [{"text": f"{plain(str(kind))}: {text(value)}", "examples": []} for kind, value in given.items()]
    issues = []
    for issue in given:
        if isinstance(issue, Mapping) and "kind" in issue:
            count = f" ({tables.number(issue['count'])})" if "count" in issue else ""
            action = f": {issue['action']}" if issue.get("action") else ""
            issues.append(
                {
                    "text": f"{issue['kind']}{count}{action}",
                    "examples": [text(one) for one in issue.get("examples", [])],
                }
            )
        else:
            issues.append({"text": text(issue), "examples": []})
    return issues


def rated(ratings: pd.DataFrame, given: Mapping[str, Any], dimensions: list[str]) -> list[dict[str, Any]]:
    """For each rated dimension: what it means, its scale, numbers of ratings and items, what the means leave out."""
    described = {
        one["name"]: one.get("description", "")
        for one in given.get("dimensions") or []
        if isinstance(one, Mapping) and "name" in one
    }
    rows = []
    for dimension in ordered([*dimensions, *ratings["dimension"]], ()):
        mine = ratings[ratings["dimension"] == dimension]
        if mine.empty:
            continue
        rows.append(
            {
                "dimension": dimension,
                "description": described.get(dimension, ""),
                "scale": f"{mine['scale_min'].iloc[0]:g} to {mine['scale_max'].iloc[0]:g}",
                "items": int(mine["item_id"].nunique()),
                "ratings": len(mine),
                "mean": float(valid_ratings(mine)["score"].mean()),
                "null": int(mine["score"].isna().sum()),
                "off_scale": int(mine["off_scale"].sum()),
            }
        )
    return rows


def agreement(
    summary: Mapping[str, Any], about: ReportContext, dimensions: list[str], lower: set[str]
) -> list[dict[str, Any]]:
    """For each dimension a table of the main statistics, one of the others, and a forest plot; highest rows on top.

    The main table also has the main statistic within prompts and generators and, where an evaluator left items unscored, the
    coverage and the main statistic with the worst score in place of those.
    """
    names = order_statistics(list(about.agreement["statistic"]))
    main = [name for name in names if name in HEADLINE] or names
    rows = about.agreement.loc[about.agreement["statistic"] == about.statistic, ["value", "low", "high"]]
    bounds = [float(end) for end in rows.to_numpy().ravel() if not math.isnan(end)]
    limits = (min([-0.02, *bounds]) - 0.03, max([0.02, *bounds]) + 0.03)
    blocks = []
    for index, dimension in enumerate(dimensions):
        mine = about.agreement[about.agreement["dimension"] == dimension]
        first = mine[mine["statistic"] == about.statistic].sort_values(["value", "evaluator"], ascending=[False, True])
        further = [name for name in names if name not in main and (mine["statistic"] == name).any()]
        table = _cells(mine, first, main, lower, about.comparable(dimension))
        evaluators = [row["evaluator"] for row in table["rows"]]
        within = {
            column: {name: _figure(_at(summary, *path, name, dimension, about.statistic)) for name in evaluators}
            for column, path in _WITHIN.items()
        }
        complete = {name: _at(summary, "completeness", name, dimension) or {} for name in evaluators}
        table["within"] = [column for column, cells in within.items() if any(cells.values())]
        table["incomplete"] = any((cells.get("coverage") or 1) < 1 for cells in complete.values())
        for row in table["rows"]:
            cells = complete[row["evaluator"]]
            row["within"] = [within[column][row["evaluator"]] for column in table["within"]]
            row["coverage"] = cells.get("coverage")
            row["as_worst"] = _at(cells, "unscored_as_worst", about.statistic, "value")
        blocks.append(
            {
                "dimension": dimension,
                "main": table,
                "further": _cells(mine, first, further, lower, about.comparable(dimension)) if further else None,
                "figure": _forest(first, about, dimension, limits, f"forest{index}"),
            }
        )
    return blocks


def _cells(
    mine: pd.DataFrame, first: pd.DataFrame, statistics: list[str], lower: set[str], comparable: set[str]
) -> dict[str, Any]:
    """The rows of one table, the ``comparable`` evaluators first; only one of them, and no reversed order, is best."""
    cells = {(row["evaluator"], row["statistic"]): row for _, row in mine.iterrows()}
    best = {}
    for name in statistics:
        values = mine.loc[(mine["statistic"] == name) & mine["evaluator"].isin(comparable), "value"]
        best[name] = values.min() if name in LOWER_IS_BETTER else values.where(values > 0).max()
    rows = []
    names = ordered([*first["evaluator"], *mine["evaluator"]], ())
    for evaluator in [name for name in names if name in comparable] + [
        name for name in names if name not in comparable
    ]:
        cells_of_row = [cells.get((evaluator, name)) for name in statistics]
        rows.append(
            {
                "evaluator": evaluator,
                "lower": evaluator in lower,
                "n": max((cell["n"] for cell in cells_of_row if cell is not None), default=float("nan")),
                "cells": cells_of_row,
                "best": [
                    cell is not None and evaluator in comparable and cell["value"] == best[name]
                    for cell, name in zip(cells_of_row, statistics, strict=True)
                ],
            }
        )
    return {"statistics": statistics, "rows": rows, "within": [], "incomplete": False}


def _forest(
    first: pd.DataFrame, about: ReportContext, dimension: str, limits: tuple[float, float], key: str
) -> Markup | None:
    drawn = first.dropna(subset=["value"])
    if drawn.empty:
        return None
    trained = drawn["evaluator"].map(about.is_trained)
    drawn = drawn.assign(highlight=trained if about.trained else True)
    label = statistic_label(str(about.statistic))
    listed = "; ".join(f"{row['evaluator']} {row['value']:.2f}" for _, row in drawn.iterrows())
    alt = f"Forest plot of {label} on {plain(dimension)}, highest first: {listed}"
    return figures.to_svg(figures.forest(drawn, label, limits, plain(dimension), about.level), key, alt)


def _at(tree: Mapping[str, Any], *path: object) -> Any:
    """What stands in ``tree`` under ``path``, None where the path ends before."""
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _figure(cell: Any) -> dict[str, Any] | None:
    """A figure of the summary as numbers; None where it is undefined."""
    if not isinstance(cell, Mapping) or cell.get("value") is None:
        return None
    low, high = (float("nan") if cell.get(end) is None else float(cell[end]) for end in ("low", "high"))
    return {"value": float(cell["value"]), "low": low, "high": high, "groups": cell.get("n_groups")}


def breakdown(
    summary: Mapping[str, Any], about: ReportContext, evaluators: list[str], dimensions: list[str]
) -> list[dict[str, Any]]:
    """For each dimension the main statistic within skills, and that of the ranking of generators."""
    blocks = []
    for dimension in dimensions:
        cells = {
            (evaluator, column): _figure(_at(summary, *path, evaluator, dimension, about.statistic))
            for evaluator in evaluators
            for column, path in _BREAKDOWN.items()
        }
        columns = [column for column in _BREAKDOWN if any(cells[evaluator, column] for evaluator in evaluators)]
        rows = [(evaluator, [cells[evaluator, column] for column in columns]) for evaluator in evaluators]
        if columns:
            shown = [row for row in rows if any(row[1])]
            blocks.append({"dimension": dimension, "columns": columns, "rows": shown})
    return blocks


def labels(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How often evaluators agree with people's labels of elements, and with their preferences between two images."""
    elements = {
        evaluator: ([cells.get(key) for key in _ON_ELEMENTS], cells["n_unscored"])
        for evaluator, cells in (summary.get("elements") or {}).items()
    }
    columns = (*_ON_PREFERENCES, *(["order_consistency"] if asked_in_both_orders(summary) else []))
    preferences = {
        (evaluator, dimension): ([cells.get(key) for key in columns], cells["n_unscored"])
        for evaluator, dimensions in (summary.get("preferences") or {}).items()
        for dimension, cells in dimensions.items()
    }
    return {
        "element_columns": _ON_ELEMENTS,
        "elements": _label_rows(elements),
        "preference_columns": columns,
        "preferences": _label_rows(preferences),
    }


def _label_rows(cells_of: Mapping[Any, tuple[list[Any], int]]) -> list[dict[str, Any]]:
    """Rows from the best to the worst by the first figure; without those that have none."""
    rows = [
        {"of": key, "n": cells[0]["n"], "missing": missing, "cells": [_figure(cell) for cell in cells]}
        for key, (cells, missing) in cells_of.items()
    ]
    return sorted((row for row in rows if row["cells"][0]), key=lambda row: -row["cells"][0]["value"])


def people(
    summary: Mapping[str, Any], about: ReportContext, evaluators: list[str], dimensions: list[str]
) -> dict[str, Any] | None:
    """How well the raters agree: figures of each dimension, and a single rater beside each evaluator."""
    figures = {
        dimension: {
            **{
                key: _figure(cell)
                for key, cell in (_at(summary, "raters", dimension) or {}).items()
                if isinstance(cell, Mapping)
            },
            **{
                f"ceiling {key}": _figure(cell)
                for key, cell in (_at(summary, "noise_ceiling", dimension) or {}).items()
            },
        }
        for dimension in dimensions
    }
    columns = [
        key
        for key in dict.fromkeys(key for row in figures.values() for key in row)
        if any(row.get(key) for row in figures.values())
    ]
    single = []
    for evaluator in evaluators:
        baseline = _at(summary, "leave_one_rater_out", evaluator, about.dimension, about.statistic) or {}
        if baseline.get("rater") is not None and baseline.get("judge") is not None:
            single.append((evaluator, float(baseline["rater"]), float(baseline["judge"])))
    if not columns and not single:
        return None
    rows = [(dimension, [row.get(key) for key in columns]) for dimension, row in figures.items()]
    return {"columns": columns, "rows": rows, "single": single}


def counts(about: ReportContext, evaluators: list[str]) -> dict[str, Any]:
    """One row for each evaluator and each different count; dimensions with the same counts share a row."""
    statuses = list(schema.STATUSES)
    rows = []
    for _, group in about.counts.groupby(["evaluator", *statuses], sort=False):
        first = group.to_dict("records")[0]
        evaluator = first["evaluator"]
        dimensions = order_dimensions(list(group["dimension"]))
        alike = len(dimensions) == len(about.counts[about.counts["evaluator"] == evaluator])
        name = "all" if alike and len(dimensions) > 1 else ", ".join(plain(one) for one in dimensions)
        rows.append({**first, "dimension": name})
    place = {name: index for index, name in enumerate(evaluators)}
    return {"statuses": statuses, "rows": sorted(rows, key=lambda row: place.get(row["evaluator"], len(place)))}


def differences(about: ReportContext) -> dict[str, Any]:
    """The paired differences in the main statistic, the foremost apart, and the number in other statistics."""
    frame = tables.oriented(about.differences, about.lead())
    same = frame["statistic"] == about.statistic
    main = same & (frame["dimension"] == about.dimension)
    if main.sum() > _PAIRS_SHOWN:
        main &= frame["a"] == about.lead()
    p = next((name for name in ("p_holm", "p") if name in frame), None)
    frame = frame.assign(p_shown=frame[p] if p else None)
    significant = (frame["p_holm"] < 1 - about.level) if p == "p_holm" else True
    frame = frame.assign(
        differs=np.where(~frame["excludes_zero"], "no", np.where(significant, "yes", "not after correction"))
    )
    return {
        "p": {"p_holm": "p (Holm)", "p": "p"}.get(p or ""),
        "main": frame[main].to_dict("records"),
        "rest": frame[same & ~main].to_dict("records"),
        "left_out": int((~same).sum()),
    }


def rebalancing(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Bars of every task and aspect that has score bins, and the whole table."""
    if table is None or table.empty:
        return None
    table = table.assign(
        aspect=table["aspect"].fillna(""), bin=table["bin"].fillna("N/A")
    )  # CSV readers take both for null
    panels: list[Markup] = []
    for (task, aspect), rows in table.groupby(["task", "aspect"], sort=False):
        if len(rows) < 2:
            continue
        title = plain(str(task)) if str(aspect) in str(task) else f"{plain(str(task))}, {plain(str(aspect))}"
        before, after = int(rows["before"].sum()), int(rows["after"].sum())
        alt = f"Training examples in each score bin of {title}: {before} before, {after} after."
        panels.append(figures.to_svg(figures.rebalancing_bars(rows, title), f"bins{len(panels)}", alt))
    ordered_rows = table.sort_values(
        "bin", key=lambda column: column.map(figures.bin_order), kind="stable"
    ).sort_values(["task", "aspect"], kind="stable")
    return {"panels": panels, "rows": ordered_rows.to_dict("records")}
