"""The report: one self-contained HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.reporting import claims, figures, gallery, tables, views
from t2i_eval_kedro.reporting.agreement import reliance_tables
from t2i_eval_kedro.reporting.inputs import ReportInputs, ordered, plain, statistic_label
from t2i_eval_kedro.reporting.pages import environment

_SHOWN_IN_GALLERY = 12


def build_report(inputs: ReportInputs) -> str:
    """The page as one HTML string, without scripts and without anything to fetch.

    Args:
        inputs: the figures and tables; whatever is absent is said to be absent in a sentence.

    Raises:
        T2IEvalError: the summary holds no ``evaluators``, or an example image cannot be read.
    """
    if not isinstance(inputs.summary.get("evaluators"), Mapping):
        raise T2IEvalError(
            "The summary has no 'evaluators', so there is nothing to report; run the meta_evaluation pipeline first."
        )
    about = claims.report_context(inputs)
    evaluators = ordered([*about.cells(), *about.agreement["evaluator"]], ())
    dimensions = claims.dimensions(inputs)
    lower = tables.lower_is_better(inputs.scores)
    page: dict[str, Any] = {
        "about": about,
        "summary": inputs.summary,
        "headline": claims.headline(about),
        "sizes": claims.sizes(about, inputs),
        "may": claims.may_conclude(about, inputs),
        "may_not": claims.may_not_conclude(about, inputs),
        "card": views.card(inputs.card),
        "rated": views.rated(inputs.ratings, inputs.card, dimensions),
        "gallery": _gallery(inputs, about, evaluators, dimensions),
        "agreement": views.agreement(inputs.summary, about, dimensions, lower),
        "breakdown": views.breakdown(inputs.summary, about, evaluators, dimensions),
        "people": views.people(inputs.summary, about, evaluators, dimensions),
        "labels": views.labels(inputs.summary),
        "counts": views.counts(about, evaluators),
        "reliance": reliance_tables(inputs.summary),
        "differences": views.differences(about),
        "scatters": _scatters(inputs, about, evaluators, dimensions),
        "curves": _curves(inputs),
        "grpo_seconds": inputs.grpo_seconds,
        "rebalancing": views.rebalancing(inputs.rebalancing),
        "teacher": views.teacher(inputs.teacher),
        "diagnostics": views.diagnostics(inputs.diagnostics),
        "published": views.published(inputs.summary.get("published") or []),
        "commands": _commands(inputs),
        "provenance": views.pairs(inputs.provenance),
    }
    return environment().get_template("report.html.jinja").render(page)


def _gallery(
    inputs: ReportInputs, about: claims.ReportContext, evaluators: list[str], dimensions: list[str]
) -> dict[str, Any]:
    people = tables.people_means(inputs.ratings)
    dimension = about.dimension if about.dimension in people else next(iter(map(str, people)), None)
    if dimension is None or inputs.items.empty:
        return {"groups": {}}
    lead, judge = about.lead(), None
    judges = tables.judge_means(inputs.scores, dimension)
    if lead in judges:
        judge = -judges[lead] if lead in tables.lower_is_better(inputs.scores) else judges[lead]
    items = inputs.items
    pictured = items[items["image"].notna()] if inputs.image is not None else items.iloc[:0]
    chosen = gallery.pick_cases(
        pictured if len(pictured) >= 8 else items, people[dimension], judge, about.who, lead or ""
    )
    shown = evaluators[:_SHOWN_IN_GALLERY]
    by_name = {"ratings": inputs.ratings, "scores": inputs.scores, "transcripts": inputs.transcripts}
    rated = ordered([*dimensions, *map(str, people.columns)], ())
    cases = gallery.build_cases(chosen, by_name, inputs.image, shown, rated)
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        groups.setdefault(case["group"], []).append(case)
    return {
        "groups": groups,
        "rule": gallery.RULE.format(
            dimension=plain(dimension), lead=lead if judge is not None else "any evaluator", who=about.who
        ),
        "pictures": any(case["picture"] for case in cases),
        "spoken": any(row["explanations"] for case in cases for row in case["verdicts"]),
        "left_out": len(evaluators) - len(shown),
    }


def _scatters(
    inputs: ReportInputs, about: claims.ReportContext, evaluators: list[str], dimensions: list[str]
) -> list[dict[str, Any]]:
    """One panel for each evaluator and dimension that has scores and ratings of the same items."""
    people = tables.people_means(inputs.ratings)
    lower = tables.lower_is_better(inputs.scores)
    blocks: list[dict[str, Any]] = []
    for dimension in dimensions:
        judges = tables.judge_means(inputs.scores, dimension)
        panels: list[dict[str, Any]] = []
        rated = inputs.ratings[inputs.ratings["dimension"] == dimension]
        scale = (float(rated["scale_min"].min()), float(rated["scale_max"].max()))
        for name in [name for name in evaluators if name in judges and dimension in people]:
            both = pd.concat([people[dimension], judges[name]], axis=1).dropna()
            if len(both) < 3:
                continue
            chosen = about.agreement[
                (about.agreement["evaluator"] == name)
                & (about.agreement["dimension"] == dimension)
                & (about.agreement["statistic"] == about.statistic)
            ]
            value = float(chosen["value"].iloc[0]) if len(chosen) else float("nan")
            label = statistic_label(str(about.statistic))
            note = "" if pd.isna(value) else f"{label} {tables.number(value, 2)}"
            figure = figures.scatter(
                people[dimension],
                judges[name],
                name,
                note,
                f"Mean {plain(dimension)} rating by {about.who}",
                scale,
                name in lower,
            )
            against = f"the mean {plain(dimension)} rating by {about.who}"
            alt = f"Scatter plot of {name} against {against}, {len(both)} items. {note}"
            panels.append(
                {
                    "svg": figures.to_svg(figure, f"scatter{len(blocks)}-{len(panels)}", alt),
                    "falling": name in lower,
                    "name": name,
                }
            )
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


def _commands(inputs: ReportInputs) -> list[str]:
    if inputs.commands:
        return list(inputs.commands)
    chosen = [
        f"{key}={inputs.summary[key]}" for key in ("benchmark", "student", "variant", "seed") if key in inputs.summary
    ]
    return [f"kedro run --params={','.join(chosen)}" if chosen else "kedro run"]
