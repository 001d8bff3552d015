"""Ratings, scores and preferences as people bring them, CSV files or data frames, made into the canonical tables.

Nothing is dropped in silence: what cannot be read or contradicts itself becomes a null and is counted in the input report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.spreadsheets import unescape_cell
from t2i_eval_kedro.errors import T2IEvalError

RATINGS = ("item_id", "prompt_id", "generator", "rater_id", "dimension", "score")
SCORES = ("item_id", "evaluator", "score")
PREFERENCES = ("prompt_id", "item_a", "item_b", "rater_id", "label")

InputReport = dict[str, int]
Source = Path | str | pd.DataFrame


@dataclass(frozen=True)
class AgreementInput:
    """The canonical tables that agreement is computed from.

    Attributes:
        items: the rated items.
        ratings: people's ratings of them.
        scores: the judges' scores of them.
        preferences: people's preferences between two of them; None where none were given.
        report: counts of what was unreadable, repeated, contradictory, off the scale or not joined.
    """

    items: pd.DataFrame
    ratings: pd.DataFrame
    scores: pd.DataFrame
    preferences: pd.DataFrame | None
    report: InputReport


def read_input(
    ratings: Source,
    scores: Source,
    preferences: Source | None = None,
    *,
    scale: tuple[float, float] | None = None,
    lower_is_better: Sequence[str] = (),
) -> AgreementInput:
    """Read and join the tables of ``ratings``, ``scores`` and ``preferences``.

    Args:
        ratings: CSV file or data frame with the columns :data:`RATINGS`, and optionally ``skill`` (several separated by ";").
        scores: the same with the columns :data:`SCORES`, and optionally ``dimension``.
        preferences: the same with the columns :data:`PREFERENCES`; the labels are ``a``, ``b`` and ``tie``.
        scale: lowest and highest possible rating; ratings outside are excluded and counted. By default the range of the ratings.
        lower_is_better: evaluators whose low scores mean good images.

    Raises:
        T2IEvalError: a file cannot be read, a column is missing, an item has two prompts, or an evaluator is unknown.
    """
    report: InputReport = {}
    rated = _read(ratings, "ratings", RATINGS, ("skill",))
    scored = _read(scores, "scores", SCORES, ("dimension",))
    items = _items(rated, _name(ratings, "ratings"))
    rating_table = _ratings(rated, scale, report)
    score_table = _scores(scored, lower_is_better, report)
    known = set(items["item_id"])
    report["items_with_scores_only"] = len(set(score_table["item_id"]) - known)
    report["rated_items_without_any_score"] = len(known - set(score_table["item_id"]))
    preferred = None
    if preferences is not None:
        preferred = _preferences(_read(preferences, "preferences", PREFERENCES, ()), known, report)
    return AgreementInput(items, rating_table, score_table, preferred, report)


def _name(source: Source, kind: str) -> str:
    """What messages call ``source``."""
    return f"the data frame of {kind}" if isinstance(source, pd.DataFrame) else f"'{source}'"


def _read(source: Source, kind: str, columns: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """The named columns as text, stripped; empty cells are empty strings."""
    name = _name(source, kind)
    if isinstance(source, pd.DataFrame):
        table = source.rename(columns=str)
        table = table.apply(lambda column: column.map(lambda cell: "" if pd.isna(cell) else str(cell)))
    else:
        path = Path(source)
        if not path.is_file():
            raise T2IEvalError(f"There is no file '{path}'; give a CSV with {', '.join(columns)}.")
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise T2IEvalError(f"{name} is not a readable CSV in UTF-8 ({error}).") from error
    table.columns = table.columns.str.strip()
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise T2IEvalError(f"{name} does not have the column {', '.join(absent)}; it needs {', '.join(columns)}.")
    kept = [*columns, *(column for column in optional if column in table.columns)]
    if not table.columns[table.columns.isin(kept)].is_unique:
        raise T2IEvalError(f"{name} has two columns of the same name; keep one of each.")
    text = pd.DataFrame({column: table[column].astype(str).str.strip() for column in kept}).reset_index(drop=True)
    return text.map(unescape_cell)


def _numbers(text: pd.Series) -> pd.Series:
    """Finite numbers; everything else is null."""
    values = pd.to_numeric(text.where(text != ""), errors="coerce").astype(float)
    return values.where(np.isfinite(values))


def parse_scale(text: str) -> tuple[float, float]:
    """The lowest and highest rating from ``MIN:MAX``.

    Raises:
        T2IEvalError: the text is not two finite numbers in rising order.
    """
    low, colon, high = text.partition(":")
    try:
        limits = float(low), float(high)
    except ValueError:
        limits = math.nan, math.nan
    if not colon or not limits[0] < limits[1] or not math.isfinite(limits[1] - limits[0]):
        raise T2IEvalError(f"'{text}' is not a rating scale; write MIN:MAX, for example 1:5.")
    return limits


def _items(rated: pd.DataFrame, name: str) -> pd.DataFrame:
    images = rated[["item_id", "prompt_id", "generator"]].drop_duplicates()
    twice = images[images["item_id"].duplicated()]
    if len(twice):
        raise T2IEvalError(
            f"{name} gives item '{twice['item_id'].iloc[0]}' more than one prompt or generator; an item is one image."
        )
    if (images == "").any(axis=None):
        raise T2IEvalError(f"{name} has a row without item_id, prompt_id or generator; fill it in or remove the row.")
    skills: dict[str, set[str]] = {}
    if "skill" in rated:
        for item, named in zip(rated["item_id"], rated["skill"], strict=True):
            skills.setdefault(item, set()).update(name.strip() for name in named.split(";") if name.strip())
    return schema.ITEMS.frame(
        {
            "item_id": item,
            "benchmark": "files",
            "prompt_id": prompt,
            "prompt": prompt,
            "generator": generator,
            "attributes": json.dumps({"skills": sorted(skills[item])}) if skills.get(item) else None,
        }
        for item, prompt, generator in images.itertuples(index=False)
    )


def _ratings(rated: pd.DataFrame, scale: tuple[float, float] | None, report: InputReport) -> pd.DataFrame:
    values = _numbers(rated["score"])
    report["unreadable_ratings"] = int(values.isna().sum())
    if scale is None and values.notna().any():
        scale = float(values.min()), float(values.max())
    low, high = scale or (0.0, 0.0)
    table = rated[["item_id", "rater_id", "dimension"]].assign(
        score=values, scale_min=low, scale_max=high, std=np.nan, n_raters=None
    )
    table["off_scale"] = (values < low) | (values > high)
    report["off_scale_ratings"] = int(table["off_scale"].sum())
    table = _without_conflicts(table, ["item_id", "rater_id", "dimension"], "ratings", report)
    return schema.RATINGS.check(table)


def _scores(scored: pd.DataFrame, lower: Sequence[str], report: InputReport) -> pd.DataFrame:
    unknown = sorted(set(lower) - set(scored["evaluator"]))
    if unknown:
        names = ", ".join(sorted(set(scored["evaluator"])))
        raise T2IEvalError(
            f"'{unknown[0]}' (lower is better) is not an evaluator of the scores; the evaluators are {names}."
        )
    values = _numbers(scored["score"])
    report["unreadable_scores"] = int(values.isna().sum())
    table = scored[["item_id"]].assign(
        judge=scored["evaluator"],
        protocol=None,
        dimension=scored.get("dimension", ""),
        run=0,
        score=values,
        explanation=None,
        higher_is_better=~scored["evaluator"].isin(lower),
    )
    table = _without_conflicts(table, ["item_id", "judge", "dimension"], "scores", report)
    table["status"] = np.where(table["score"].notna(), schema.OK, schema.UNPARSED)
    return schema.SCORES.check(table)


def _without_conflicts(table: pd.DataFrame, key: list[str], kind: str, report: InputReport) -> pd.DataFrame:
    """One row a key: repeated rows once, rows that contradict each other as one row without a value; both counted."""
    once = table.drop_duplicates([*key, "score"])
    conflict = once.duplicated(key, keep=False)
    report[f"repeated_{kind}"] = len(table) - len(once)
    report[f"contradicting_{kind}"] = int(once[conflict].drop_duplicates(key).shape[0])
    return once.assign(score=once["score"].where(~conflict)).drop_duplicates(key)


def _preferences(table: pd.DataFrame, known: set[str], report: InputReport) -> pd.DataFrame:
    joined = table["item_a"].isin(known) & table["item_b"].isin(known)
    legible = table["label"].isin(["a", "b", "tie"])
    report["preferences_of_unknown_items"] = int((~joined).sum())
    report["unreadable_preferences"] = int((joined & ~legible).sum())
    kept = table[joined & legible]
    key = ["prompt_id", "item_a", "item_b", "rater_id"]
    once = kept.drop_duplicates()
    conflict = once.duplicated(key, keep=False)
    report["repeated_preferences"] = len(kept) - len(once)
    report["contradicting_preferences"] = int(conflict.sum())
    return schema.PREFERENCES.check(once[~conflict])
