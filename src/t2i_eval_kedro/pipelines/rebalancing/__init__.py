"""The rebalancing pipeline."""

from t2i_eval_kedro.pipelines.rebalancing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
