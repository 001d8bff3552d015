"""A CSV of prompts and images, and the CSV of scores that a judge makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from t2i_eval_kedro.datasets.atomic import atomic_file, require_writable
from t2i_eval_kedro.datasets.spreadsheets import escape_frame
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.comparisons import Comparisons
from t2i_eval_kedro.judging.verdicts import Verdicts
from t2i_eval_kedro.tables import read_text_table
from t2i_eval_kedro.tables.values import plain_line_breaks


def read_prompts_and_images(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a CSV with the columns ``prompt`` and ``image``, every cell as text, all columns kept; and what was noted.

    Encoding and separator are found, blanks at the ends of cells are left out, line breaks of Windows in prompts become plain ones. A row
    with more or fewer cells than the header is excluded: which of its cells is the image is not known.

    Raises:
        T2IEvalError: there is no such file, it is not readable as a CSV, a column is missing or there twice, or no row is left.
    """
    table = read_text_table(path, "prompts and images", ("prompt", "image"), every_column=True, max_unreadable=1.0)
    rows, notes = table.frame, table.notes
    if not len(rows):
        raise T2IEvalError(" ".join([*notes, f"{table.name} contains no row with a prompt and an image."]))
    plain = rows["prompt"].map(plain_line_breaks)
    if changed := int((plain != rows["prompt"]).sum()):
        notes.append(
            f"{table.name}: {changed} prompts have line breaks of Windows (CR); they are read as plain ones (LF)."
        )
    return rows.assign(prompt=plain), notes


def check_output(out: Path, inputs: Iterable[Path]) -> None:
    """Check, before anything is judged, that ``out`` can be written and is none of ``inputs``.

    Raises:
        T2IEvalError: it is an input, a folder, or in a folder that cannot be written to.
    """
    if any(out.resolve() == path.resolve() for path in inputs):
        raise T2IEvalError(f"'{out}' is an input; write the scores to another file (--out).")
    if out.is_dir():
        raise T2IEvalError(f"'{out}' is a folder; give the name of a file in it (--out).")
    require_writable(out)


def write_scores(verdicts: Verdicts | Comparisons, out: Path) -> pd.DataFrame:
    """Write the rows of ``verdicts`` to the CSV ``out``, text that a spreadsheet would run escaped; returns the rows."""
    frame = verdicts.frame()
    with atomic_file(out) as temporary:
        escape_frame(frame).to_csv(temporary, index=False, float_format="%.6g")
    return frame
