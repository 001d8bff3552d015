"""The ingestion pipeline."""

from t2i_eval_kedro.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
