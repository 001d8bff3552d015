"""The report: one self-contained HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.reporting import claims, figures, gallery, tables
from t2i_eval_kedro.reporting.inputs import (
    ReportInputs,
    describe,
    order_dimensions,
    order_statistics,
    ordered,
    plain,
    role,
    statistic_label,
)

_SHOWN_IN_GALLERY = 12
_CARD_KNOWN = ("name", "title", "description", "synthetic", "licence", "license", "source", "url", "citation", "teacher", "faults")


def build_report(inputs: ReportInputs) -> str:
    """The page as one HTML string, without scripts and without anything to fetch.

    Args:
        inputs: the figures and tables; whatever is absent is said to be absent in a sentence.

    Raises:
        T2IEvalError: the summary holds no ``evaluators``, or an example image cannot be read.
    """
    if not isinstance(inputs.summary.get("evaluators"), Mapping):
        raise T2IEvalError("The summary has no 'evaluators', so there is nothing to report; run the meta_evaluation pipeline first.")
    about = claims.subject(inputs)
    evaluators = ordered([*about.cells().index, *about.agreement["evaluator"]], ())
    dimensions = claims.dimensions(inputs)
    page: dict[str, Any] = {
        "about": about,
        "summary": inputs.summary,
        "headline": claims.headline(about),
        "sizes": claims.sizes(about, inputs),
        "may": claims.may_conclude(about, inputs),
        "may_not": claims.may_not_conclude(about, inputs),
        "card": _card(inputs.card),
        "rated_dimensions": _rated(inputs.ratings),
        "gallery": _gallery(inputs, about, evaluators, dimensions),
        "agreement": _agreement(about, dimensions, tables.lower_is_better(inputs.scores)),
        "ceiling": _nested(inputs.summary.get("ceiling"), evaluators, dimensions),
        "by": _nested(inputs.summary.get("by"), evaluators, dimensions),
        "counts": _counts(about, evaluators),
        "differences": _differences(about),
        "scatters": _scatters(inputs, about, evaluators, dimensions),
        "curves": _curves(inputs),
        "rebalancing": _rebalancing(inputs.rebalancing),
        "published": _records(inputs.summary.get("published")),
        "commands": _commands(inputs),
        "provenance": _pairs(inputs.provenance),
    }
    return _environment().get_template("report.html.jinja").render(page)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("t2i_eval_kedro.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "interval": lambda row, digits=3: tables.interval(float(row["low"]), float(row["high"]), digits),
        "plain": plain,
        "describe": describe,
        "statistic": statistic_label,
        "p_value": lambda value: "<0.001" if value is not None and value < 0.001 else tables.number(value),
    }
    return environment


def _card(card: Mapping[str, Any]) -> dict[str, Any]:
    """The data card: the known texts, the faults as a list of sentences, everything else as labelled values and tables."""
    faults = card.get("faults") or []
    if isinstance(faults, Mapping):
        faults = [f"{plain(str(key))}: {_text(value)}" for key, value in faults.items()]
    rest = {key: value for key, value in card.items() if key not in _CARD_KNOWN and value not in (None, "", [], {})}
    return {
        "present": bool(card),
        "title": card.get("title") or card.get("name"),
        "description": card.get("description"),
        "licence": card.get("licence") or card.get("license"),
        "source": card.get("source") or card.get("url"),
        "citation": card.get("citation"),
        "faults": [_text(fault) for fault in faults],
        "values": [(plain(str(key)), _text(value)) for key, value in rest.items() if not isinstance(value, Mapping | list)],
        "lists": [
            (plain(str(key)), _pairs(value) if isinstance(value, Mapping) else [("", _text(one)) for one in value])
            for key, value in rest.items()
            if isinstance(value, Mapping | list)
        ],
    }


def _text(value: object) -> str:
    """Any value of a card or of a record on one line."""
    if isinstance(value, Mapping):
        if "value" in value:
            low, high = (float("nan") if value.get(end) is None else float(value[end]) for end in ("low", "high"))
            return f"{tables.number(value['value'])} {tables.interval(low, high)}".strip()
        return ", ".join(f"{plain(str(key))} {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value)
    return tables.number(value, None)


def _pairs(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (name, value) lines; a nested key is named after its parents."""
    lines = []
    for key, value in mapping.items():
        name = f"{prefix}{plain(str(key))}"
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            lines += _pairs(value, f"{name} · ")
        else:
            lines.append((name, _text(value)))
    return lines


