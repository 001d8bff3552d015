"""People's ratings: from text to one number per item, rater and dimension."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.delimited import Source, TextTable, read_text_table
from t2i_eval_kedro.tables.identifiers import apply_rules, repaired, respelled
from t2i_eval_kedro.tables.scales import (
    rater_notes,
    refuse_lone_outliers,
    refuse_missing_codes,
    refuse_mixed_scales,
    refuse_ranks,
)
from t2i_eval_kedro.tables.settings import ReadingSettings
from t2i_eval_kedro.tables.values import note_excluded, parse_numbers, refuse_unreadable

COLUMNS = ("item_id", "prompt_id", "generator", "rater_id", "dimension", "score")
MAY_BE_ABSENT = {"prompt_id", "generator", "rater_id", "dimension"}
UNKNOWN_GENERATOR, ONE_DIMENSION = "unknown", "overall"
KEY = ["item_id", "rater_id", "dimension"]


@dataclass(frozen=True)
class Ratings:
    """Ratings as they are used.

    Attributes:
        frame: item_id, prompt_id, generator, rater_id, dimension, score (null where it was excluded), off_scale, scale_min, scale_max.
        unidentified: rater identifiers are slots, not persons.
        notes: what was interpreted, excluded, or is odd.
        report: counts, for the summary.
    """

    frame: pd.DataFrame
    unidentified: bool
    notes: list[str] = field(default_factory=list)
    report: dict[str, int] = field(default_factory=dict)


def read_ratings(source: Source, settings: ReadingSettings) -> tuple[TextTable, Ratings]:
    """The ratings in ``source``, as text and as numbers.

    Raises:
        T2IEvalError: the table cannot be read, or its numbers cannot be understood without a setting.
    """
    mapping = settings.ratings
    wide = {"rater_id", "score"} if mapping.wide else set()
    required = [name for name in COLUMNS if name not in wide]
    absent = [name for name in required if mapping.columns.get(name, name) is None]
    if set(absent) - MAY_BE_ABSENT:
        raise T2IEvalError("The mapping must name the columns item_id and score of the ratings.")
    kept = [name for name in required if name not in absent]
    table = read_text_table(source, "ratings", kept, ("skill",), mapping, settings.max_unreadable)
    if mapping.wide:
        table = to_long(table, mapping.wide, "rater_id")
    frame = table.frame
    defaults = {"generator": UNKNOWN_GENERATOR, "dimension": ONE_DIMENSION, "rater_id": ""}
    for name in absent:
        frame[name] = frame["item_id"] if name == "prompt_id" else defaults[name]
    if frame.empty:
        raise T2IEvalError(f"{table.name} contains no rating; it has a header alone.")
    if (frame["dimension"] == "").all():
        frame["dimension"] = ONE_DIMENSION
    table = _with_dimension(table, settings)
    frame = table.frame
    frame["item_id"] = repaired(frame["item_id"], settings.id_rules, table.name)
    for name in ("prompt_id", "dimension", "rater_id", "generator"):
        frame[name] = respelled(frame[name], settings.id_rules)
        table.notes.extend(_spellings(frame[name], name, table.name))
    return table, rating_numbers(table, settings)


def _with_dimension(table: TextTable, settings: ReadingSettings) -> TextTable:
    """The rows that name a dimension; the others are excluded and counted.

    Raises:
        T2IEvalError: more rows name none than may be unreadable.
    """
    named = (table.frame["dimension"] != "").to_numpy()
    if named.all():
        return table
    everything = np.ones(len(named), dtype=bool)
    refuse_unreadable(table, "dimension", ~named, everything, settings.max_unreadable, "ratings", "fill the cells")
    note = f"{table.name}: {int((~named).sum())} of {len(named)} ratings name no dimension; they are excluded."
    kept = table.frame[named].reset_index(drop=True)
    return TextTable(table.name, kept, table.lines[named], [*table.notes, note], table.columns)


def _spellings(cells: pd.Series, name: str, where: str) -> list[str]:
    """A note where values of a column differ in letter case or invisible characters alone, and so count as several."""
    unique = pd.Series(cells.unique())
    plain = unique.map(lambda text: apply_rules(text, ("case", "unicode")))
    twins = unique[plain.duplicated(keep=False)]
    if twins.empty:
        return []
    some = ", ".join(repr(text)[:40] for text in sorted(twins)[:2])
    return [
        f"{where}: {len(twins)} values of '{name}' differ in case or invisible characters alone ({some}); they count as different "
        "(--id-rule case, unicode)."
    ]


def to_long(table: TextTable, wide: list[str], name: str) -> TextTable:
    """One row per cell of the columns ``wide``; a cell that is empty is no row."""
    others = table.frame[[column for column in table.frame if column not in wide]]
    parts: list[pd.DataFrame] = []
    for column in wide:
        part = others.copy()
        part[name], part["score"] = column, table.frame[column]
        parts.append(part)
    long = pd.concat(parts, ignore_index=True)
    lines = np.tile(table.lines, len(wide))
    there = (long["score"] != "").to_numpy()
    return TextTable(table.name, long[there].reset_index(drop=True), lines[there], table.notes, table.columns)


def rating_numbers(table: TextTable, settings: ReadingSettings) -> Ratings:
    """The numbers of ``table``, which has all of :data:`COLUMNS`.

    Raises:
        T2IEvalError: they cannot be understood without a setting, or too many are unusable.
    """
    text = table.frame
    report: dict[str, int] = {}
    notes = list(table.notes)
    parsed = parse_numbers(text["score"], "score", settings.decimal)
    notes += [f"{table.name}: {note}" for note in parsed.notes]
    values = parsed.values.copy()
    coded = np.isin(values, settings.missing_codes)
    values[coded] = np.nan
    report["missing_ratings"] = parsed.n_missing + int(coded.sum())
    report["unreadable_ratings"] = table.count("unreadable_ratings", text[parsed.unreadable])
    frame = text[[*COLUMNS]].assign(score=values)
    unidentified = bool((frame["rater_id"] == "").any())
    if unidentified:
        _name_slots(frame, table, notes)
    scale = settings.scale
    if settings.rater_scales:
        scale = _map_rater_scales(frame, settings, notes)
    present = frame[frame["score"].notna()]
    if not len(present) and len(text):
        _no_rating(table, parsed.unreadable, report)
    for dimension, rows in present.groupby("dimension", sort=True):
        if scale is None:
            refuse_missing_codes(rows["score"], str(dimension))
            refuse_lone_outliers(rows["score"], str(dimension))
            if not unidentified:
                refuse_mixed_scales(rows[["rater_id", "score"]], str(dimension), settings.rater_scales)
    low, high = _scale_columns(frame, scale, notes)
    frame["off_scale"] = (frame["score"] < low) | (frame["score"] > high)
    report["off_scale_ratings"] = table.count("off_scale_ratings", frame[frame["off_scale"]])
    there = np.isfinite(parsed.values) | parsed.unreadable
    bad = parsed.unreadable | frame["off_scale"].to_numpy()
    way_out = "correct them" if scale is None else "correct them or the scale"
    refuse_unreadable(table, "score", bad, there & ~coded, settings.max_unreadable, "ratings", way_out)
    notes += note_excluded(table, "score", parsed.unreadable, "ratings cannot be read")
    notes += note_excluded(table, "score", frame["off_scale"].to_numpy(), "ratings are off the scale")
    frame["scale_min"], frame["scale_max"] = low, high
    frame["score"] = frame["score"].where(~frame["off_scale"])
    if settings.ratings_lower_is_better:
        frame["score"] = frame["scale_min"] + frame["scale_max"] - frame["score"]
        notes.append("Ratings are turned round: low ones mean good images (--ratings-lower-is-better).")
    frame, unidentified = _one_a_key(frame, table, settings, unidentified, notes, report)
    usable = frame[frame["score"].notna()]
    for dimension, rows in usable.groupby("dimension", sort=True):
        if settings.ratings_lower_is_better is None and scale is None:
            refuse_ranks(rows, str(dimension))
        if not unidentified:
            notes += rater_notes(rows[["item_id", "rater_id", "score"]], str(dimension))
    return Ratings(frame, unidentified, notes, report)


def _no_rating(
    table: TextTable, unreadable: np.ndarray[tuple[int], np.dtype[np.bool_]], report: dict[str, int]
) -> None:
    if unreadable.any():
        first = int(np.argmax(unreadable))
        raise T2IEvalError(
            f"No rating in {table.name} can be read; in {table.place(first)} 'score' is {table.frame['score'].iloc[first]!r:.60}."
        )
    raise T2IEvalError(
        f"{table.name} contains no rating: all {len(table.frame)} cells of 'score' are empty or missing codes."
    )


def _name_slots(frame: pd.DataFrame, table: TextTable, notes: list[str]) -> None:
    """Number the raters of each item where rows do not name one: slots that are no persons."""
    nameless = frame["rater_id"] == ""
    slot = frame[nameless].groupby(["item_id", "dimension"]).cumcount()
    frame.loc[nameless, "rater_id"] = "anonymous " + (slot + 1).astype("str")
    notes.append(
        f"{table.name}: {int(nameless.sum())} of {len(frame)} rows name no rater; the raters of an item are numbered and taken as unidentified."
    )


def _map_rater_scales(frame: pd.DataFrame, settings: ReadingSettings, notes: list[str]) -> tuple[float, float]:
    """Map the ratings of raters with a scale of their own onto the common one, which is returned."""
    unknown = sorted(set(settings.rater_scales) - set(frame["rater_id"]))
    if unknown:
        names = ", ".join(sorted(map(str, frame["rater_id"].unique()))[:20])
        raise T2IEvalError(f"--ratings-scale names '{unknown[0]}', who is not a rater; the raters are {names}.")
    others = frame.loc[~frame["rater_id"].isin(list(settings.rater_scales)), "score"].dropna()
    if settings.scale is None and others.empty:
        raise T2IEvalError("--ratings-scale for every rater needs the scale to map to; give --scale MIN:MAX.")
    low, high = settings.scale or (float(others.min()), float(others.max()))
    for rater, (bottom, top) in settings.rater_scales.items():
        rows = frame["rater_id"] == rater
        if bottom == top:
            raise T2IEvalError(f"--ratings-scale {rater}={bottom:g}:{top:g} is not a scale; its ends are equal.")
        frame.loc[rows, "score"] = low + (frame.loc[rows, "score"] - bottom) / (top - bottom) * (high - low)
        notes.append(
            f"Rater '{rater}': {int(rows.sum())} ratings are mapped from {bottom:g} to {top:g} onto {low:g} to {high:g}."
        )
    return low, high


def _scale_columns(
    frame: pd.DataFrame, scale: tuple[float, float] | None, notes: list[str]
) -> tuple[pd.Series, pd.Series]:
    """Lowest and highest rating of each row's dimension, said first of all."""
    sentences = []
    if scale is None:
        limits = frame.groupby("dimension")["score"].agg(["min", "max"]).fillna(0.0)
        for dimension, row in limits.iterrows():
            sentences.append(
                f"Scale of '{dimension}': {row['min']:g} to {row['max']:g}, the range of its ratings (--scale MIN:MAX says another)."
            )
        low, high = (frame["dimension"].map(limits[name]).astype(float) for name in ("min", "max"))
    else:
        sentences.append(f"Scale: {scale[0]:g} to {scale[1]:g}, as given.")
        low, high = (pd.Series(float(limit), frame.index) for limit in scale)
    notes[:0] = sentences
    return low, high


