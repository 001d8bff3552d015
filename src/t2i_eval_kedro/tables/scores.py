"""Judges' scores: from text to one number per item, judge, dimension and run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.delimited import Source, TextTable, read_text_table
from t2i_eval_kedro.tables.identifiers import repaired, respelled
from t2i_eval_kedro.tables.ratings import resolve_repeated, to_long
from t2i_eval_kedro.tables.scales import likely_code
from t2i_eval_kedro.tables.settings import ReadingSettings
from t2i_eval_kedro.tables.values import note_excluded, parse_numbers, refuse_unreadable

COLUMNS = ("item_id", "evaluator", "score")
OPTIONAL = ("dimension", "run", "higher_is_better")
KEY = ["item_id", "judge", "dimension", "run"]


_TRUTH = {"true": True, "false": False, "1": True, "0": False, "": True}


@dataclass(frozen=True)
class Scores:
    """Judges' scores as they are used.

    Attributes:
        frame: the canonical table.
        unreadable: which rows of the text hold something that is no number.
        notes: what was interpreted or excluded.
        report: counts, for the summary.
    """

    frame: pd.DataFrame
    unreadable: npt.NDArray[np.bool_]
    notes: list[str] = field(default_factory=list)
    report: dict[str, int] = field(default_factory=dict)


def read_scores(source: Source, settings: ReadingSettings) -> tuple[TextTable, Scores]:
    """The scores in ``source``, as text and as the canonical table.

    Raises:
        T2IEvalError: the table cannot be read, too many of a judge's scores are unreadable, or an evaluator is unknown.
    """
    mapping = settings.scores
    required = ("item_id",) if mapping.wide else COLUMNS
    absent = [name for name in required if mapping.columns.get(name, name) is None]
    if absent:
        raise T2IEvalError(f"The mapping must name the column {absent[0]} of the scores.")
    table = read_text_table(source, "scores", required, OPTIONAL, mapping, settings.max_unreadable)
    if mapping.wide:
        table = to_long(table, mapping.wide, "evaluator")
    text = table.frame
    text["item_id"] = repaired(text["item_id"], settings.id_rules, table.name)
    if "dimension" in text:
        text["dimension"] = respelled(text["dimension"], settings.id_rules)
    nameless = (text["evaluator"] == "").to_numpy()
    if nameless.any():
        raise T2IEvalError(
            f"{table.place(int(np.argmax(nameless)))} names no evaluator; fill the cell or remove the row."
        )
    return table, score_numbers(table, settings)


def score_numbers(table: TextTable, settings: ReadingSettings) -> Scores:
    """The numbers of ``table``, which has the columns :data:`COLUMNS` and those of :data:`OPTIONAL` that are there.

    Raises:
        T2IEvalError: too many of a judge's scores are unreadable, an evaluator is unknown, or its direction is not said plainly.
    """
    text = table.frame
    names = sorted(map(str, text["evaluator"].unique()))
    unknown = sorted(set(settings.lower_is_better) - set(names))
    if unknown:
        raise T2IEvalError(
            f"'{unknown[0]}' (lower is better) is not an evaluator of the scores; the evaluators are {', '.join(names)}."
        )
    report: dict[str, int] = {}
    notes = list(table.notes)
    values = np.full(len(text), np.nan)
    unreadable = np.zeros(len(text), dtype=bool)
    report["missing_scores"] = 0
    for name in names:  # conventions are a judge's, not a file's
        rows = (text["evaluator"] == name).to_numpy()
        parsed = parse_numbers(text.loc[rows, "score"], f"score of {name}", settings.decimal)
        notes += [f"{table.name}: {note}" for note in parsed.notes]
        of_judge = parsed.values.copy()
        code = likely_code(pd.Series(of_judge).dropna())
        if code is not None and code[0] in settings.missing_codes:
            of_judge[of_judge == code[0]] = np.nan
            report["missing_scores"] += code[1]
        elif code is not None:
            notes.append(
                f"{table.name}: {code[1]} scores of '{name}' are {code[0]:g}, all others are {code[2]:g} to {code[3]:g}; if it means that "
                f"there is none, say --missing-code {code[0]:g}."
            )
        values[rows], unreadable[rows] = of_judge, parsed.unreadable
        report["missing_scores"] += parsed.n_missing
        there = rows & (np.isfinite(values) | unreadable)
        refuse_unreadable(
            table, "score", unreadable & rows, there, settings.max_unreadable, f"scores of '{name}'", "correct them"
        )
        notes += note_excluded(table, "score", unreadable & rows, f"scores of '{name}' cannot be read")
    report["unreadable_scores"] = int(unreadable.sum())
    runs, run_names = pd.factorize(text["run"]) if "run" in text else (np.zeros(len(text), dtype=np.int64), [""])
    if len(run_names) > 1:
        notes.append(f"{table.name} has {len(run_names)} runs; a judge's score of an item is their mean.")
    stated = _directions(table)
    if turned := sorted(set(text["evaluator"][~stated])):
        names_turned = ", ".join(map(repr, turned))
        notes.append(f"{table.name}: low scores of {names_turned} mean good images (column 'higher_is_better').")
    higher = stated & ~text["evaluator"].isin(list(settings.lower_is_better))
    frame = text[["item_id"]].assign(
        judge=text["evaluator"],
        protocol=None,
        dimension=text.get("dimension", ""),
        run=runs,
        score=values,
        explanation=None,
        higher_is_better=higher,
    )
    once = frame.drop_duplicates([*KEY, "score"])
    report["repeated_scores"] = len(frame) - len(once)
    once = resolve_repeated(once, KEY, "scores", "judge", table, settings, notes, report)
    status = np.where(once["score"].notna(), schema.OK, schema.UNPARSED)
    return Scores(schema.SCORES.check(once.assign(status=status)), unreadable, notes, report)


def _directions(table: TextTable) -> pd.Series:
    """Whether high scores mean good images, row by row; true where the column ``higher_is_better`` is absent or empty.

    Raises:
        T2IEvalError: a cell is neither true nor false, or the rows of one evaluator differ.
    """
    text = table.frame
    if "higher_is_better" not in text:
        return pd.Series(True, text.index)
    higher = text["higher_is_better"].str.lower().map(_TRUTH)
    unread = higher.isna().to_numpy()
    if unread.any():
        row = int(np.argmax(unread))
        raise T2IEvalError(
            f"{table.place(row)}: 'higher_is_better' is {text['higher_is_better'].iloc[row]!r:.60}; write true or false."
        )
    both = higher.groupby(text["evaluator"]).nunique() > 1
    if both.any():
        raise T2IEvalError(
            f"{table.name}: 'higher_is_better' is true in some rows of evaluator '{both.idxmax()}' and false in others; "
            "write one of them in all of its rows."
        )
    return higher.astype(bool)
