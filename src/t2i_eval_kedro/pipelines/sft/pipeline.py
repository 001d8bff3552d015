"""The graph of supervised fine-tuning."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.judging.nodes import JUDGE_INPUTS
from t2i_eval_kedro.pipelines.sft import nodes


def create_pipeline() -> Pipeline:
    """Balanced examples -> adapter, and what the student says before and after."""
    return pipeline(
        [
            node(
                nodes.train,
                inputs=[
                    "balanced_examples",
                    "images",
                    "data_card",
                    "params:model",
                    "params:sft",
                    "params:launch",
                    "params:seed",
                    "sft_training",
                ],
                outputs=["sft_adapter", "sft_curve", "sft_time"],
                name="train_sft",
            ),
            node(
                nodes.judge_base,
                inputs=JUDGE_INPUTS,
                outputs=["base_scores", "base_transcripts", "base_element_scores"],
                name="judge_base",
            ),
            node(
                nodes.judge_sft,
                inputs=["sft_adapter", *JUDGE_INPUTS],
                outputs=["sft_scores", "sft_transcripts", "sft_element_scores"],
                name="judge_sft",
            ),
        ],
        tags="sft",
    )