def _one_a_key(
    frame: pd.DataFrame,
    table: TextTable,
    settings: ReadingSettings,
    unidentified: bool,
    notes: list[str],
    report: dict[str, int],
) -> tuple[pd.DataFrame, bool]:
    """One row per item, rater and dimension, under the policy for repeated values."""
    repeated = frame.duplicated(KEY, keep=False)
    report["repeated_ratings"] = report["contradicting_ratings"] = 0
    if not repeated.any():
        return frame, unidentified
    if settings.repeated == "people":
        number = frame.groupby(KEY).cumcount()
        named = frame["rater_id"].where(number == 0, frame["rater_id"] + " (" + (number + 1).astype("str") + ")")
        notes.append(
            f"{int(repeated.sum())} ratings share item, rater and dimension; each counts as another person's, as given."
        )
        return frame.assign(rater_id=named), True
    once = frame.drop_duplicates([*KEY, "score"])
    report["repeated_ratings"] = len(frame) - len(once)
    return resolve_repeated(once, KEY, "ratings", "rater_id", table, settings, notes, report), unidentified


def resolve_repeated(
    once: pd.DataFrame,
    key: list[str],
    kind: str,
    who: str,
    table: TextTable,
    settings: ReadingSettings,
    notes: list[str],
    report: dict[str, int],
) -> pd.DataFrame:
    """One row per ``key`` of ``once``, whose rows differ: excluded and counted, or the mean, first or last value.

    A row without a value contradicts none.

    Raises:
        T2IEvalError: the policy is to exclude, and more keys contradict themselves than may be unreadable.
    """
    once = once[once["score"].notna() | ~once.duplicated(key, keep=False)]
    conflict = once.duplicated(key, keep=False)
    cases = once[conflict].drop_duplicates(key)
    report[f"contradicting_{kind}"] = table.count(f"contradicting_{kind}", cases)
    if not len(cases):
        return once
    if settings.repeated in ("first", "last"):
        notes.append(
            f"{len(cases)} {kind} are given more than once with different values; the {settings.repeated} counts, as given."
        )
        return once.drop_duplicates(key, keep="first" if settings.repeated == "first" else "last")
    if settings.repeated == "mean":
        notes.append(
            f"{len(cases)} {kind} are given more than once with different values; their mean counts, as given."
        )
        means = once.groupby(key)["score"].transform("mean")
        return once.assign(score=means).drop_duplicates(key)
    if len(cases) > settings.max_unreadable * len(once.drop_duplicates(key)):
        first = cases.iloc[0]
        values = once.loc[(once[key] == first[key]).all(axis=1), "score"]
        more = ", people (one identifier stands for several raters)" if kind == "ratings" else ", or a column 'run'"
        raise T2IEvalError(
            f"{len(cases)} {kind} in {table.name} contradict each other: {who} '{first[who]}' gave item '{first['item_id']}' "
            f"{' and '.join(f'{value:g}' for value in values.head(3))}. Say what counts with --repeated mean, first, last, exclude{more}, "
            f"or raise --max-unreadable."
        )
    notes.append(
        f"{len(cases)} {kind} are given more than once with different values; they are excluded (--repeated says otherwise)."
    )
    return once.assign(score=once["score"].where(~conflict)).drop_duplicates(key)
