"""Kedro datasets of plain files that are written whole or not at all: text, and small tables for people as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.datasets.canonical import missing_file


class TextFile(AbstractDataset[str, str]):
    """A UTF-8 text file."""

    def __init__(self, *, filepath: str, made_by: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Take the file and the pipeline that makes it."""
        self._path = Path(filepath)
        self._made_by = made_by
        self.metadata = metadata

    def load(self) -> str:
        """The text.

        Raises:
            T2IEvalError: the file is not there.
        """
        if not self._path.is_file():
            raise missing_file(self._path, self._made_by)
        return self._path.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the text."""
        with atomic_file(self._path) as temporary:
            temporary.write_text(data, encoding="utf-8")

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


class CsvFile(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """A table with a header line and no index, such as a training curve."""

    def __init__(
        self,
        *,
        filepath: str,
        optional: bool = False,
        made_by: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the file; an optional one that is not there loads as a table without rows and columns."""
        self._path = Path(filepath)
        self._optional = optional
        self._made_by = made_by
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The table.

        Raises:
            T2IEvalError: the file is not there and not optional.
        """
        if not self._path.is_file():
            if self._optional:
                return pd.DataFrame()
            raise missing_file(self._path, self._made_by)
        # pandas otherwise rounds floats and reads the bin named "N/A" as a null.
        return pd.read_csv(self._path, float_precision="round_trip", keep_default_na=False, na_values=[""])

    def save(self, data: pd.DataFrame) -> None:
        """Write the table."""
        with atomic_file(self._path) as temporary:
            data.to_csv(temporary, index=False)

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "optional": self._optional}
