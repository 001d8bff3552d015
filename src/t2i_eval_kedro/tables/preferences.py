"""Preferences between two images, of people and of judges: labels, order and repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.schema import is_among
from t2i_eval_kedro.tables.delimited import Source, TextTable, read_text_table
from t2i_eval_kedro.tables.identifiers import refuse_unjoined, repaired
from t2i_eval_kedro.tables.settings import ReadingSettings, TableMapping
from t2i_eval_kedro.tables.values import MISSING_WORDS, parse_numbers, refuse_unreadable

COLUMNS = ("prompt_id", "item_a", "item_b", "rater_id", "label")
STRENGTH = "strength"
JUDGE_COLUMNS = ("prompt_id", "item_a", "item_b", "evaluator", "label")
LABELS: Mapping[str, str] = {
    **dict.fromkeys(("a", "left", "first", "image a", "image_a", "item_a", "model_a", "a>b", "a > b", ">"), "a"),
    **dict.fromkeys(
        ("b", "right", "second", "image b", "image_b", "item_b", "model_b", "a<b", "a < b", "b>a", "<"), "b"
    ),
    **dict.fromkeys(("tie", "draw", "equal", "same", "both", "a=b", "=", "no preference"), "tie"),
}
FLIPPED = {"a": "b", "b": "a", "tie": "tie"}


@dataclass(frozen=True)
class Preferences:
    """Preferences as they are used: ``frame`` (canonical), ``notes`` and counts.

    ``first_lines``: name of a count -> the line of the first row that it counts.
    ``shown``: a judge's verdicts as it was asked: prompt_id, item_a (shown first), item_b, evaluator, label.
    """

    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    report: dict[str, int] = field(default_factory=dict)
    shown: pd.DataFrame | None = None
    first_lines: dict[str, int] = field(default_factory=dict)


def read_preferences(source: Source, settings: ReadingSettings, prompt_of: Mapping[str, str] | None) -> Preferences:
    """People's preferences in ``source``.

    Args:
        source: CSV file or data frame.
        settings: how it is read.
        prompt_of: prompt of each known item; None where the preferences themselves name the items.

    Raises:
        T2IEvalError: the table cannot be read, its labels cannot be understood, or nothing joins.
    """
    table, frame, notes, report = _read(source, settings, settings.preferences, COLUMNS, "preferences", prompt_of)
    nameless = frame["rater_id"] == ""
    if nameless.any():
        slot = _same_order(frame).groupby(["item_a", "item_b", "rater_id"]).cumcount()
        frame["rater_id"] = frame["rater_id"].where(~nameless, "anonymous " + (slot + 1).astype("str"))
        notes.append(f"{table.name}: {int(nameless.sum())} preferences name no rater; each counts as another person's.")
    if STRENGTH in frame:
        parsed = parse_numbers(frame[STRENGTH], STRENGTH, settings.decimal)
        notes += [f"{table.name}: {note}" for note in parsed.notes]
        report["unreadable_strengths"] = table.count("unreadable_strengths", frame[parsed.unreadable])
        if parsed.unreadable.any():
            first = frame[STRENGTH].iloc[int(np.argmax(parsed.unreadable))]
            notes.append(
                f"{table.name}: {report['unreadable_strengths']} cells of '{STRENGTH}' hold no number, the first is {first!r:.60}; "
                "these preferences have no strength."
            )
        frame[STRENGTH] = parsed.values
    frame = _one_a_pair(frame, "rater_id", table, settings, notes, report)
    checked = schema.PREFERENCES.check(frame.reindex(columns=[*COLUMNS, STRENGTH]))
    return Preferences(checked, notes, report, first_lines=table.first_lines)


def read_pairwise_scores(source: Source, settings: ReadingSettings, preferences: pd.DataFrame) -> Preferences:
    """Judges' own verdicts on pairs, turned into the order of the pairs in ``preferences``.

    A judge that was asked about a pair in both orders, and answered otherwise, has no verdict on it: null, counted.

    Raises:
        T2IEvalError: the table cannot be read, its labels cannot be understood, or no pair is one that people judged.
    """
    prompt_of = dict(zip(preferences["item_a"], preferences["prompt_id"], strict=True))
    prompt_of |= dict(zip(preferences["item_b"], preferences["prompt_id"], strict=True))
    table, frame, notes, report = _read(
        source, settings, settings.pairwise_scores, JUDGE_COLUMNS, "pairwise_scores", prompt_of
    )
    prompts = frame["item_a"].map(prompt_of)  # the judges' table may spell them otherwise
    frame["prompt_id"] = prompts.where(prompts != "", frame["prompt_id"])
    shown = frame[[*JUDGE_COLUMNS]].reset_index(drop=True)
    frame = _one_a_pair(frame, "evaluator", table, settings, notes, report)
    known = set(zip(preferences["item_a"], preferences["item_b"], strict=True))
    pairs = list(zip(frame["item_a"], frame["item_b"], strict=True))
    turned = np.array([pair not in known and pair[::-1] in known for pair in pairs], dtype=bool)
    frame = _turned(frame, turned)
    asked = np.array([pair in known or pair[::-1] in known for pair in pairs], dtype=bool)
    if not asked.any() and len(frame):
        raise T2IEvalError(
            f"None of the {len(frame)} pairs of {table.name} is one that people compared; check item_a and item_b."
        )
    report["pairwise_scores_of_other_pairs"] = int((~asked).sum())
    status = np.where(frame["label"].notna(), schema.OK, schema.UNPARSED)
    frame = frame.assign(judge=frame["evaluator"], protocol=None, run=0, margin=np.nan, status=status)
    frame = frame.assign(probability=np.nan, consistent=np.nan)[asked]
    made = schema.PREFERENCE_SCORES.check(frame[list(schema.PREFERENCE_SCORES.columns)])
    return Preferences(made, notes, report, shown)


def _turned(frame: pd.DataFrame, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pd.DataFrame:
    """``frame`` with the two images of ``rows`` exchanged, and the labels with them."""
    return frame.assign(
        item_a=frame["item_a"].where(~rows, frame["item_b"]),
        item_b=frame["item_b"].where(~rows, frame["item_a"]),
        label=frame["label"].where(~rows, frame["label"].map(FLIPPED)),
    )


def _same_order(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with the two images of each pair in one order, whichever was shown first."""
    return _turned(frame, (frame["item_a"] > frame["item_b"]).to_numpy())


