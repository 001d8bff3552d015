"""A benchmark of the user's own: a folder of CSV files.

| file | columns |
|---|---|
| ``items.csv`` | item_id, prompt_id, prompt, generator, image (path inside the folder, may be empty); reference (likewise) where it is there |
| ``ratings.csv`` | item_id, rater_id, dimension, score; scale_min, scale_max where they are there |
| ``dimensions.csv`` (optional) | dimension, description: the phrase a judge is asked with |
| ``scores.csv`` (optional) | item_id, evaluator, dimension, score; higher_is_better (true or false) where it is there |
| ``preferences.csv`` (optional; ratings may then be absent) | prompt_id, item_a, item_b, rater_id, label (a, b or tie) |
| ``elements.csv`` (optional) | prompt_id, element_id, text, skill; question, expected, parents where they are there |
| ``element_ratings.csv`` (optional) | item_id, element_id, rater_id, label |
| ``t2i_eval.yml`` (optional) | how the tables are read: scale, missing codes, labels, see :mod:`t2i_eval_kedro.tables` |

Encoding, separator and decimal sign are found as ``kedro agreement`` finds them, and what cannot be understood stops in the same
words. Any other column of ``items.csv`` becomes an attribute of the item, several values separated by ";": ``skills`` for agreement by
skill, any (such as a style, or the cluster of an embedding) for sampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension, number
from t2i_eval_kedro.benchmarks.splits import normalised
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables import ReadingSettings, TextTable, read_text_table
from t2i_eval_kedro.tables.identifiers import refuse_unjoined, repaired
from t2i_eval_kedro.tables.preferences import read_preferences
from t2i_eval_kedro.tables.ratings import rating_numbers
from t2i_eval_kedro.tables.settings import MAPPING_FILE, read_mapping
from t2i_eval_kedro.tables.values import parse_numbers

ITEM_COLUMNS = ("item_id", "prompt_id", "prompt", "generator", "image")
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "": True}


def read(raw: Path) -> Benchmark:
    """Read the folder ``raw``; its name is the benchmark's.

    Raises:
        T2IEvalError: a file cannot be read or understood, nothing joins, or there is neither a rating nor a preference.
    """
    mapping = raw / MAPPING_FILE
    settings = read_mapping(mapping) if mapping.is_file() else ReadingSettings()
    out = Builder(raw.name, raw.name, "not stated", ())
    first_text: dict[tuple[str, str], str] = {}
    variants = 0
    for row in _rows(raw / "items.csv", ITEM_COLUMNS, out, settings, "item_id"):
        tags = {
            name: [value.strip() for value in cell.split(";") if value.strip()]
            for name, cell in row.items()
            if name not in (*ITEM_COLUMNS, "reference", "#")
        }
        prompt_id = row["prompt_id"] or row["prompt"]
        # Prompts are told apart by their text, so one prompt in two spellings would be two.
        prompt = first_text.setdefault((prompt_id, normalised(row["prompt"])), row["prompt"])
        variants += prompt != row["prompt"]
        added = out.item(row["item_id"], prompt_id, prompt, row["generator"], row["#"], tags)
        if added and row["image"]:
            out.image(row["item_id"], raw, row["image"])
        if added and row.get("reference"):
            out.reference(row["item_id"], raw, row["reference"])
    if variants:
        detail = (
            f"{variants} items spell the prompt of their prompt_id otherwise (case, blanks, punctuation at the ends)"
        )
        out.issues.add("prompt_spelling", "items.csv", detail, "read as the first spelling", variants)
    there = [name for name in ("ratings.csv", "preferences.csv", "element_ratings.csv") if (raw / name).is_file()]
    if not there:
        raise T2IEvalError(f"{raw} has neither ratings.csv nor preferences.csv; a benchmark needs one of them.")
    if "ratings.csv" in there:
        _read_ratings(raw, out, settings)
    _read_scores(raw, out, settings)
    _read_preferences(raw, out, settings)
    _read_elements(raw, out, settings)
    return out.build()


def _table(path: Path, columns: tuple[str, ...], out: Builder, settings: ReadingSettings, *optional: str) -> TextTable:
    """The file at ``path`` as text, its identifiers repaired; what was noted becomes an issue."""
    table = read_text_table(
        path,
        path.stem,
        columns,
        optional,
        max_unreadable=settings.max_unreadable,
        every_column=path.name == "items.csv",
    )
    for note in table.notes:
        out.issues.add("reading", path.name, note.replace(str(path), path.name), "warning")
    if "item_id" in table.frame:
        table.frame["item_id"] = repaired(table.frame["item_id"], settings.id_rules, path.name)
    return table


def _rows(
    path: Path, columns: tuple[str, ...], out: Builder, settings: ReadingSettings, key: str, *optional: str
) -> Iterator[dict[str, str]]:
    """The rows of the file at ``path``, each with its line under "#"; a row whose ``key`` is empty is excluded."""
    table = _table(path, columns, out, settings, *optional)
    for line, cells in zip(table.lines, table.frame.itertuples(index=False), strict=True):
        row = dict(zip(table.frame.columns, cells, strict=True))
        if not row[key]:
            out.issues.add("no_identifier", f"{path.name}:{line}", f"'{key}' is empty", "row excluded")
            continue
        yield {"#": f"{path.name}:{line}", **row}


def _item_ids(out: Builder) -> set[str]:
    return {str(row["item_id"]) for row in out.rows("items")}


def _known(out: Builder, table: str, where: str, *item_ids: str) -> bool:
    """Whether all ``item_ids`` are items; excludes the row of ``table`` at ``where`` where one is not."""
    for item_id in item_ids:
        if not out.has("items", item_id):
            out.exclude(table, "not_joined", where, f"item {item_id!r:.80} is not in items.csv", "row excluded")
            return False
    return True


def _read_ratings(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    described = raw / "dimensions.csv"
    rows = _rows(described, ("dimension", "description"), out, settings, "dimension") if described.is_file() else ()
    phrases = {row["dimension"]: row["description"] for row in rows}
    table = _table(
        raw / "ratings.csv", ("item_id", "rater_id", "dimension", "score"), out, settings, "scale_min", "scale_max"
    )
    frame = table.frame
    if not len(frame):
        raise T2IEvalError(f"{raw / 'ratings.csv'} contains no rating.")
    refuse_unjoined(_item_ids(out), set(frame["item_id"]), "rated items", "item_id", "items.csv", "ratings.csv")
    named = frame["dimension"] != ""
    if not named.all():
        where = f"ratings.csv:{table.lines[int(np.argmax(~named))]}"
        n = int((~named).sum())
        out.exclude("ratings", "unreadable_cell", where, f"{n} ratings name no dimension", "ratings excluded", n)
    table = TextTable(table.name, frame[named].reset_index(drop=True), table.lines[named.to_numpy()], [], table.columns)
    scales = {"scale_min", "scale_max"} <= set(frame)
    if scales:
        _rate_on_stated_scales(table, out, settings, phrases)
        return
    prompt_of = {str(row["item_id"]): str(row["prompt_id"]) for row in out.rows("items")}
    table.frame["prompt_id"] = table.frame["item_id"].map(prompt_of).fillna("")
    table.frame["generator"] = ""
    read = rating_numbers(table, settings)
    for note in read.notes:
        out.issues.add("reading", "ratings.csv", note, "warning")
    for name, count in read.report.items():
        if count and not name.startswith(("missing", "repeated")):
            out.issues.add(name, "ratings.csv", f"{count} ratings", "rating excluded", count)
            out.excluded["ratings"] = out.excluded.get("ratings", 0) + count
    dimensions: dict[str, Dimension] = {}
    for row in read.frame.to_dict("records"):
        if not _known(out, "ratings", "ratings.csv", str(row["item_id"])):
            continue
        name, low, high = str(row["dimension"]), float(row["scale_min"]), float(row["scale_max"])
        dimensions.setdefault(name, Dimension(name, low, high, phrases.get(name, f"the {name} of the image")))
        unusable = bool(row["off_scale"]) or pd.isna(row["score"])
        out.add(
            "ratings",
            "ratings.csv",
            **{key: row[key] for key in ("item_id", "rater_id", "dimension", "scale_min", "scale_max")},
            off_scale=bool(row["off_scale"]),
            score=None if unusable else float(row["score"]),
        )
    out.dimensions = tuple(dimensions.values())


def _rate_on_stated_scales(table: TextTable, out: Builder, settings: ReadingSettings, phrases: dict[str, str]) -> None:
    """Add the ratings of a table that states the scale of each row; of two scales of a dimension the commoner counts."""
    frame = table.frame
    parsed = {name: parse_numbers(frame[name], name, settings.decimal) for name in ("score", "scale_min", "scale_max")}
    for note in parsed["score"].notes:
        out.issues.add("reading", "ratings.csv", note, "warning")
    low, high = parsed["scale_min"].values, parsed["scale_max"].values
    score = np.where(np.isin(parsed["score"].values, settings.missing_codes), np.nan, parsed["score"].values)
    stated = np.isfinite(low) & np.isfinite(high) & (low < high)
    raters = frame["rater_id"].where(frame["rater_id"] != "", None)
    nameless = raters.isna()
    if nameless.any():
        slots = frame[nameless].groupby(["item_id", "dimension"]).cumcount() + 1
        raters = raters.where(~nameless, "anonymous " + slots.reindex(frame.index).astype("str"))
        detail = f"{int(nameless.sum())} ratings name no rater; the raters of an item are numbered"
        out.issues.add("unidentified_raters", "ratings.csv", detail, "warning", int(nameless.sum()))
    scales = pd.DataFrame({"dimension": frame["dimension"], "low": low, "high": high})[stated].value_counts(sort=True)
    dimensions: dict[str, Dimension] = {}
    for name, bottom, top in scales.index:
        dimensions.setdefault(name, Dimension(name, bottom, top, phrases.get(name, f"the {name} of the image")))
    values = pd.DataFrame({"item": frame["item_id"], "rater": raters, "dimension": frame["dimension"], "score": score})
    once = values[stated & np.isfinite(score)].drop_duplicates()
    key = ["item", "rater", "dimension"]
    contradicting = set(once[once.duplicated(key, keep=False)][key].itertuples(index=False, name=None))
    for i, (item_id, rater, name) in enumerate(zip(frame["item_id"], raters, frame["dimension"], strict=True)):
        where = f"ratings.csv:{table.lines[i]}"
        if not _known(out, "ratings", where, item_id):
            continue
        if not stated[i]:
            out.exclude("ratings", "unreadable_cell", where, "the scale cannot be read", "rating excluded")
            continue
        dimension = dimensions[name]
        if (low[i], high[i]) != (dimension.scale_min, dimension.scale_max):
            most = f"{dimension.scale_min:g} to {dimension.scale_max:g}"
            detail = f"{name} is rated from {low[i]:g} to {high[i]:g} here and from {most} in most rows"
            out.exclude("ratings", "scale_conflict", where, detail, "rating excluded")
            continue
        if (item_id, rater, name) in contradicting:
            if not out.has("ratings", item_id, rater, name):
                detail = f"{name} of {item_id} by {rater} is rated twice, with different values"
                out.exclude("ratings", "contradicting_rating", where, detail, "rating excluded")
                out.add("ratings", where, item_id=item_id, rater_id=rater, dimension=name, score=None,
                        scale_min=dimension.scale_min, scale_max=dimension.scale_max, off_scale=False)  # fmt: skip
            continue
        if not np.isfinite(score[i]) and not parsed["score"].unreadable[i]:
            out.issues.add("missing_rating", where, f"{name} of {item_id} by {rater}", "kept as null")
            out.add("ratings", where, item_id=item_id, rater_id=rater, dimension=name, score=None,
                    scale_min=dimension.scale_min, scale_max=dimension.scale_max, off_scale=False)  # fmt: skip
            continue
        out.rating(
            item_id, rater, dimension, float(score[i]) if np.isfinite(score[i]) else frame["score"].iloc[i], where
        )
    out.dimensions = tuple(dimensions.values())


def _read_scores(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    path = raw / "scores.csv"
    if not path.is_file():
        return
    table = _table(path, ("item_id", "evaluator", "dimension", "score"), out, settings, "higher_is_better")
    frame = table.frame
    refuse_unjoined(_item_ids(out), set(frame["item_id"]) - {""}, "scored items", "item_id", "items.csv", "scores.csv")
    values = np.full(len(frame), np.nan)
    for name in frame["evaluator"].unique():
        rows = (frame["evaluator"] == name).to_numpy()
        parsed = parse_numbers(frame.loc[rows, "score"], f"score of {name}", settings.decimal)
        values[rows] = parsed.values
        for note in parsed.notes:
            out.issues.add("reading", "scores.csv", note, "warning")
    truth = frame["higher_is_better"] if "higher_is_better" in frame else pd.Series("", frame.index)
    cells = (frame[name] for name in ("item_id", "evaluator", "dimension", "score"))
    for i, (item_id, evaluator, dimension, score) in enumerate(zip(*cells, strict=True)):
        where = f"scores.csv:{table.lines[i]}"
        higher = _TRUTH.get(truth.iloc[i].lower())
        if higher is None or not evaluator or not item_id:
            detail = "item_id or evaluator is empty, or higher_is_better is neither true nor false"
            out.exclude("scores", "unreadable_cell", where, detail, "score excluded")
        elif _known(out, "scores", where, item_id):
            higher = higher and evaluator not in settings.lower_is_better
            out.score(
                item_id, evaluator, float(values[i]) if np.isfinite(values[i]) else score, where, dimension, higher
            )


def _read_preferences(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    path = raw / "preferences.csv"
    if not path.is_file():
        return
    prompt_of = {str(row["item_id"]): str(row["prompt_id"]) for row in out.rows("items")}
    read = read_preferences(path, settings, prompt_of)
    for note in read.notes:
        out.issues.add("reading", path.name, note.replace(str(path), path.name), "warning")
    for name, count in read.report.items():
        if count and not name.startswith("repeated"):
            out.exclude("preferences", name, path.name, f"{count} preferences", "rows excluded", count)
    for row in read.frame.to_dict("records"):
        out.add("preferences", path.name, **{str(name): value for name, value in row.items()})


def _read_elements(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    path = raw / "elements.csv"
    if path.is_file():
        more = ("question", "expected", "parents")
        for row in _rows(path, ("prompt_id", "element_id", "text", "skill"), out, settings, "element_id", *more):
            optional = {name: row.get(name) or None for name in more}
            required = {name: row[name] for name in ("prompt_id", "element_id", "text", "skill")}
            out.add("elements", row["#"], **required, **optional)
    path = raw / "element_ratings.csv"
    if path.is_file():
        for row in _rows(path, ("item_id", "element_id", "rater_id", "label"), out, settings, "item_id"):
            label = number(row["label"])
            if label is None or not 0 <= label <= 1:
                detail = f"label {row['label']!r:.40} is not a number from 0 to 1"
                out.issues.add("unreadable_cell", row["#"], detail, "kept as null")
                label = None
            if _known(out, "element_ratings", row["#"], row["item_id"]):
                keys = {name: row[name] for name in ("item_id", "element_id", "rater_id")}
                out.add("element_ratings", row["#"], **keys, label=label)
