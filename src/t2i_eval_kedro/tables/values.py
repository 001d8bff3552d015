"""From cells to numbers: one convention per column, said where it is not the plain one; a cell that does not fit is unreadable."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.delimited import TextTable

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "missing", "-", "."})
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_PERCENT = re.compile(r"([+-]?[\d.,]+)\s*%")


@dataclass(frozen=True)
class Numbers:
    """Numbers of one column.

    Attributes:
        values: finite numbers, NaN where there is none.
        unreadable: cells that hold something and no number.
        n_missing: cells that are empty or say that there is no value ("NA", "null").
        notes: conventions that were recognised.
    """

    values: npt.NDArray[np.float64]
    unreadable: npt.NDArray[np.bool_]
    n_missing: int
    notes: tuple[str, ...] = ()


def parse_numbers(cells: pd.Series, name: str = "", decimal: str | None = None) -> Numbers:
    """Read ``cells`` as numbers.

    Decimal commas, commas between thousands and per cent signs are read where all cells of the column that are not plain numbers follow
    one of them and no plain number contradicts it. "1,234" alone in a column may be either and is unreadable unless ``decimal`` is given.
    A per cent sign is dropped: 85% is 85.

    Args:
        cells: text without blanks at its ends.
        name: name of the column, for the notes.
        decimal: the decimal sign, "." or ",", where it is known.
    """
    codes, cell_values = pd.factorize(cells)
    unique = pd.Series(cell_values.astype("str"), dtype="object")
    values = np.array([_plain(text) for text in unique], dtype=np.float64)
    missing = np.array([text.casefold() in MISSING_WORDS for text in unique], dtype=bool)
    open_ = np.flatnonzero(~np.isfinite(values) & ~missing)
    notes: list[str] = []
    if len(open_):
        plain = [text for text, value in zip(unique, values, strict=True) if np.isfinite(value)]
        read, note = _convention([unique[i] for i in open_], plain, decimal)
        if read is not None:
            values[open_] = read
            counts = np.bincount(codes, minlength=len(unique))
            notes.append(f"{int(counts[open_].sum())} cells of '{name}' are written with {note}.")
    if decimal == ",":  # a full stop can only stand between thousands then
        for i, text in enumerate(unique):
            if "." in text and "," not in text and np.isfinite(values[i]):
                values[i] = np.nan
    at = values[codes]
    is_missing = missing[codes]
    finite = np.isfinite(at)
    return Numbers(np.where(finite, at, np.nan), ~finite & ~is_missing, int(is_missing.sum()), tuple(notes))


def plain_line_breaks(text: str) -> str:
    """``text`` with LF in place of CR LF and CR: a model reads the same prompt, whichever system wrote it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _plain(text: str) -> float:
    """A number as programs write it; NaN for anything else (``float`` itself reads "1_0", "infinity" and other digits)."""
    if not text.isascii() or "_" in text:
        return np.nan
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def _convention(texts: list[str], plain: list[str], decimal: str | None) -> tuple[npt.NDArray[np.float64] | None, str]:
    """The numbers of ``texts`` under the one convention that all of them follow, and its name."""
    percent = [_PERCENT.fullmatch(text) for text in texts]
    if all(percent):
        if plain:
            return None, ""  # some cells with the sign and some without are on two scales
        bare = parse_numbers(pd.Series([match[1] for match in percent if match], dtype="str"), decimal=decimal)
        return (None, "") if bare.unreadable.any() else (bare.values, "a per cent sign")
    with_point = any("." in text for text in plain)
    comma = all(_DECIMAL_COMMA.fullmatch(text) for text in texts)
    thousands = all(_THOUSANDS.fullmatch(text) for text in texts)
    if comma and decimal != "." and not with_point and (decimal == "," or not thousands):
        return np.array([float(text.replace(".", "").replace(",", ".")) for text in texts]), "a decimal comma"
    certain = with_point or any("." in text or text.count(",") > 1 for text in texts) or decimal == "."
    if thousands and decimal != "," and certain:
        return np.array([float(text.replace(",", "")) for text in texts]), "commas between thousands"
    return None, ""


def note_excluded(table: TextTable, column: str, bad: npt.NDArray[np.bool_], what: str) -> list[str]:
    """A sentence that counts the rows which are ``bad`` and quotes the first; none where there is none.

    Args:
        table: what the rows are of.
        column: where the odd cells stand.
        bad: ``(n_rows,)``.
        what: the rows in the plural, and what is wrong with them ("ratings are off the scale").
    """
    if not bad.any():
        return []
    first = int(np.argmax(bad))
    cell = table.frame[column].iloc[first]
    return [
        f"{table.name}: {int(bad.sum())} of the {what}, the first in line {table.lines[first]}: '{column}' is {cell!r:.60}; left out."
    ]


def refuse_unreadable(
    table: TextTable,
    column: str,
    bad: npt.NDArray[np.bool_],
    present: npt.NDArray[np.bool_],
    limit: float,
    what: str,
    way_out: str,
) -> None:
    """Stop where more than ``limit`` of the cells that are ``present`` are ``bad``; absent rows and empty cells do not count.

    Raises:
        T2IEvalError: the sentence quotes the first such cell and its line.
    """
    n, total = int(bad.sum()), int(present.sum())
    if n > limit * total:
        first = int(np.argmax(bad))
        raise T2IEvalError(
            f"{n} of {total} {what} cannot be used, the first in {table.place(first)}: '{column}' is "
            f"{table.frame[column].iloc[first]!r:.60}; {way_out}, or raise --max-unreadable above {n / total:.3f}."
        )
