"""The graph of GRPO."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines import judging
from t2i_eval_kedro.pipelines.grpo import nodes
from t2i_eval_kedro.pipelines.naming import by_name
from t2i_eval_kedro.schema import GRPO


def create_pipeline() -> Pipeline:
    """People's bare scores and the SFT adapter -> a further trained adapter and what it says."""
    training = pipeline(
        [
            node(
                nodes.build_examples,
                inputs=by_name(
                    "items",
                    "elements",
                    "splits",
                    "ratings",
                    "prompts",
                    "params:judging",
                    card="data_card",
                    supervised="balanced_examples",
                    settings="params:grpo",
                ),
                outputs="grpo_examples",
                name="build_grpo_examples",
            ),
            node(
                nodes.train,
                inputs=by_name(
                    "images",
                    "prompts",
                    "params:judging",
                    "params:model",
                    "params:sft",
                    "params:launch",
                    "params:seed",
                    "parameters",
                    card="data_card",
                    examples="grpo_examples",
                    start="sft_adapter",
                    settings="params:grpo",
                    folder="grpo_training",
                ),
                outputs=["grpo_adapter", "grpo_curve", "grpo_time"],
                name="train_grpo",
            ),
        ],
        namespace=GRPO,
        prefix_datasets_with_namespace=False,
    )
    return pipeline(training + judging.create_pipeline(GRPO, adapter=True), tags="grpo")
