"""The structure pipeline."""

from t2i_eval_kedro.pipelines.structure.pipeline import create_pipeline

__all__ = ["create_pipeline"]
