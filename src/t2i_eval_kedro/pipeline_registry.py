"""The pipelines of the project, in the order in which data goes through them."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from t2i_eval_kedro.pipelines import (
    grpo,
    ingestion,
    meta_evaluation,
    rebalancing,
    reporting,
    sft,
    teacher_distillation,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Each pipeline by its name, and all of them together as ``__default__``."""
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "teacher_distillation": teacher_distillation.create_pipeline(),
        "rebalancing": rebalancing.create_pipeline(),
        "sft": sft.create_pipeline(),
        "grpo": grpo.create_pipeline(),
        "meta_evaluation": meta_evaluation.create_pipeline(),
        "reporting": reporting.create_pipeline(),
    }
    return pipelines | {"__default__": sum(pipelines.values(), start=Pipeline([]))}