def _read(
    source: Source,
    settings: ReadingSettings,
    mapping: TableMapping,
    columns: tuple[str, ...],
    kind: str,
    prompt_of: Mapping[str, str] | None,
) -> tuple[TextTable, pd.DataFrame, list[str], dict[str, int]]:
    """The rows of ``source`` with a label and two known, different items of one prompt."""
    absent = [name for name in ("prompt_id", "rater_id") if mapping.columns.get(name, name) is None]
    required = tuple(name for name in columns if name not in absent)
    optional = (STRENGTH,) if kind == "preferences" else ()
    table = read_text_table(source, kind.replace("_", " "), required, optional, mapping, settings.max_unreadable)
    notes, report = list(table.notes), {}
    text = table.frame
    for side in ("item_a", "item_b"):
        text[side] = repaired(text[side], settings.id_rules, table.name)
    if "rater_id" in absent:
        text["rater_id"] = ""
    if "prompt_id" in absent:
        text["prompt_id"] = text["item_a"].map(dict(prompt_of or {})).fillna("")
    label, unread, empty = _labels(table, settings)
    present = ~empty
    refuse_unreadable(
        table,
        "label",
        unread & present,
        present,
        settings.max_unreadable,
        kind.replace("_", " "),
        "name them with --label TEXT=a, b or tie",
    )
    report[f"missing_{kind}"] = table.count(f"missing_{kind}", text[empty])
    rows = kind.replace("_", " ")

    def exclude(name: str, what: str, among: pd.DataFrame, bad: npt.NDArray[np.bool_], columns: Sequence[str]) -> None:
        """Count the rows of ``among`` that are ``bad``, and quote the first."""
        report[name] = table.count(name, among[bad])
        if report[name]:
            row = int(among.index[int(np.argmax(bad))])
            cells = ", ".join(f"'{column}' is {text.at[row, column]!r:.60}" for column in columns)
            notes.append(
                f"{report[name]} of the {rows} are excluded ({what}), the first in {table.place(row)}: {cells}."
            )

    sides = ("item_a", "item_b")
    exclude(f"unreadable_{kind}", "with an unreadable label", text, unread & present, ("label",))
    kept = text.assign(label=label)[present & ~unread]
    if prompt_of is not None and len(kept):
        items = pd.Series(list(prompt_of), dtype="str")
        both = pd.concat([kept["item_a"], kept["item_b"]])
        refuse_unjoined(items, both, "items", "item_id", "the ratings", table.name)
        known = is_among(kept["item_a"], items) & is_among(kept["item_b"], items)
        exclude(f"{kind}_of_unknown_items", "of unknown items", kept, ~known, sides)
        kept = kept[known]
        prompts = [kept[side].map(dict(prompt_of)) for side in sides]
        across = (prompts[0] != prompts[1]) & (kept["item_a"] != kept["item_b"])
        exclude(f"{kind}_across_prompts", "between images of two prompts", kept, across.to_numpy(), sides)
        kept = kept[~across]
    themselves = kept["item_a"] == kept["item_b"]
    exclude(f"{kind}_of_an_item_with_itself", "of an item with itself", kept, themselves.to_numpy(), sides)
    kept = kept[~themselves]
    if not len(kept) and len(text):
        counted = ", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in report.items() if n)
        raise T2IEvalError(f"None of the {len(text)} rows of {table.name} can be used ({counted}).")
    return table, kept, notes, report


