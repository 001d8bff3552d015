"""A runner that leaves ingestion out where it would make again what is there.

What counts as unchanged: the names, sizes and modification times of the raw files, the parameters of ingestion, the
project's code that reads and writes, and the sizes and modification times of every file that the last ingestion wrote. The
content of the files is not read, as with ``make``; a file that was changed with its size and time kept is not noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from pluggy import PluginManager

import t2i_eval_kedro
from t2i_eval_kedro.pipelines.ingestion.nodes import IngestionSettings
from t2i_eval_kedro.pipelines.ingestion.pipeline import TAG, create_pipeline

RECORD = "ingestion_record"
CODE = ("schema.py", "benchmarks", "datasets", "shapes", "pipelines/ingestion")


class SkipUnchanged(SequentialRunner):
    """Runs nodes one after the other, as Kedro's own; the default of this project's ``kedro run``."""

    def run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol[Any, Any],
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """Run ``pipeline``, its ingestion first and only where something has changed since the last one."""
        ingestion = pipeline.only_nodes_with_tags(TAG)
        if len(ingestion.nodes) < len(create_pipeline().nodes):  # a part of it was asked for by name
            return super().run(pipeline, catalog, hook_manager, run_id, only_missing_outputs)
        rest = pipeline - ingestion
        benchmark, raw_root = catalog.load("params:benchmark"), catalog.load("params:raw_root")
        settings = IngestionSettings.model_validate(catalog.load("params:ingestion"))
        outputs = [path for name in sorted(ingestion.all_outputs()) if (path := _path(catalog, name))]
        raw_files = files_state([Path(raw_root) / benchmark])
        made_from = {
            "raw_files": raw_files,
            "parameters": settings.model_dump(mode="json", exclude={"force"}) | {"raw_root": raw_root},
            "code": code_state(),
        }
        done: dict[str, Any] = {}
        if not settings.force and catalog.load(RECORD) == {"made_from": made_from, "made": files_state(outputs)}:
            self._logger.info(
                "Benchmark '%s' is ingested already: %d raw files, parameters and code are as they were. "
                "--params=ingestion.force=true does it again.",
                benchmark,
                raw_files["files"],
            )
        else:
            if catalog.load(RECORD):
                catalog.save(RECORD, {})  # until all is written, what is there may be of two ingestions
            done = super().run(ingestion, catalog, hook_manager, run_id, only_missing_outputs)
            catalog.save(RECORD, {"made_from": made_from, "made": files_state(outputs)})
        return done | super().run(rest, catalog, hook_manager, run_id, only_missing_outputs) if rest.nodes else done


def files_state(paths: Iterable[Path]) -> dict[str, Any]:
    """How many files there are at and below ``paths``, and a digest of their names, sizes and modification times."""
    lines = []
    for path in paths:
        below = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        for file in below if path.is_dir() else [path]:
            try:
                state = file.stat()
            except OSError:  # not there, or a link that leads nowhere
                continue
            lines.append(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n")
    return {"files": len(lines), "sha256": hashlib.sha256("".join(sorted(lines)).encode(errors="replace")).hexdigest()}


def code_state() -> str:
    """A digest of the modules that reading and writing a benchmark goes through."""
    package = Path(t2i_eval_kedro.__file__).parent
    digest = hashlib.sha256()
    for part in CODE:
        path = package / part
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(json.dumps([module.relative_to(package).as_posix(), module.read_text("utf-8")]).encode())
    return digest.hexdigest()


def _path(catalog: CatalogProtocol[Any, Any], name: str) -> Path | None:
    """Where dataset ``name`` keeps its data; None for one in memory."""
    dataset = catalog.get(name)
    filepath = None if dataset is None else dataset._describe().get("filepath")
    return Path(filepath) if filepath else None
