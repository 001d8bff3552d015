"""A benchmark of the user's own: a folder of CSV files.

| file | columns |
|---|---|
| ``items.csv`` | item_id, prompt_id, prompt, generator, image (path inside the folder, may be empty); reference (likewise) where it is there |
| ``ratings.csv`` | item_id, rater_id, dimension, score; scale_min, scale_max where they are there |
| ``dimensions.csv`` (optional) | dimension, description: the phrase a judge is asked with |
| ``scores.csv`` (optional) | item_id, evaluator, score; dimension, higher_is_better (true or false) and run where they are there |
| ``preferences.csv`` (optional; ratings may then be absent) | prompt_id, item_a, item_b, rater_id, label (a, b or tie) |
| ``elements.csv`` (optional) | prompt_id, element_id, text, skill; question, expected, parents where they are there |
| ``element_ratings.csv`` (optional) | item_id, element_id, rater_id, label |
| ``t2i_eval.yml`` (optional) | how the tables are read: scale, missing codes, labels, see :mod:`t2i_eval_kedro.tables` |

Encoding, separator and decimal sign are found as ``kedro agreement`` finds them, and what cannot be understood stops in the same
words. Any other column of ``items.csv`` becomes an attribute of the item, several values separated by ";": ``skills`` for agreement by
skill, any (such as a style, or the cluster of an embedding) for sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro.benchmarks.base import Benchmark, Builder, Dimension
from t2i_eval_kedro.benchmarks.splits import normalised
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import is_among
from t2i_eval_kedro.tables import ReadingSettings, TextTable, read_text_table
from t2i_eval_kedro.tables import scores as score_tables
from t2i_eval_kedro.tables.identifiers import refuse_unjoined, repaired, respelled
from t2i_eval_kedro.tables.preferences import read_preferences
from t2i_eval_kedro.tables.ratings import ONE_DIMENSION, rating_numbers, to_long
from t2i_eval_kedro.tables.settings import MAPPING_FILE, TableMapping, read_mapping
from t2i_eval_kedro.tables.values import parse_numbers, refuse_unreadable

NO_BAD_ROWS = {"missing_preferences": "left out", "unreadable_strengths": "kept without strength"}
ITEM_COLUMNS = ("item_id", "prompt_id", "prompt", "generator", "image")


def read(raw: Path) -> Benchmark:
    """Read the folder ``raw``; its name is the benchmark's.

    Raises:
        T2IEvalError: a file cannot be read or understood, nothing joins, or there is neither a rating nor a preference.
    """
    mapping = raw / MAPPING_FILE
    settings = read_mapping(mapping) if mapping.is_file() else ReadingSettings()
    out = Builder(raw.name, raw.name, "not stated", ())
    out.same_scale = settings.same_scale
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
    """The file at ``path`` as text, its identifiers repaired; what was noted becomes an issue.

    Ratings and scores may have other names of columns, or one column for each rater or judge, as ``settings`` says.
    """
    mapping = {"ratings.csv": settings.ratings, "scores.csv": settings.scores}.get(path.name, TableMapping())
    who = "rater_id" if path.name == "ratings.csv" else "evaluator"
    table = read_text_table(
        path,
        path.stem,
        [name for name in columns if not (mapping.wide and name in (who, "score"))],
        optional,
        mapping,
        max_unreadable=settings.max_unreadable,
        every_column=path.name == "items.csv",
    )
    for note in table.notes:
        out.issues.add("reading", path.name, note.replace(str(path), path.name), "warning")
    if mapping.wide:
        table = to_long(table, mapping.wide, who)
    for name in columns:
        if name not in table.frame:
            table.frame[name] = ""
    if "item_id" in table.frame:
        table.frame["item_id"] = repaired(table.frame["item_id"], settings.id_rules, path.name)
    for name in {"dimension", "rater_id", "generator"} & set(table.frame):
        table.frame[name] = respelled(table.frame[name], settings.id_rules)
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


def _item_ids(out: Builder) -> pd.Series:
    return pd.Series([row["item_id"] for row in out.rows("items")], dtype="str")


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
    refuse_unjoined(_item_ids(out), frame["item_id"], "rated items", "item_id", "items.csv", "ratings.csv")
    if (frame["dimension"] == "").all():
        frame["dimension"] = ONE_DIMENSION
    named = frame["dimension"] != ""
    if not named.all():
        where = f"ratings.csv:{table.lines[int(np.argmax(~named))]}"
        n = int((~named).sum())
        out.exclude("ratings", "unreadable_cell", where, f"{n} ratings name no dimension", "ratings excluded", n)
        table = TextTable(
            table.name, frame[named].reset_index(drop=True), table.lines[named.to_numpy()], [], table.columns
        )
    if {"scale_min", "scale_max"} <= set(frame):
        _refuse_unused_settings(settings)
        _rate_on_stated_scales(table, out, settings, phrases)
        return
    prompts = pd.DataFrame(out.rows("items"))[["item_id", "prompt_id"]]
    table.frame["prompt_id"] = table.frame[["item_id"]].merge(prompts, how="left")["prompt_id"].fillna("")
    table.frame["generator"] = ""
    read = rating_numbers(table, settings)
    out.unidentified_raters = read.unidentified
    for note in read.notes:
        out.issues.add("reading", "ratings.csv", note, "warning")
    for name, count in read.report.items():
        if count and not name.startswith(("missing", "repeated")):
            where, detail = f"ratings.csv:{table.first_lines[name]}", f"{count} {name.replace('_', ' ')}"
            out.exclude("ratings", name, where, detail, "rating excluded", count)
    rated = _of_known_items(read.frame, table, "ratings", out)
    scales = rated[["dimension", "scale_min", "scale_max"]].drop_duplicates("dimension")
    out.dimensions = tuple(
        Dimension(name, float(low), float(high), phrases.get(name, f"the {name} of the image"))
        for name, low, high in scales.itertuples(index=False)
    )
    out.put("ratings", rated)


def _refuse_unused_settings(settings: ReadingSettings) -> None:
    """Stop where ``settings`` says of the ratings what their own columns say already, and would be ignored.

    Raises:
        T2IEvalError: the sentence names the setting and the way out.
    """
    defaults = ReadingSettings()
    for name in ("scale", "rater_scales", "ratings_lower_is_better", "repeated"):
        if getattr(settings, name) != getattr(defaults, name):
            raise T2IEvalError(
                f"ratings.csv states the scale of each rating (scale_min, scale_max), so '{name}' of {MAPPING_FILE} cannot be used; "
                "remove the setting, or the two columns."
            )


def _of_known_items(frame: pd.DataFrame, text: TextTable, table: str, out: Builder) -> pd.DataFrame:
    """The rows of ``frame``, which was made of ``text``, whose item is one; the others are excluded, counted by item."""
    known = is_among(frame["item_id"], _item_ids(out))
    firsts = text.frame["item_id"].drop_duplicates()
    line_of = dict(zip(firsts, text.lines[firsts.index], strict=True))
    for item_id, n in frame.loc[~known, "item_id"].value_counts(sort=False).items():
        detail = f"item {item_id!r:.80} is not in items.csv"
        out.exclude(table, "not_joined", f"{table}.csv:{line_of[item_id]}", detail, "rows excluded", int(n))
    return frame[known]


RATING_KEY = ["item_id", "rater_id", "dimension"]


def _rate_on_stated_scales(table: TextTable, out: Builder, settings: ReadingSettings, phrases: dict[str, str]) -> None:
    """Make the ratings of a table that states the scale of each row; of two scales of a dimension the commoner counts."""
    text = table.frame
    parsed = {name: parse_numbers(text[name], name, settings.decimal) for name in ("score", "scale_min", "scale_max")}
    for note in parsed["score"].notes:
        out.issues.add("reading", "ratings.csv", note, "warning")
    low, high, score = (parsed[name].values for name in ("scale_min", "scale_max", "score"))
    score = np.where(np.isin(score, settings.missing_codes), np.nan, score)
    frame = text[["item_id", "rater_id", "dimension"]].assign(
        cell=text["score"], score=score, unreadable=parsed["score"].unreadable, low=low, high=high, line=table.lines
    )
    nameless = frame["rater_id"] == ""
    if nameless.any():
        slots = frame[nameless].groupby(["item_id", "dimension"]).cumcount() + 1
        frame.loc[nameless, "rater_id"] = "anonymous " + slots.astype("str")
        detail = f"{int(nameless.sum())} ratings name no rater; the raters of an item are numbered"
        out.issues.add("unidentified_raters", "ratings.csv", detail, "warning", int(nameless.sum()))
        out.unidentified_raters = True
    frame = _of_known_items(frame, table, "ratings", out)
    stated = frame["low"] < frame["high"]  # not where either is no number
    _exclude(out, frame[~stated], "unreadable_cell", lambda row: "the scale cannot be read")
    frame = frame[stated]
    scales = frame[["dimension", "low", "high"]].value_counts().reset_index().drop_duplicates("dimension")
    out.dimensions = tuple(
        Dimension(name, low, high, phrases.get(name, f"the {name} of the image"))
        for name, low, high in scales[["dimension", "low", "high"]].itertuples(index=False)
    )
    frame = frame.merge(scales[["dimension", "low", "high"]], on="dimension", suffixes=("", "_most"))
    other = (frame["low"] != frame["low_most"]) | (frame["high"] != frame["high_most"])
    _exclude(
        out,
        frame[other],
        "scale_conflict",
        lambda row: (
            f"{row.dimension} is rated from {row.low:g} to {row.high:g} here and from {row.low_most:g} to {row.high_most:g} "
            "in most rows"
        ),
    )
    frame = frame[~other]
    off_scale = (frame["score"] < frame["low"]) | (frame["score"] > frame["high"])
    for rows, kind in ((frame[frame["unreadable"]], "unreadable_rating"), (frame[off_scale], "off_scale_rating")):
        _exclude(
            out, rows, kind, lambda row: f"{_rating_of(row)}: {row.cell!r:.80} (scale {row.low:g} to {row.high:g})"
        )
    missing = frame["score"].isna() & ~frame["unreadable"]
    frame = frame.assign(missing=missing, off_scale=off_scale, score=frame["score"].where(~off_scale))
    of_one_key = frame[frame.duplicated(RATING_KEY, keep=False)]
    values = of_one_key.loc[of_one_key["score"].notna(), [*RATING_KEY, "score"]].drop_duplicates()
    cases = values[values.duplicated(RATING_KEY)][RATING_KEY].drop_duplicates().assign(contradicting=True)
    frame = frame.merge(cases, how="left", on=RATING_KEY) if len(cases) else frame.assign(contradicting=False)
    frame["contradicting"] = frame["contradicting"].notna() & frame["contradicting"].ne(False)
    frame["empty"] = frame["score"].isna()  # a row without a value gives way to one with a value
    again = frame.sort_values("empty", kind="stable").duplicated(RATING_KEY).sort_index()
    twice = frame[again & ~frame["contradicting"] & ~frame["empty"]]
    _exclude(out, twice, "duplicate_row", lambda row: f"{_rating_of(row)} stood before")
    for row, gone in zip(frame[frame["missing"]].itertuples(index=False), again[frame["missing"]], strict=True):
        action = "left out" if gone else "kept as null"
        out.issues.add("missing_rating", f"ratings.csv:{row.line}", _rating_of(row), action)
    frame = frame[~again]
    _exclude(
        out,
        frame[frame["contradicting"]],
        "contradicting_rating",
        lambda row: f"{_rating_of(row)} is rated twice, with different values",
    )
    frame["score"] = frame["score"].where(~frame["contradicting"])
    scales_of = {"low": "scale_min", "high": "scale_max"}
    out.put("ratings", frame[[*RATING_KEY, "score", "off_scale", *scales_of]].rename(columns=scales_of))


def _rating_of(row: Any) -> str:
    return f"{row.dimension} of {row.item_id} by {row.rater_id}"


def _exclude(out: Builder, rows: pd.DataFrame, kind: str, detail: Callable[[Any], str]) -> None:
    """Exclude ``rows`` of the ratings, each with its line."""
    for row in rows.itertuples(index=False):
        out.exclude("ratings", kind, f"ratings.csv:{row.line}", detail(row), "rating excluded")


def _read_scores(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    path = raw / "scores.csv"
    if not path.is_file():
        return
    table = _table(path, score_tables.COLUMNS, out, settings, *score_tables.OPTIONAL)
    frame = table.frame
    named = ((frame["evaluator"] != "") & (frame["item_id"] != "")).to_numpy()
    for line in table.lines[~named]:
        detail = "item_id or evaluator is empty"
        out.exclude("scores", "unreadable_cell", f"scores.csv:{line}", detail, "score excluded")
    frame = frame[named].reset_index(drop=True)
    table = TextTable(table.name, frame, table.lines[named], [], table.columns)
    refuse_unjoined(_item_ids(out), frame["item_id"], "scored items", "item_id", "items.csv", "scores.csv")
    read = score_tables.score_numbers(table, settings)
    for note in read.notes:
        out.issues.add("reading", "scores.csv", note.replace(str(path), path.name), "warning")
    for row in np.flatnonzero(read.unreadable):
        detail = f"{frame['evaluator'].iloc[row]} of {frame['item_id'].iloc[row]}: {frame['score'].iloc[row]!r:.80}"
        out.exclude("scores", "unreadable_score", f"scores.csv:{table.lines[row]}", detail, "kept as null")
    if n := read.report["contradicting_scores"]:
        where = f"scores.csv:{table.first_lines['contradicting_scores']}"
        detail = f"{n} scores of one judge, item, dimension and run have different values"
        out.exclude("scores", "contradicting_score", where, detail, "by 'repeated'", n)
    rated = pd.Series([dimension.name for dimension in out.dimensions], dtype="str")
    for judge, rows in read.frame.groupby("judge", sort=True):
        if not (rows["dimension"] == "").any():
            what = f"dimensions of evaluator '{judge}'"
            refuse_unjoined(rated, rows["dimension"], what, "dimension", "ratings.csv", "scores.csv")
    out.put("scores", _of_known_items(read.frame, table, "scores", out))


def _read_preferences(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    path = raw / "preferences.csv"
    if not path.is_file():
        return
    prompt_of = {str(row["item_id"]): str(row["prompt_id"]) for row in out.rows("items")}
    read = read_preferences(path, settings, prompt_of)
    for note in read.notes:
        out.issues.add("reading", path.name, note.replace(str(path), path.name), "warning")
    for name, count in read.report.items():
        if not count or name.startswith("repeated"):
            continue
        where, detail = f"{path.name}:{read.first_lines[name]}", f"{count} {name.replace('_', ' ')}"
        if name in NO_BAD_ROWS:
            out.issues.add(name, where, detail, NO_BAD_ROWS[name], count)
        else:
            out.exclude("preferences", name, where, detail, "rows excluded", count)
    for row in read.frame.to_dict("records"):
        out.add("preferences", path.name, **{str(name): value for name, value in row.items()})


def _read_elements(raw: Path, out: Builder, settings: ReadingSettings) -> None:
    path = raw / "elements.csv"
    if path.is_file():
        more = ("question", "expected", "parents")
        prompts = pd.Series([row["prompt_id"] for row in out.rows("items")], dtype="str").drop_duplicates()
        rows = list(_rows(path, ("prompt_id", "element_id", "text", "skill"), out, settings, "element_id", *more))
        named = pd.Series([row["prompt_id"] for row in rows], dtype="str")
        refuse_unjoined(prompts, named, "prompts of elements", "prompt_id", "items.csv", path.name)
        known = {(row["prompt_id"], row["element_id"]) for row in rows}
        for row, joins in zip(rows, is_among(named, prompts), strict=True):
            if not joins or not row["text"]:
                what = f"prompt_id {row['prompt_id']!r:.60} is not in items.csv" if not joins else "'text' is empty"
                detail = f"element {row['element_id']!r:.60}: {what}"
                out.exclude("elements", "unreadable_cell" if joins else "not_joined", row["#"], detail, "row excluded")
                continue
            for parent in filter(None, (name.strip() for name in row.get("parents", "").split(","))):
                if (row["prompt_id"], parent) not in known:
                    detail = f"'parents' of {row['element_id']!r:.60} names {parent!r:.60}, which is no element of its prompt"
                    out.issues.add("bad_dependency", row["#"], detail, "the parents that exist are kept")
            optional = {name: row.get(name) or None for name in more}
            required = {name: row[name] for name in ("prompt_id", "element_id", "text", "skill")}
            out.add("elements", row["#"], **required, **optional)
    path = raw / "element_ratings.csv"
    if path.is_file():
        _read_element_ratings(path, out, settings)


def _read_element_ratings(path: Path, out: Builder, settings: ReadingSettings) -> None:
    keys = ("item_id", "element_id", "rater_id")
    table = _table(path, (*keys, "label"), out, settings)
    frame = table.frame
    parsed = parse_numbers(frame["label"], "label", settings.decimal)
    for note in parsed.notes:
        out.issues.add("reading", path.name, note, "warning")
    labels = np.where(np.isin(parsed.values, settings.missing_codes), np.nan, parsed.values)
    bad = parsed.unreadable | (labels < 0) | (labels > 1)
    present = parsed.unreadable | np.isfinite(labels)
    refuse_unreadable(
        table, "label", bad, present, settings.max_unreadable, "labels of elements", "write a number from 0 to 1"
    )
    refuse_unjoined(_item_ids(out), frame["item_id"], "labelled items", "item_id", "items.csv", path.name)
    for at in np.flatnonzero(bad):
        detail = f"label {frame['label'].iloc[at]!r:.40} is not a number from 0 to 1"
        out.exclude("element_ratings", "unreadable_cell", f"{path.name}:{table.lines[at]}", detail, "kept as null")
    labels = np.where(bad, np.nan, labels)
    for row, label, line in zip(frame[list(keys)].to_dict("records"), labels.tolist(), table.lines, strict=True):
        where = f"{path.name}:{line}"
        if _known(out, "element_ratings", where, row["item_id"]):
            out.add(
                "element_ratings",
                where,
                item_id=row["item_id"],
                element_id=row["element_id"],
                rater_id=row["rater_id"],
                label=None if np.isnan(label) else label,
            )
