"""Reading the raw files of a benchmark: nothing outside their folder, nothing that is not what it says it is.

What is wrong with a part of a file becomes a row of the table of data issues and the rest goes on; what is wrong with a file
as a whole is a :class:`~t2i_eval_kedro.errors.T2IEvalError` that names it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from t2i_eval_kedro.errors import T2IEvalError

ISSUE_COLUMNS = ("kind", "where", "detail", "action", "count")

MAX_FILE_BYTES = 1 << 30
MAX_JSON_ENTRIES = 10_000_000
MAX_PATH, MAX_PART = 1024, 255  # characters of a path, bytes of one name in it: what every file system takes

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass
class DataIssues:
    """What is wrong with the raw files, in the order in which it was found."""

    rows: list[tuple[str, str, str, str, int]] = field(default_factory=list)

    def add(self, kind: str, where: object, detail: str, action: str, count: int = 1) -> None:
        """Record one issue.

        Args:
            kind: sort of issue, one short word or two joined by ``_``.
            where: the file, row, item or rater.
            detail: what was found there.
            action: what was done about it.
            count: how many rows, items or answers this one line stands for.
        """
        self.rows.append((kind, str(where), detail, action, count))

    def frame(self) -> pd.DataFrame:
        """The issues as a table with the columns ``kind``, ``where``, ``detail``, ``action``, ``count``."""
        frame = pd.DataFrame(self.rows, columns=list(ISSUE_COLUMNS))
        return frame.astype({name: "int64" if name == "count" else "str" for name in ISSUE_COLUMNS})


def contained(root: Path, relative: str) -> Path:
    """The path of ``relative`` inside ``root``.

    Raises:
        ValueError: ``relative`` is empty, absolute, an address, has a drive letter, a backslash or a NUL, or leads
            out of ``root`` (by ``..`` or by a symbolic link).
    """
    if not relative or relative != relative.strip():
        raise ValueError("the path is empty or has blanks at its ends")
    if "\0" in relative:
        raise ValueError("the path contains a NUL")
    if "://" in relative or relative.lower().startswith("file:"):
        raise ValueError("an address in place of a path")
    if relative.startswith(("/", "~")) or "\\" in relative or _DRIVE.match(relative):
        raise ValueError("the path is absolute or not written with forward slashes")
    if len(relative) > MAX_PATH or any(len(part.encode(errors="replace")) > MAX_PART for part in relative.split("/")):
        raise ValueError("the path is too long")
    if ".." in relative.split("/"):
        raise ValueError("the path climbs out of the raw folder")
    path = root / relative
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise ValueError("the path cannot be resolved") from error
    if not inside:
        raise ValueError("a symbolic link leads out of the raw folder")
    return path


def read_bytes(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The content of ``path``, unpacked where its name ends in ``.gz``.

    Raises:
        T2IEvalError: the file is not there, is damaged, or is (unpacked) larger than ``max_bytes``.
    """
    if not path.is_file():
        raise T2IEvalError(f"{path} is not there; put the benchmark's files where its authors' release has them.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, EOFError) as error:
        raise T2IEvalError(f"{path} cannot be read ({error}); fetch it again.") from error
    if len(data) > max_bytes:
        raise T2IEvalError(f"{path} contains more than {max_bytes:,} bytes; raise the limit if it is meant to.")
    return data


def read_text(path: Path) -> str:
    """The content of ``path`` as UTF-8 text, without a byte order mark.

    Raises:
        T2IEvalError: see :func:`read_bytes`; or the file is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise T2IEvalError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it to UTF-8."
        ) from error


def read_json(path: Path, issues: DataIssues, max_entries: int = MAX_JSON_ENTRIES) -> Any:
    """The JSON document at ``path``.

    A key that is duplicated in one object keeps its first value, NaN and infinite numbers become null, half of a surrogate
    pair becomes U+FFFD; all are noted.

    Raises:
        T2IEvalError: see :func:`read_text`; or the file is not JSON, too deeply nested, or may hold more than
            ``max_entries`` entries (its commas are counted, before anything is built).
    """
    text = read_text(path)
    if text.count(",") >= max_entries:
        raise T2IEvalError(
            f"{path} contains more than {max_entries:,} entries; split it or raise the limit if it is meant to."
        )

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                issues.add(
                    "duplicate_key", path.name, f"the key {key!r:.80} is duplicated in one object", "the first is used"
                )
            else:
                out[key] = value
        return out

    def no_number(name: str) -> None:
        issues.add("not_a_number", path.name, f"{name} is not a number in JSON", "read as null")

    try:
        document = json.loads(text, object_pairs_hook=unique, parse_constant=no_number)
        return _without_surrogates(document, path, issues) if _SURROGATE.search(text) else document
    except (ValueError, RecursionError) as error:
        raise T2IEvalError(f"{path} is not readable JSON ({error}); fetch it again.") from error


def _without_surrogates(value: Any, path: Path, issues: DataIssues) -> Any:
    """``value`` with every half of a surrogate pair, which is not a character, replaced by U+FFFD."""
    if isinstance(value, dict):
        return {
            _without_surrogates(key, path, issues): _without_surrogates(child, path, issues)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_without_surrogates(child, path, issues) for child in value]
    if isinstance(value, str) and not value.isascii():
        clean = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if clean != value:
            issues.add(
                "half_character", path.name, f"{clean!r:.80} contains half of a surrogate pair", "replaced by U+FFFD"
            )
        return clean
    return value


def records(
    document: Any, path: Path, required: Mapping[str, type], issues: DataIssues
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The entries of a JSON document that have what is ``required``; the others are noted as excluded.

    Args:
        document: an object (entries by key) or an array (entries by position).
        path: the file it was read from.
        required: names of fields and their types.
        issues: where entries that lack a field, or have one of another type, are noted.

    Yields:
        Where the entry stands, its key or position, and the entry.

    Raises:
        T2IEvalError: ``document`` is neither an object nor an array.
    """
    if not isinstance(document, dict | list):
        raise T2IEvalError(f"{path} contains neither a JSON object nor an array; fetch it again.")
    for key, row in document.items() if isinstance(document, dict) else enumerate(document):
        where = f"{path.name}: {key}"
        if not isinstance(row, dict):
            issues.add("malformed_entry", where, "not an object", "entry excluded")
            continue
        bad = [name for name, kind in required.items() if not isinstance(row.get(name), kind)]
        if bad:
            issues.add("malformed_entry", where, f"{', '.join(bad)} missing or of the wrong type", "entry excluded")
        else:
            yield where, str(key), row


def read_table(
    path: Path, columns: tuple[str, ...], issues: DataIssues, delimiter: str = ",", key: str | None = None
) -> list[dict[str, str]]:
    """The rows of the CSV file at ``path``, each with its line under ``"#"``.

    A row with too few or too many cells is excluded.

    Args:
        path: UTF-8, first row = names of the columns.
        columns: columns that must be there; others are kept.
        issues: where rows that are excluded are noted.
        delimiter: what separates cells.
        key: column that identifies a row; a row without it is excluded.

    Raises:
        T2IEvalError: see :func:`read_text`; or a column is missing, twice there, or the file is not CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    rows: list[dict[str, str]] = []
    try:
        header = next(reader, [])
        lacking = [name for name in columns if name not in header]
        if lacking or len(set(header)) != len(header):
            raise T2IEvalError(
                f"{path} must have the columns {', '.join(columns)}, each once; "
                f"it lacks {', '.join(lacking) or 'none'} and has {', '.join(header) or 'nothing'}."
            )
        for cells in reader:
            where = f"{path.name}:{reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                issues.add("cell_count", where, f"{len(cells)} cells where {len(header)} belong", "row excluded")
                continue
            row = dict(zip(header, cells, strict=True))
            if key is not None and not row[key].strip():
                issues.add("no_identifier", where, f"'{key}' is empty", "row excluded")
                continue
            rows.append({"#": where, **row})
    except csv.Error as error:
        raise T2IEvalError(
            f"{path} is not readable CSV (line {reader.line_num}: {error}); correct it or fetch it again."
        ) from error
    return rows
