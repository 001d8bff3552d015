"""A CSV of prompts and images, and the CSV of scores that a judge makes of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.datasets.spreadsheets import escape_frame
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.comparisons import Comparisons
from t2i_eval_kedro.judging.verdicts import Verdicts


def read_prompts_and_images(path: Path) -> pd.DataFrame:
    """The rows of a CSV with the columns ``prompt`` and ``image``, every cell as text, all columns kept.

    Raises:
        T2IEvalError: there is no such file, it is not a CSV in UTF-8, a row has more cells than the header, or a column is missing.
    """
    if not path.is_file():
        raise T2IEvalError(f"There is no file '{path}'; give a CSV with the columns prompt and image.")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise T2IEvalError(f"'{path}' is not a CSV in UTF-8 ({error}).") from error
    names = [str(name).strip() for name in rows.iloc[0]]
    rows = rows.iloc[1:].reset_index(drop=True)
    rows.columns = pd.Index(names)
    absent = [name for name in ("prompt", "image") if name not in names]
    if absent:
        raise T2IEvalError(f"'{path}' does not have the column '{absent[0]}'; its columns are {', '.join(names)}.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise T2IEvalError(f"'{path}' has two columns '{repeated[0]}'; keep one of each.")
    return rows


def check_output(out: Path, inputs: Iterable[Path]) -> None:
    """Check, before anything is judged, that ``out`` can be written and is none of ``inputs``.

    Raises:
        T2IEvalError: it is an input, a folder, or in a folder that cannot be written to.
    """
    if any(out.resolve() == path.resolve() for path in inputs):
        raise T2IEvalError(f"'{out}' is an input; write the scores to another file (--out).")
    if out.is_dir():
        raise T2IEvalError(f"'{out}' is a folder; give the name of a file in it (--out).")
    folder = next(parent for parent in out.resolve().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise T2IEvalError(
            f"'{out}' cannot be written: there is no write access to '{folder}'; choose another file (--out)."
        )


def write_scores(verdicts: Verdicts | Comparisons, out: Path) -> pd.DataFrame:
    """Write the rows of ``verdicts`` to the CSV ``out``, text that a spreadsheet would run escaped; returns the rows."""
    frame = verdicts.frame()
    with atomic_file(out) as temporary:
        escape_frame(frame).to_csv(temporary, index=False, float_format="%.6g")
    return frame
