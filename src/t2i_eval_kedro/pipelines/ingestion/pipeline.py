"""The graph of ingestion."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.ingestion import nodes

TABLES = (
    "items",
    "ratings",
    "elements",
    "element_ratings",
    "preferences",
    "recorded_scores",
    "recorded_element_scores",
    "recorded_transcripts",
    "images",
)


def create_pipeline() -> Pipeline:
    """Raw files -> canonical tables, splits, data card."""
    return pipeline(
        [
            node(
                nodes.read,
                inputs=["params:benchmark", "params:raw_root", "params:ingestion"],
                outputs={name: name for name in (*TABLES, "description")},
                name="read_benchmark",
            ),
            node(nodes.split, inputs=["items", "params:ingestion"], outputs="splits", name="split_by_prompt"),
            node(
                nodes.describe, inputs=["description", "splits"], outputs=["data_card", "faults"], name="describe_data"
            ),
            node(
                nodes.refuse_if_strict,
                inputs=["faults", "data_card", "params:ingestion"],
                outputs=None,
                name="refuse_if_strict",
            ),
        ],
        tags="ingestion",
    )