def _labels(
    table: TextTable, settings: ReadingSettings
) -> tuple[pd.Series, np.ndarray[tuple[int], np.dtype[np.bool_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The labels as a, b or tie; which cannot be read; which are empty."""
    cells = table.frame["label"]
    plain = cells.str.casefold()
    given = {text.casefold(): label for text, label in settings.labels.items()}
    empty = plain.isin(sorted(MISSING_WORDS)).to_numpy()
    numeric = sorted({text for text in plain[~empty].unique() if _number(text) is not None and text not in given})
    vocabulary = dict(LABELS) | given
    if numeric:
        values = {_number(text) for text in numeric}
        if values <= {1.0, 2.0} and not set(plain.unique()) & set(LABELS):
            vocabulary |= {text: "a" if _number(text) == 1 else "b" for text in numeric}
            table.notes.append(f"{table.name}: label 1 is read as the first image (a), 2 as the second (b).")
        else:
            raise T2IEvalError(
                f"The labels {', '.join(numeric[:5])} of {table.name} do not say which image they prefer; say what they mean with "
                + " ".join(f"--label {text}={label}" for text, label in zip(numeric, ("a", "b", "tie"), strict=False))
                + " (a: item_a is preferred, b: item_b, tie), as it applies."
            )
    label = plain.map(vocabulary)
    used = sorted(
        {text for text in plain.unique() if text in vocabulary and text not in ("a", "b", "tie")} - set(numeric)
    )
    if used:
        table.notes.append(
            f"{table.name}: labels are read as " + ", ".join(f"{text!r} = {vocabulary[text]}" for text in used) + "."
        )
    return label, label.isna().to_numpy(), empty


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _one_a_pair(
    frame: pd.DataFrame, who: str, table: TextTable, settings: ReadingSettings, notes: list[str], report: dict[str, int]
) -> pd.DataFrame:
    """One row per pair and person, whatever the order of the pair; contradictions are excluded and counted.

    A judge that answers otherwise in the other order contradicts itself because of the position: its label is null, and it is counted
    apart (:func:`~t2i_eval_kedro.agreement.label_agreement.position_bias`).

    Raises:
        T2IEvalError: more pairs contradict themselves than may be unreadable.
    """
    kind = "preferences" if who == "rater_id" else "pairwise_scores"
    same_order = _same_order(frame)
    backwards = (same_order["item_a"] != frame["item_a"]).to_numpy()
    key = ["item_a", "item_b", who]
    repeated = same_order.duplicated([*key, "label"])
    once = same_order[~repeated].assign(backwards=backwards[~repeated])
    conflict = once.duplicated(key, keep=False)
    undecided = pd.Series(False, once.index)
    if who == "evaluator":
        undecided = conflict & ~once.duplicated([*key, "backwards"], keep=False)
        # A third verdict may contradict another of its own order; then the pair is a plain contradiction.
        plain = once[conflict & ~undecided].set_index(key).index
        undecided &= ~pd.MultiIndex.from_frame(once[key]).isin(plain)
        conflict &= ~undecided
        n = int((undecided & ~once.duplicated(key)).sum())
        report["pairs_decided_by_position"] = n
        if n:
            notes.append(
                f"{table.name}: on {n} pairs a judge prefers another image when the order is exchanged; it has no verdict on them."
            )
    cases = once[conflict].drop_duplicates(key)
    report[f"repeated_{kind}"] = int(repeated.sum())
    report[f"contradicting_{kind}"] = table.count(f"contradicting_{kind}", cases)
    if len(cases) > settings.max_unreadable * len(once.drop_duplicates(key)):
        first = cases.iloc[0]
        raise T2IEvalError(
            f"{len(cases)} pairs of {table.name} have two different labels of one {who.replace('_id', '')}, the first "
            f"'{first['item_a']}' and '{first['item_b']}' by '{first[who]}'; keep one of each, or raise --max-unreadable."
        )
    if len(cases):
        notes.append(
            f"{table.name}: {len(cases)} pairs with two different labels of one {who.replace('_id', '')} are excluded."
        )
    kept = once.index[~conflict & ~(undecided & once.duplicated(key))]
    out = frame.loc[kept]
    return out.assign(label=out["label"].where(~undecided[kept])).reset_index(drop=True)
