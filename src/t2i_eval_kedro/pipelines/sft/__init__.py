"""The sft pipeline."""

from t2i_eval_kedro.pipelines.sft.pipeline import create_pipeline

__all__ = ["create_pipeline"]
