"""The data card: what a benchmark holds, how it was split and what is wrong with it, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.benchmarks.base import TABLE_NAMES, Benchmark
from t2i_eval_kedro.benchmarks.splits import normalised

EXAMPLES = 5


def data_card(
    benchmark: Benchmark,
    splits: pd.DataFrame,
    positions: pd.DataFrame | None = None,
    sample: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe ``benchmark``.

    Args:
        benchmark: what a reader made.
        splits: the splits table; several splits may stand in it.
        positions: the element positions table, where elements were looked for in their prompts.
        sample: how its prompts were sampled, where they were.

    Returns:
        A mapping that JSON can hold: ``name``, ``title``, ``licence``, ``synthetic``, ``sizes``, ``dimensions``
        (scale, count, distribution), ``raters``, ``unidentified_raters``, ``splits``, ``recorded_evaluators``, ``data_issues`` (by kind:
        count, action, examples); and where there are any, ``recorded_scores_on_rating_scale``, ``element_positions`` (found, in several
        places, not found) and ``sample``.
    """
    items, ratings = benchmark.items, benchmark.ratings
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "licence": benchmark.licence,
        "synthetic": benchmark.synthetic,
        "sizes": {
            **{table: len(getattr(benchmark, table)) for table in TABLE_NAMES},
            "prompts": int(items["prompt"].map(normalised).nunique()),
            "generators": int(items["generator"].nunique()),
            "raters": int(ratings["rater_id"].nunique()),
            "images": int(items["image"].notna().sum()),
        },
        "generators": {str(name): int(n) for name, n in items["generator"].value_counts().sort_index().items()},
        "dimensions": [
            _dimension(benchmark, d.name, d.scale_min, d.scale_max, d.description) for d in benchmark.dimensions
        ],
        "raters": _raters(ratings),
        "unidentified_raters": benchmark.unidentified_raters,
        "splits": _folds(items, splits),
        "recorded_evaluators": sorted(
            {*schema.evaluators(benchmark.scores), *schema.evaluators(benchmark.element_scores)}
        ),
        **({"recorded_scores_on_rating_scale": benchmark.same_scale} if len(benchmark.scores) else {}),
        "data_issues": _data_issues(benchmark.issues),
        **({} if positions is None or positions.empty else {"element_positions": _positions(benchmark, positions)}),
        **({"sample": dict(sample)} if sample else {}),
    }


def _positions(benchmark: Benchmark, positions: pd.DataFrame) -> dict[str, Any]:
    """How many elements stand in the text of their prompt, and some that do not."""
    lost = positions[positions["places"] == 0].merge(benchmark.elements, on=["prompt_id", "element_id"])
    return {
        "elements": len(positions),
        "found": int((positions["places"] > 0).sum()),
        "in_several_places": int((positions["places"] > 1).sum()),
        "not_found": len(lost),
        "examples_not_found": [
            f"{prompt_id}: {text}" for prompt_id, text in zip(lost["prompt_id"], lost["text"], strict=True)
        ][:EXAMPLES],
    }


def _dimension(benchmark: Benchmark, name: str, low: float, high: float, description: str) -> dict[str, Any]:
    rows = benchmark.ratings[benchmark.ratings["dimension"] == name]
    scores = rows["score"].dropna()
    card: dict[str, Any] = {
        "name": name,
        "description": description,
        "scale": [low, high],
        "ratings": len(scores),
        "off_scale": int(rows["off_scale"].sum()),
        "null": int(rows["score"].isna().sum()),
        "rated_items": int(rows.loc[rows["score"].notna(), "item_id"].nunique()),
    }
    if len(scores):
        card |= {"mean": round(float(scores.mean()), 4), "std": round(float(scores.std(ddof=0)), 4)}
        card["distribution"] = _distribution(scores, low, high)
    return card


def _distribution(scores: pd.Series, low: float, high: float) -> dict[str, int]:
    """Counts by value where there are few, else in ten bins of the scale (each holds its lower end, the last both)."""
    if scores.nunique() <= 11:
        return {f"{value:g}": int(n) for value, n in scores.value_counts().sort_index().items()}
    edges = [low + (high - low) * step / 10 for step in range(11)]
    labels = [f"{a:g} to {b:g}" for a, b in pairwise(edges)]
    bins = ((scores - low) / (high - low) * 10).astype(int).clip(0, 9)
    return {label: int((bins == i).sum()) for i, label in enumerate(labels)}


def _raters(ratings: pd.DataFrame) -> list[dict[str, Any]]:
    """Each rater's number of ratings and mean, by dimension; only while there are at most 100 raters."""
    if ratings["rater_id"].nunique() > 100:
        return []
    used = ratings[ratings["score"].notna()]
    return [
        {
            "rater": str(rater),
            "dimension": str(dimension),
            "ratings": len(rows),
            "mean": round(float(rows["score"].mean()), 4),
        }
        for (rater, dimension), rows in used.groupby(["rater_id", "dimension"])
    ]


def _folds(items: pd.DataFrame, splits: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    joined = splits.merge(items[["item_id", "prompt"]], on="item_id")
    card: dict[str, dict[str, dict[str, int]]] = {}
    for (split, fold), rows in joined.groupby(["split_name", "fold"]):
        sizes = {"items": len(rows), "prompts": int(rows["prompt"].map(normalised).nunique())}
        card.setdefault(str(split), {})[str(fold)] = sizes
    return card


def _data_issues(issues: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "kind": str(kind),
            "action": str(action),
            "count": int(rows["count"].sum()),
            "examples": [f"{where}: {detail}" for where, detail in zip(rows["where"], rows["detail"], strict=True)][
                :EXAMPLES
            ],
        }
        for (kind, action), rows in issues.groupby(["kind", "action"])
    ]
