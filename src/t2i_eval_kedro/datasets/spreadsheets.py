"""Cells that a spreadsheet program would run as a formula (CSV injection, OWASP), made harmless and read back."""

from __future__ import annotations

import re

import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n]")


def escape_cell(cell: object) -> object:
    """``cell``, with an apostrophe before it where it is a text that a spreadsheet would run; a number stays as it is.

    Example:
        >>> escape_cell("=1+1"), escape_cell("-0.5"), escape_cell("a cat")
        ("'=1+1", '-0.5', 'a cat')
    """
    if not isinstance(cell, str) or not _FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def unescape_cell(cell: str) -> str:
    """The text that :func:`escape_cell` was given.

    Example:
        >>> unescape_cell("'=1+1"), unescape_cell("'tis a cat")
        ('=1+1', "'tis a cat")
    """
    return cell[1:] if _ESCAPED.match(cell) else cell


def escape_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with every cell and column name escaped; see :func:`escape_cell`."""
    return frame.map(escape_cell).rename(columns=lambda name: escape_cell(str(name)))