def _rated(ratings: pd.DataFrame) -> list[dict[str, Any]]:
    """For each rated dimension: its scale, numbers of ratings and items, and what was left out of the means."""
    rows = []
    for dimension in order_dimensions(list(ratings["dimension"])):
        mine = ratings[ratings["dimension"] == dimension]
        rows.append(
            {
                "dimension": dimension,
                "scale": f"{mine['scale_min'].iloc[0]:g} to {mine['scale_max'].iloc[0]:g}",
                "items": int(mine["item_id"].nunique()),
                "ratings": len(mine),
                "mean": float(mine.loc[~mine["off_scale"].astype(bool), "score"].mean()),
                "null": int(mine["score"].isna().sum()),
                "off_scale": int(mine["off_scale"].sum()),
            }
        )
    return rows


def _gallery(inputs: ReportInputs, about: claims.Subject, evaluators: list[str], dimensions: list[str]) -> dict[str, Any]:
    people = tables.people_means(inputs.ratings)
    dimension = about.dimension if about.dimension in people else next(iter(people), None)
    if dimension is None or inputs.items.empty:
        return {"groups": {}, "rule": "", "pictures": False}
    lead, judge = about.lead(), None
    judges = tables.judge_means(inputs.scores, dimension)
    if lead in judges:
        judge = -judges[lead] if lead in tables.lower_is_better(inputs.scores) else judges[lead]
    items = inputs.items
    pictured = items[items["image"].notna()] if inputs.image is not None else items.iloc[:0]
    chosen = gallery.pick_cases(pictured if len(pictured) >= 8 else items, people[dimension], judge, about.who, lead or "")
    shown = evaluators[:_SHOWN_IN_GALLERY]
    by_name = {"ratings": inputs.ratings, "scores": inputs.scores, "transcripts": inputs.transcripts}
    rated = order_dimensions([*dimensions, *people.columns])
    cases = gallery.build_cases(chosen, by_name, inputs.image, shown, rated)
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        groups.setdefault(case["group"], []).append(case)
    return {
        "groups": groups,
        "rule": gallery.RULE.format(dimension=plain(dimension), lead=lead, who=about.who),
        "pictures": any(case["picture"] for case in cases),
        "left_out": len(evaluators) - len(shown),
    }


