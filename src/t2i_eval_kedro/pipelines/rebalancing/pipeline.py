"""The graph of rebalancing."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.naming import by_name
from t2i_eval_kedro.pipelines.rebalancing import nodes


def create_pipeline() -> Pipeline:
    """Examples -> balanced examples and the table before and after."""
    return pipeline(
        [
            node(
                nodes.balance,
                inputs=by_name("examples", "prompts", "params:judging", "params:seed", settings="params:rebalancing"),
                outputs=["balanced_examples", "rebalancing_table"],
                name="rebalance_examples",
            )
        ],
        namespace="rebalancing",
        prefix_datasets_with_namespace=False,
        tags="rebalancing",
    )
