"""The graph of supervised fine-tuning."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines import judging
from t2i_eval_kedro.pipelines.naming import by_name
from t2i_eval_kedro.pipelines.sft import nodes
from t2i_eval_kedro.schema import BASE, SFT


def create_pipeline() -> Pipeline:
    """Balanced examples -> adapter, and what the student says before and after."""
    training = pipeline(
        [
            node(
                nodes.train,
                inputs=by_name(
                    "images",
                    "params:model",
                    "params:launch",
                    "params:seed",
                    "parameters",
                    examples="balanced_examples",
                    card="data_card",
                    settings="params:sft",
                    folder="sft_training",
                ),
                outputs=["sft_adapter", "sft_curve", "sft_time"],
                name="train_sft",
            )
        ],
        namespace=SFT,
        prefix_datasets_with_namespace=False,
    )
    judges = judging.create_pipeline(BASE, adapter=False) + judging.create_pipeline(SFT, adapter=True)
    return pipeline(training + judges, tags="sft")