def _agreement(about: claims.Subject, dimensions: list[str], lower: set[str]) -> list[dict[str, Any]]:
    """A table and a forest plot for each dimension; rows by the first statistic, the highest on top."""
    statistics = order_statistics(list(about.agreement["statistic"]))
    bounds = about.agreement.loc[about.agreement["statistic"] == about.statistic, ["value", "low", "high"]].stack()
    limits = (min(-0.05, float(bounds.min()) - 0.03), max(0.05, float(bounds.max()) + 0.03)) if len(bounds) else None
    blocks = []
    for index, dimension in enumerate(dimensions):
        mine = about.agreement[about.agreement["dimension"] == dimension]
        cells = {(row["evaluator"], row["statistic"]): row for _, row in mine.iterrows()}
        first = mine[mine["statistic"] == about.statistic].sort_values(["value", "evaluator"], ascending=[False, True])
        names = ordered([*first["evaluator"], *mine["evaluator"]], ())
        highest = {statistic: mine.loc[mine["statistic"] == statistic, "value"].max() for statistic in statistics}
        rows = [
            {
                "evaluator": name,
                "lower": name in lower,
                "n": max((cells[name, one]["n"] for one in statistics if (name, one) in cells), default=float("nan")),
                "cells": [cells.get((name, one)) for one in statistics],
                "highest": [(name, one) in cells and cells[name, one]["value"] == highest[one] for one in statistics],
            }
            for name in names
        ]
        drawn = first.assign(highlight=first["evaluator"].map(lambda name: role(name) in ("sft", "grpo"))).dropna(subset=["value"])
        if not drawn["highlight"].any():
            drawn["highlight"] = True
        label = statistic_label(str(about.statistic))
        figure = None
        if len(drawn):
            alt = f"Forest plot, {plain(dimension)}, {label}, highest first: " + "; ".join(
                f"{row['evaluator']} {row['value']:.2f}" for _, row in drawn.iterrows()
            )
            figure = figures.to_svg(figures.forest(drawn, label, limits, plain(dimension)), f"forest{index}", alt)
        blocks.append({"dimension": dimension, "statistics": statistics, "rows": rows, "figure": figure})
    return blocks


def _nested(tree: object, evaluators: list[str], dimensions: list[str]) -> dict[str, Any] | None:
    """Figures nested under any keys as a table: one column for each level of keys, named by what the keys are."""
    if not isinstance(tree, Mapping):
        return None
    found = list(tables.flatten(tree))
    if not found:
        return None
    depth = max(len(path) for path, _ in found)
    columns = []
    for level in range(depth):
        keys = {path[level] for path, _ in found if len(path) > level}
        known = {"evaluator": set(evaluators), "dimension": set(dimensions), "statistic": {"spearman", "kendall_b", "pearson"}}
        columns.append(next((name for name, members in known.items() if keys <= members), "group" if "grouped by" in columns else "grouped by"))
    rows = [
        {
            "keys": [(columns[level], path[level] if level < len(path) else "") for level in range(depth)],
            "text": _text(cell),
            "n": cell.get("n"),
        }
        for path, cell in found
    ]
    return {"columns": columns, "rows": rows}


def _differences(about: claims.Subject) -> dict[str, Any]:
    """The paired differences: those of the headline's dimension and statistic, and the rest."""
    frame = about.differences
    main = (frame["dimension"] == about.dimension) & (frame["statistic"] == about.statistic)
    if not main.any():
        main = ~main
    return {"with_p": "p" in frame, "main": frame[main].to_dict("records"), "rest": frame[~main].to_dict("records")}


def _counts(about: claims.Subject, evaluators: list[str]) -> dict[str, Any]:
    """One row for each evaluator and each different count; dimensions with the same counts share a row."""
    statuses = list(schema.STATUSES)
    rows = []
    for (evaluator, *numbers), group in about.counts.groupby(["evaluator", *statuses], sort=False):
        dimensions = order_dimensions(list(group["dimension"]))
        alike = len(dimensions) == len(about.counts[about.counts["evaluator"] == evaluator])
        name = "all" if alike and len(dimensions) > 1 else ", ".join(plain(one) for one in dimensions)
        rows.append({"evaluator": evaluator, "dimension": name, "items": sum(numbers), **dict(zip(statuses, numbers, strict=True))})
    place = {name: index for index, name in enumerate(evaluators)}
    return {"statuses": statuses, "rows": sorted(rows, key=lambda row: place.get(row["evaluator"], len(place)))}


