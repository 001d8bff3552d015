"""The meta_evaluation pipeline."""

from t2i_eval_kedro.pipelines.meta_evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
