"""The graph of GRPO."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.grpo import nodes
from t2i_eval_kedro.pipelines.judging.nodes import JUDGE_INPUTS


def create_pipeline() -> Pipeline:
    """People's bare scores and the SFT adapter -> a further trained adapter and what it says."""
    return pipeline(
        [
            node(
                nodes.build_examples,
                inputs=["items", "elements", "splits", "ratings", "data_card", "prompts", "params:judging"],
                outputs="grpo_examples",
                name="build_grpo_examples",
            ),
            node(
                nodes.train,
                inputs=[
                    "grpo_examples",
                    "images",
                    "sft_adapter",
                    "data_card",
                    "prompts",
                    "params:judging",
                    "params:model",
                    "params:grpo",
                    "params:launch",
                    "params:seed",
                    "grpo_training",
                ],
                outputs=["grpo_adapter", "grpo_curve", "grpo_time"],
                name="train_grpo",
            ),
            node(
                nodes.judge_grpo,
                inputs=["grpo_adapter", *JUDGE_INPUTS],
                outputs=["grpo_scores", "grpo_transcripts", "grpo_element_scores"],
                name="judge_grpo",
            ),
        ],
        tags="grpo",
    )
