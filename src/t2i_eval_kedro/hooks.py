"""Kedro hooks: a benchmark that there is not is refused before anything runs, and the one secret of the project enters here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from pydantic import SecretStr


class KnownBenchmark:
    """Refuses a run on a benchmark that has no reader, no folder of raw files, and was not ingested."""

    @hook_impl
    def before_pipeline_run(self, catalog: CatalogProtocol[Any, Any]) -> None:
        """Look for the benchmark before the first node runs.

        Raises:
            T2IEvalError: lists the benchmarks that there are.
        """
        from t2i_eval_kedro.benchmarks.registry import require_benchmark  # the readers are slow to import

        if not catalog.exists("items"):
            require_benchmark(catalog.load("params:benchmark"), Path(catalog.load("params:raw_root")))


class TeacherKey:
    """Puts the teacher's key into the catalog, in memory alone and in a form that prints as asterisks."""

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol[Any, Any], conf_creds: dict[str, Any]) -> None:
        """Take ``teacher.api_key`` from ``conf/local/credentials.yml``, else OPENAI_API_KEY; it stays None where there is neither."""
        key = (conf_creds.get("teacher") or {}).get("api_key") or os.environ.get("OPENAI_API_KEY")
        if key and "teacher_key" in catalog:
            catalog["teacher_key"].save(SecretStr(key))
