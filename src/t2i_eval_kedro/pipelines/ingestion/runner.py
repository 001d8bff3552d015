"""A runner that leaves ingestion out where it would make again what is there.

Unchanged are the names, sizes and modification times of the raw files, the parameters of ingestion, the code that reads and writes, and
the sizes and modification times of every file that the last ingestion wrote (:mod:`t2i_eval_kedro.changes`). As with ``make``, the content
of the files is not read: one that was changed with its size and time kept is not noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from pluggy import PluginManager

from t2i_eval_kedro.changes import code_hash, files_state
from t2i_eval_kedro.pipelines.ingestion.nodes import IngestionSettings
from t2i_eval_kedro.pipelines.ingestion.pipeline import TAG, create_pipeline

RECORD = "ingestion_record"


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
            "code": code_hash(tuple(sorted(_modules(ingestion, catalog)))),
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


def _modules(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> set[str]:
    """The modules of the nodes of ``pipeline`` and of the datasets that they write."""
    datasets = (catalog.get(name) for name in pipeline.all_outputs())
    return {node.func.__module__ for node in pipeline.nodes} | {type(data).__module__ for data in datasets}


def _path(catalog: CatalogProtocol[Any, Any], name: str) -> Path | None:
    """Where dataset ``name`` keeps its data; None for one in memory."""
    dataset = catalog.get(name)
    filepath = None if dataset is None else dataset._describe().get("filepath")
    return Path(filepath) if filepath else None
