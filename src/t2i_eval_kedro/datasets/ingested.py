"""Kedro dataset of all benchmarks that were ingested, each a folder of canonical tables and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from t2i_eval_kedro.datasets.canonical import CanonicalTable, acting_on_faults
from t2i_eval_kedro.datasets.image_store import ImageStore, ImageStoreDataset
from t2i_eval_kedro.errors import T2IEvalError


class IngestedBenchmarks:
    """The benchmarks of a folder, read when they are asked for.

    Args:
        folder: holds one folder a benchmark, as ``ingestion`` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Names of the benchmarks, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("*/items.parquet"))

    def table(self, benchmark: str, table: str) -> pd.DataFrame:
        """The canonical table ``table`` of ``benchmark``, checked.

        Raises:
            T2IEvalError: the benchmark was not ingested, or its file breaks the schema.
        """
        return CanonicalTable(filepath=str(self._folder(benchmark) / f"{table}.parquet"), table=table).load()

    def images(self, benchmark: str) -> ImageStore:
        """The images of ``benchmark``.

        Raises:
            T2IEvalError: the benchmark was not ingested.
        """
        return ImageStoreDataset(filepath=str(self._folder(benchmark) / "images")).load()

    def _folder(self, benchmark: str) -> Path:
        if benchmark not in self.names():
            there = ", ".join(self.names()) or "none"
            raise T2IEvalError(
                f"There is no ingested benchmark '{benchmark}' in {self.folder} (there are: {there}); run "
                f"`kedro run --pipelines=ingestion --params=benchmark={benchmark}` first."
            )
        return self.folder / benchmark


class IngestedBenchmarksDataset(AbstractDataset[None, IngestedBenchmarks]):
    """:class:`IngestedBenchmarks` as a Kedro dataset, read only."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder.

        Args:
            filepath: the folder of all benchmarks.
            metadata: ignored here; plugins read it.
        """
        self._path = Path(filepath)
        self.metadata = metadata

    @acting_on_faults()
    def load(self) -> IngestedBenchmarks:
        """The benchmarks; none is read yet."""
        return IngestedBenchmarks(self._path)

    def save(self, data: None) -> None:
        """Refuse to."""
        raise DatasetError("Benchmarks are written by the pipeline ingestion.")

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
