"""The graph of rebalancing."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.rebalancing import nodes


def create_pipeline() -> Pipeline:
    """Examples -> balanced examples and the table before and after."""
    return pipeline(
        [
            node(
                nodes.balance,
                inputs=["examples", "prompts", "params:judging", "params:rebalancing", "params:seed"],
                outputs=["balanced_examples", "rebalancing_table"],
                name="rebalance_examples",
            )
        ],
        tags="rebalancing",
    )
