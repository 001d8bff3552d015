"""The heads pipeline."""

from t2i_eval_kedro.pipelines.heads.pipeline import create_pipeline

__all__ = ["create_pipeline"]
