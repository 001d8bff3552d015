"""What is understood of tables that people bring, before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from t2i_eval_kedro.agreement.inputs import AgreementInput, read_input
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.guess import described, guess_mapping
from t2i_eval_kedro.tables.settings import ReadingSettings


@dataclass(frozen=True)
class TablesCheck:
    """What a check found.

    Attributes:
        lines: what was understood, for a person.
        settings: the mapping that reads the tables so.
        problem: the sentence with which reading stops; None where it does not.
    """

    lines: tuple[str, ...]
    settings: ReadingSettings
    problem: str | None

    def mapping(self, folder: Path) -> str:
        """The settings as ``t2i_eval.yml`` in ``folder``: files relative to it, defaults left out."""
        document: dict[str, Any] = self.settings.model_dump(mode="json", exclude_defaults=True)
        for table in document.values():
            if isinstance(table, dict) and "file" in table:
                file = Path(table["file"]).resolve()
                inside = file.is_relative_to(folder.resolve())
                table["file"] = str(file.relative_to(folder.resolve()) if inside else file)
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def check_tables(
    ratings: Path | None, scores: Path | None, preferences: Path | None = None, settings: ReadingSettings | None = None
) -> TablesCheck:
    """Read the tables, guessing what their columns are, and say what was understood.

    Args:
        ratings: CSV file of people's ratings.
        scores: CSV file of judges' scores.
        preferences: CSV file of people's preferences.
        settings: what is known already; mappings of columns in it are kept.

    Raises:
        T2IEvalError: a file cannot be read at all, or its columns cannot be guessed.
    """
    settings = (settings or ReadingSettings()).model_copy(deep=True)
    lines: list[str] = []
    for kind, path in (("ratings", ratings), ("scores", scores), ("preferences", preferences)):
        if path is None:
            continue
        known = getattr(settings, kind)
        mapping = known if known.columns or known.wide else guess_mapping(path, kind)
        mapping.file = path
        setattr(settings, kind, mapping)
        lines += [f"{kind.capitalize()}: '{path}'", *described(mapping, kind)]
    problem = None
    try:
        given = read_input(None, None, settings=settings)
    except T2IEvalError as error:
        problem = str(error)
    else:
        lines += [*given.notes, *_understood(given)]
    return TablesCheck(tuple(lines), settings, problem)


def _understood(given: AgreementInput) -> list[str]:
    items = given.items
    lines = [
        f"Items: {len(items)}, prompts: {items['prompt_id'].nunique()}, generators: {items['generator'].nunique()}"
    ]
    per_cell = items.value_counts(["prompt_id", "generator"])
    if len(per_cell) and per_cell.max() > 1 and items["generator"].nunique() > 1:
        lines.append(f"Images per prompt and generator: {per_cell.min()} to {per_cell.max()} (such as seeds)")
    rated = given.ratings[given.ratings["score"].notna()]
    for (dimension, rater), rows in rated.groupby(["dimension", "rater_id"]):
        if rated["rater_id"].nunique() <= 50:
            span = f"{rows['score'].min():g} to {rows['score'].max():g}"
            lines.append(
                f"Rater '{rater!s}' on '{dimension!s}': {len(rows)} ratings, {span}, mean {rows['score'].mean():.2f}"
            )
    if rated["rater_id"].nunique() > 50:
        lines.append(f"Raters: {rated['rater_id'].nunique()}")
    known = set(items["item_id"])
    for judge, rows in given.scores.groupby("judge"):
        joined = rows.loc[rows["score"].notna() & rows["item_id"].isin(list(known)), "item_id"].nunique()
        span = f"{rows['score'].min():g} to {rows['score'].max():g}"
        lines.append(
            f"Evaluator '{judge!s}': {joined} of {len(known)} items joined, scores {span}, runs: {rows['run'].nunique()}"
        )
    if given.preferences is not None:
        counts = given.preferences["label"].value_counts()
        lines.append("Preferences: " + ", ".join(f"{label} {int(counts.get(label, 0))}" for label in ("a", "b", "tie")))
    counted = [f"{name.replace('_', ' ')}: {n}" for name, n in given.report.items() if n]
    return lines + (["Counted: " + "; ".join(counted)] if counted else [])


def check_folder_tables(folder: Path) -> dict[str, Path | None]:
    """The tables of a folder without items.csv, by the names that files of their kind have."""
    names = {
        "ratings": ("ratings", "human", "people"),
        "scores": ("scores", "metrics", "judge"),
        "preferences": ("preferences", "pairs"),
    }
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".txt"))
    paths: dict[str, Path | None] = {}
    for kind, words in names.items():
        paths[kind] = next((path for word in words for path in files if word in path.stem.lower()), None)
    if paths["ratings"] is None and paths["preferences"] is None:
        raise T2IEvalError(
            f"'{folder}' has neither a file of ratings nor one of preferences; give them with --ratings or --preferences."
        )
    return paths


def issue_lines(issues: pd.DataFrame) -> list[str]:
    """Data issues of a benchmark, one line a kind, with the first example."""
    lines = []
    for (kind, action), rows in issues.groupby(["kind", "action"], sort=True):
        lines.append(
            f"{kind!s} ({int(rows['count'].sum())}, {action!s}): {rows['where'].iloc[0]}: {rows['detail'].iloc[0]}"
        )
    return lines
