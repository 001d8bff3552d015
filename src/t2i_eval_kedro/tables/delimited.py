"""Delimited text (CSV) as people have it: encoding and separator are detected and said, rows that do not fit are counted."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from t2i_eval_kedro.datasets.spreadsheets import unescape_cell
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.tables.settings import TableMapping

Source = Path | str | pd.DataFrame
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_EXCEL_HINT = re.compile(rb"^sep=(.)\r?\n", re.IGNORECASE)
_BLANKS = " \t\r\n\f\v\u00a0\u2007\u202f\ufeff\u200b"


@dataclass(frozen=True)
class TextTable:
    """A table of text as it was read.

    Attributes:
        name: what messages call it.
        frame: every cell as text without blanks at its ends; an empty cell is the empty string.
        lines: line of each row in its file; position from 1 where it is a data frame or cells hold line breaks.
        notes: what was detected, interpreted or left out.
        columns: our name -> the name in the file, where they differ.
        first_lines: name of a count of rows -> the line of the first of them.
    """

    name: str
    frame: pd.DataFrame
    lines: np.ndarray[tuple[int], np.dtype[np.int64]]
    notes: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    first_lines: dict[str, int] = field(default_factory=dict)

    def place(self, row: int) -> str:
        """Where row number ``row`` (from 0) stands, for messages."""
        return f"{self.name}, line {self.lines[row]}"

    def count(self, name: str, rows: pd.DataFrame) -> int:
        """The number of ``rows``, which keep the index of ``frame``; the line of the first is kept under ``name``."""
        if len(rows):
            self.first_lines[name] = int(self.lines[rows.index[0]])
        return len(rows)


def read_text_table(
    source: Source,
    kind: str,
    required: Sequence[str],
    optional: Collection[str] = (),
    mapping: TableMapping | None = None,
    max_unreadable: float = 0.05,
    every_column: bool = False,
) -> TextTable:
    """The columns ``required`` and those of ``optional`` that are there, as text.

    Args:
        source: CSV file, or data frame.
        kind: what the table holds, for messages ("ratings").
        required: columns that must be there; one that ``mapping`` maps to null is not read.
        optional: columns that may be there.
        mapping: other names of columns, and columns that are to be made into rows.
        every_column: keep all other columns too.
        max_unreadable: fraction of rows with too few or too many cells from which reading stops.

    Raises:
        T2IEvalError: the file cannot be read, a column is absent or there twice, or too many rows do not fit the header.
    """
    mapping = mapping or TableMapping()
    theirs = {ours: mapping.columns.get(ours, ours) for ours in (*required, *optional)}
    needed = [name for ours, name in theirs.items() if ours in required and name is not None]
    if isinstance(source, pd.DataFrame):
        name = f"the data frame of {kind}"
        notes: list[str] = []
        frame = source.rename(columns=str).reset_index(drop=True)
        frame = frame.apply(lambda column: column.map(lambda cell: "" if pd.isna(cell) else str(cell)))
        lines = np.arange(1, len(frame) + 1)
    else:
        path = Path(source)
        name = f"'{path}'"
        frame, lines, notes = _read_file(path, name, needed, max_unreadable)
    header = [column.strip(_BLANKS) for column in frame.columns]
    twice = sorted(
        {
            column
            for column in header
            if header.count(column) > 1 and (column in (*theirs.values(), *mapping.wide) or (every_column and column))
        }
    )
    if twice:
        raise T2IEvalError(f"{name} has two columns of the same name ('{twice[0]}'); keep one of each.")
    absent = [column for column in (*needed, *mapping.wide) if column not in header]
    if absent:
        raise T2IEvalError(
            f"{name} does not have the column {', '.join(absent)}; it needs {', '.join(needed)} and has "
            f"{', '.join(header[:20]) or 'none'}. `t2i-eval check` writes a mapping of other names."
        )
    again = np.ones(len(frame), dtype=bool)
    for place, column in enumerate(header):
        again &= (frame.iloc[:, place].astype("str").str.strip(_BLANKS) == column).to_numpy()
    if len(header) > 1 and again.any():
        notes.append(
            f"{name}: {int(again.sum())} rows repeat the header, the first in line {lines[int(np.argmax(again))]}; they are excluded."
        )
        frame, lines = frame[~again].reset_index(drop=True), lines[~again]
    kept = {ours: column for ours, column in theirs.items() if column in header}
    kept |= {column: column for column in mapping.wide}
    if every_column:
        kept |= {column: column for column in header if column and column not in kept.values()}
    cells: dict[str, pd.Series] = {}
    for ours, column in kept.items():
        text = frame.iloc[:, header.index(column)].astype("str")
        stripped = text.str.strip(_BLANKS)
        trimmed = int((stripped != text).sum())
        quoted = stripped.str.startswith("'")  # our own files escape what a spreadsheet would run
        cells[ours] = stripped.where(~quoted, stripped[quoted].map(unescape_cell)) if quoted.any() else stripped
        if trimmed:
            notes.append(f"{name}: {trimmed} cells of '{column}' have blanks at their ends; they are read without.")
    names = {ours: str(column) for ours, column in kept.items() if ours != column}
    return TextTable(name, pd.DataFrame(cells), lines, notes, names)


def _read_file(
    path: Path, name: str, needed: Sequence[str], max_unreadable: float
) -> tuple[pd.DataFrame, np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'; give a CSV file with {', '.join(needed)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise T2IEvalError(f"{name} cannot be read ({error.strerror}).") from error
    data, notes = _utf8(data, name)
    hint = _EXCEL_HINT.match(data)
    first = 1
    if hint:
        data, first = data[hint.end() :], 2
    content = data.lstrip(b"\r\n")  # arrow would guess the types of columns that stand below an empty line
    first += len(data[: len(data) - len(content)].splitlines())
    data = content
    if b"\0" in data:
        raise T2IEvalError(f"{name} is not a readable CSV: it holds NUL bytes; save it as CSV in UTF-8.")
    separator = hint[1].decode() if hint else _separator(data, needed)
    if separator != ",":
        notes.append(f"{name} is separated by {SEPARATORS.get(separator, repr(separator))}s.")
    odd: list[tuple[int, int, int]] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        odd.append((row.number or 0, row.actual_columns, row.expected_columns))
        return "skip"

    if data and not data.endswith((b"\n", b"\r")):
        notes.append(f"{name} does not end with a line break; if it was cut off, its last cell is too.")
    breaks = data.count(b'"') > 0
    try:
        reading = pa.csv.ReadOptions(use_threads=False, block_size=1 << 24)
        parsing = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=breaks, invalid_row_handler=skip)
        header = next(
            csv.reader(io.StringIO(data[: 1 << 20].decode("utf-8", "ignore"), newline=""), delimiter=separator), []
        )
        converting = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
        table = pa.csv.read_csv(pa.BufferReader(data), reading, parsing, converting)
    except (pa.ArrowInvalid, csv.Error) as error:
        raise T2IEvalError(f"{name} is not a readable CSV ({' '.join(str(error).split())[:200]}).") from error
    if odd:
        total = table.num_rows + len(odd)
        line, actual, expected = odd[0]
        detail = f"{len(odd)} of {total} rows of {name} do not have the {expected} cells of the header, the first is row {line + first - 1} with {actual}"
        if len(odd) > max_unreadable * total:
            raise T2IEvalError(f"{detail}; quote cells that contain the separator, or repair the rows.")
        notes.append(f"{detail}; they are excluded.")
    columns = [column.to_pandas() for column in table.columns]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    frame.columns = pd.Index(table.column_names)
    skipped = np.array(sorted(number for number, *_ in odd), dtype=np.int64)
    rows = np.arange(2, len(frame) + 2 + len(skipped))
    lines = np.setdiff1d(rows, skipped)[: len(frame)] + first - 1
    return frame, lines, notes


def _utf8(data: bytes, name: str) -> tuple[bytes, list[str]]:
    """``data`` in UTF-8 without a byte order mark, and a note where it was in something else."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            try:
                text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
            except UnicodeDecodeError as error:
                raise T2IEvalError(f"{name} is not a readable CSV in {encoding} ({error.reason}).") from error
            return text.encode(), [] if encoding == "utf-8" else [f"{name} is in {encoding}."]
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise T2IEvalError(
                f"{name} is not a readable CSV in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8."
            ) from error
        return text.encode(), [f"{name} is not in UTF-8 (byte {error.start}); it is read as Windows-1252."]
    return data, []


def _separator(data: bytes, needed: Sequence[str]) -> str:
    """The separator under which the header has most of the ``needed`` columns, then most columns."""
    line = data.split(b"\n", 1)[0].decode("utf-8", "ignore").rstrip("\r")

    def fit(separator: str) -> tuple[int, int]:
        try:
            cells = [cell.strip(_BLANKS) for cell in next(csv.reader([line], delimiter=separator), [])]
        except csv.Error:
            return 0, 0
        return sum(column in cells for column in needed), len(cells)

    return max(SEPARATORS, key=fit)
