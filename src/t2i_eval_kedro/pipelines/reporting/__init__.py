"""The reporting pipeline."""

from t2i_eval_kedro.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
