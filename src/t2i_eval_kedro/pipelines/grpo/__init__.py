"""The grpo pipeline."""

from t2i_eval_kedro.pipelines.grpo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