def _scatters(inputs: ReportInputs, about: claims.Subject, evaluators: list[str], dimensions: list[str]) -> list[dict[str, Any]]:
    """One panel for each evaluator and dimension that has scores and ratings of the same items."""
    people = tables.people_means(inputs.ratings)
    lower = tables.lower_is_better(inputs.scores)
    blocks = []
    for dimension in dimensions:
        judges = tables.judge_means(inputs.scores, dimension)
        panels = []
        rated = inputs.ratings[inputs.ratings["dimension"] == dimension]
        scale = (float(rated["scale_min"].min()), float(rated["scale_max"].max()))
        for name in [name for name in evaluators if name in judges and dimension in people]:
            both = pd.concat([people[dimension], judges[name]], axis=1).dropna()
            if len(both) < 3:
                continue
            chosen = about.agreement[(about.agreement["evaluator"] == name) & (about.agreement["dimension"] == dimension) & (about.agreement["statistic"] == about.statistic)]
            value = float(chosen["value"].iloc[0]) if len(chosen) else float("nan")
            label = statistic_label(str(about.statistic))
            note = "" if pd.isna(value) else f"{label} {tables.number(value, 2)}"
            figure = figures.scatter(people[dimension], judges[name], name, note, f"Mean {plain(dimension)} rating by {about.who}", scale)
            alt = f"Scatter plot of {name} against the mean {plain(dimension)} rating by {about.who}, {len(both)} items. {note}"
            panels.append({"svg": figures.to_svg(figure, f"scatter{len(blocks)}-{len(panels)}", alt), "lower": name in lower, "name": name})
        if panels:
            blocks.append({"dimension": dimension, "panels": panels})
    return blocks


def _curves(inputs: ReportInputs) -> list[Markup]:
    drawn = []
    if inputs.sft_curve is not None and inputs.sft_curve["loss"].notna().any():
        loss = inputs.sft_curve["loss"].dropna()
        alt = f"SFT training loss over steps, from {loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f}."
        drawn.append(figures.to_svg(figures.loss_curve(inputs.sft_curve), "sft", alt))
    if inputs.grpo_curve is not None and inputs.grpo_curve["reward"].notna().any():
        reward = inputs.grpo_curve["reward"].dropna()
        alt = f"GRPO mean reward over steps, from {reward.iloc[0]:.3f} to {reward.iloc[-1]:.3f}"
        if "best_constant_reward" in inputs.grpo_curve:
            alt += f"; the best constant answer earns {inputs.grpo_curve['best_constant_reward'].mean():.3f}"
        drawn.append(figures.to_svg(figures.reward_curve(inputs.grpo_curve), "grpo", alt + "."))
    return drawn


def _rebalancing(table: pd.DataFrame | None) -> dict[str, Any] | None:
    if table is None or table.empty:
        return None
    table = table.assign(aspect=table["aspect"].fillna(""))
    panels = []
    for (task, aspect), rows in table.groupby(["task", "aspect"], sort=False):
        title = f"{plain(str(task))}, {plain(str(aspect))}" if aspect else plain(str(task))
        alt = f"Training examples in each score bin of {title}: {int(rows['before'].sum())} before, {int(rows['after'].sum())} after."
        panels.append(figures.to_svg(figures.rebalancing_bars(rows, title), f"bins{len(panels)}", alt))
    rows = table.sort_values(["task", "aspect", "bin"], key=lambda column: column.map(figures.bin_order) if column.name == "bin" else column)
    return {"panels": panels, "rows": rows.to_dict("records")}


def _records(records: object) -> dict[str, Any] | None:
    """A list of records as a table; the columns are all the keys in the order of first use."""
    if not isinstance(records, Iterable) or isinstance(records, str | Mapping):
        return None
    rows = [row for row in records if isinstance(row, Mapping)]
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numeric = [all(not isinstance(row.get(column), str) for row in rows) for column in columns]
    return {
        "columns": list(zip(columns, numeric, strict=True)),
        "rows": [[_text(row.get(column)) for column in columns] for row in rows],
    }


def _commands(inputs: ReportInputs) -> list[str]:
    if inputs.commands:
        return list(inputs.commands)
    chosen = [f"{key}={inputs.summary[key]}" for key in ("benchmark", "variant", "seed") if key in inputs.summary]
    return [f"kedro run --params={','.join(chosen)}" if chosen else "kedro run"]
