"""Kedro datasets of the canonical tables (Parquet) and of JSON documents, both written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from kedro.io import AbstractDataset, DatasetError

from t2i_eval_kedro import schema
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError


class DataFault(T2IEvalError, DatasetError):
    """A fault that a person can act on, in a form that Kedro passes on as it is (it wraps every other error)."""


@contextmanager
def acting_on_faults() -> Iterator[None]:
    """Let a :class:`~t2i_eval_kedro.errors.T2IEvalError` of a dataset through Kedro with its sentence alone."""
    try:
        yield
    except DataFault:
        raise
    except T2IEvalError as error:
        raise DataFault(str(error)) from error


def missing_file(path: Path, made_by: str | None) -> T2IEvalError:
    """The error for a needed ``path`` that is not there, naming the pipeline that makes it where it is known."""
    way_out = f"run `kedro run --pipelines={made_by}` first" if made_by else "run the pipeline that makes it first"
    return T2IEvalError(f"{path} is not there; {way_out}.")


class CanonicalTable(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """One canonical table as a Parquet file, checked against its schema on load and on save.

    Example catalog entry::

        items:
          type: t2i_eval_kedro.datasets.canonical.CanonicalTable
          filepath: data/02_intermediate/shapes/items.parquet
          table: items
          made_by: ingestion
    """

    def __init__(
        self,
        *,
        filepath: str,
        table: str,
        optional: bool = False,
        made_by: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the table.

        Args:
            filepath: Parquet file.
            table: name of the table in :data:`t2i_eval_kedro.schema.TABLES`.
            optional: a file that is not there loads as the empty table.
            made_by: pipeline that makes the file, named in the error when it is not there.
            metadata: ignored here; plugins read it.

        Raises:
            T2IEvalError: there is no such table.
        """
        if table not in schema.TABLES:
            raise T2IEvalError(f"There is no canonical table '{table}'; the tables are {', '.join(schema.TABLES)}.")
        self._path = Path(filepath)
        self._table = schema.TABLES[table]
        self._optional = optional
        self._made_by = made_by
        self.metadata = metadata

    @acting_on_faults()
    def load(self) -> pd.DataFrame:
        """The checked table.

        Raises:
            T2IEvalError: the file is not there and not optional, is not a Parquet file, or breaks the schema.
        """
        if not self._path.is_file():
            if self._optional:
                return self._table.empty()
            raise missing_file(self._path, self._made_by)
        try:
            frame = pd.read_parquet(self._path)
        except pa.ArrowInvalid as error:
            raise T2IEvalError(
                f"{self._path} is not a readable Parquet file ({error}); delete it and make it again."
            ) from error
        return self._table.check(frame)

    @acting_on_faults()
    def save(self, data: pd.DataFrame) -> None:
        """Check ``data`` and write it.

        Raises:
            T2IEvalError: ``data`` breaks the schema; the file stays as it was.
        """
        checked = self._table.check(data)
        with atomic_file(self._path) as temporary:
            checked.to_parquet(temporary, index=False)

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "table": self._table.name, "optional": self._optional}


class JSONFile(AbstractDataset[Any, Any]):
    """A JSON document (UTF-8, one space of indent, keys in the order given, no NaN), written atomically."""

    def __init__(
        self,
        *,
        filepath: str,
        optional: bool = False,
        made_by: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the document; see :class:`CanonicalTable`. An optional file that is not there loads as ``{}``."""
        self._path = Path(filepath)
        self._optional = optional
        self._made_by = made_by
        self.metadata = metadata

    @acting_on_faults()
    def load(self) -> Any:
        """The document.

        Raises:
            T2IEvalError: the file is not there and not optional, or is not JSON.
        """
        if not self._path.is_file():
            if self._optional:
                return {}
            raise missing_file(self._path, self._made_by)
        try:
            return json.loads(self._path.read_bytes())
        except ValueError as error:
            raise T2IEvalError(f"{self._path} is not readable JSON ({error}); delete it and make it again.") from error

    @acting_on_faults()
    def save(self, data: Any) -> None:
        """Write ``data``.

        Raises:
            T2IEvalError: ``data`` holds NaN, an infinite number or something JSON cannot hold; the file stays as it
                was.
        """
        try:
            text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise T2IEvalError(
                f"What should go to {self._path} is not JSON ({error}); use null for a value that is not there."
            ) from error
        with atomic_file(self._path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def _exists(self) -> bool:
        return self._path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "optional": self._optional}
