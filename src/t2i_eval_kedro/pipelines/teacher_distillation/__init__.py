"""The teacher_distillation pipeline."""

from t2i_eval_kedro.pipelines.teacher_distillation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
