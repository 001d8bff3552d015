"""The pipelines of the project, in the order in which data goes through them."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from t2i_eval_kedro.pipelines import (
    grpo,
    heads,
    ingestion,
    meta_evaluation,
    rebalancing,
    reporting,
    sft,
    structure,
    teacher_distillation,
)

ABLATION_RUN = "ablation_run"
HEADS = "heads"
"""A pipeline beside the default ones: judges that predict numbers (docs/heads.md)."""
STRUCTURE = "structure"
"""A pipeline beside the default ones: where an image is broken (docs/structure.md)."""


def register_pipelines() -> dict[str, Pipeline]:
    """Each pipeline by its name, the seven default ones together as ``__default__``, and what one run of a study needs as ``ablation_run``.

    A run is one variant with one seed. It stops after SFT, and shares the ingestion and the teacher's answers with all others;
    the checks of the teacher and the untrained model's scores are left to the default run, as no study compares them.
    """
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "teacher_distillation": teacher_distillation.create_pipeline(),
        "rebalancing": rebalancing.create_pipeline(),
        "sft": sft.create_pipeline(),
        "grpo": grpo.create_pipeline(),
        "meta_evaluation": meta_evaluation.create_pipeline(),
        "reporting": reporting.create_pipeline(),
    }
    ablation_run = (
        pipelines["teacher_distillation"].only_nodes("teacher_distillation.build_examples")
        + pipelines["rebalancing"]
        + pipelines["sft"].only_nodes("sft.train_sft", "sft.judge_sft")
        + pipelines["meta_evaluation"]
    )
    beside = {ABLATION_RUN: ablation_run, HEADS: heads.create_pipeline(), STRUCTURE: structure.create_pipeline()}
    return pipelines | beside | {"__default__": sum(pipelines.values(), start=Pipeline([]))}
