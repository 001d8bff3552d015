"""The judging pipeline, which is a part of ``sft`` and ``grpo``."""

from t2i_eval_kedro.pipelines.judging.pipeline import create_pipeline

__all__ = ["create_pipeline"]
