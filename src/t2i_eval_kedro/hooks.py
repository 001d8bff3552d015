"""Kedro hooks: what cannot work is refused before anything runs, and the one secret of the project enters here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from pydantic import SecretStr


class KnownBenchmark:
    """Refuses a run on a benchmark that has no reader, no folder of raw files, and was not ingested."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, catalog: CatalogProtocol[Any, Any]) -> None:
        """Look for the benchmark before the first node runs.

        Raises:
            T2IEvalError: lists the benchmarks that there are.
        """
        from t2i_eval_kedro.benchmarks.registry import require_benchmark  # the readers are slow to import

        if not catalog.exists("items"):
            require_benchmark(catalog.load("params:benchmark"), Path(catalog.load("params:raw_root")))


class AbleStudent:
    """Refuses a run that trains a student on what its chat template, tokenizer or image processor cannot do."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Look at the student's processor before the teacher is asked and anything is trained.

        Raises:
            T2IEvalError: what the model cannot do, and what to change.
        """
        trained = {node.name for node in pipeline.nodes} & {"sft.train_sft", "grpo.train_grpo"}
        if not trained:
            return
        from t2i_eval_kedro.judging.evaluators import JudgingSettings, load_templates, teacher_kind
        from t2i_eval_kedro.judging.protocols.registry import candidate_tokens_of, resolved
        from t2i_eval_kedro.models.settings import ModelSettings
        from t2i_eval_kedro.schema import SHAPES
        from t2i_eval_kedro.steps import SCORE
        from t2i_eval_kedro.teacher.teachers import TeacherSettings
        from t2i_eval_kedro.training.ability import require_able
        from t2i_eval_kedro.training.settings import ExampleSettings, SFTSettings, taught_tasks

        given: dict[str, Any] = catalog.load("parameters")
        judging, examples = (
            JudgingSettings.model_validate(given["judging"]),
            ExampleSettings.model_validate(given["examples"]),
        )
        wording = judging.load_wording(load_templates(catalog.load("prompts")))
        known = catalog.exists("data_card")
        synthetic = catalog.load("data_card")["synthetic"] if known else given["benchmark"] in SHAPES
        teacher = TeacherSettings.model_validate(given["teacher"])
        tasks = taught_tasks(examples.tasks, teacher_kind(teacher.kind, synthetic=synthetic))
        asked = resolved(judging.protocols, tasks) if judging.backend != "openai" else []
        levels = judging.options.levels(wording).vocabulary.levels
        require_able(
            ModelSettings.model_validate(given["model"]),
            tasks=tasks if "sft.train_sft" in trained else (),
            choices=candidate_tokens_of(asked, wording, judging.options),
            soft=levels if examples.soft and SCORE in tasks and "sft.train_sft" in trained else (),
            grpo="grpo.train_grpo" in trained,
            start=SFTSettings.model_validate(given["sft"]).start if "sft.train_sft" in trained else None,
        )


class KnownEvidence:
    """Refuses a run whose judges are told what a network of structure says, where there is no such network."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Look for the networks of ``judging.options.evidence`` before the teacher is asked and anything is trained.

        Raises:
            T2IEvalError: names the folder that holds none.
        """
        if not any("params:judging" in node.inputs for node in pipeline.nodes):
            return
        from t2i_eval_kedro.judging.evaluators import JudgingSettings
        from t2i_eval_kedro.judging.evidence import require_network

        for folder in JudgingSettings.model_validate(catalog.load("parameters")["judging"]).options.evidence:
            require_network(Path(folder))


class TeacherKey:
    """Puts the teacher's key into the catalog, in memory alone and in a form that prints as asterisks."""

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol[Any, Any], conf_creds: dict[str, Any]) -> None:
        """Take ``teacher.api_key`` from ``conf/local/credentials.yml``, else OPENAI_API_KEY; it stays None where there is neither."""
        key = (conf_creds.get("teacher") or {}).get("api_key") or os.environ.get("OPENAI_API_KEY")
        if key and "teacher_key" in catalog:
            catalog["teacher_key"].save(SecretStr(key))
