"""The graph of ingestion."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.benchmarks.element_positions import locate_elements
from t2i_eval_kedro.pipelines.ingestion import nodes

TAG = "ingestion"
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
            node(locate_elements, inputs=["items", "elements"], outputs="element_positions", name="locate_elements"),
            node(
                nodes.sample,
                inputs=["items", "elements", "params:ingestion"],
                outputs="prompt_sample",
                name="sample_prompts",
            ),
            node(
                nodes.split,
                inputs=["items", "prompt_sample", "params:ingestion"],
                outputs="splits",
                name="split_by_prompt",
            ),
            node(
                nodes.describe,
                inputs=["description", "splits", "element_positions", "prompt_sample"],
                outputs=["data_card", "data_issues"],
                name="describe_data",
            ),
            node(
                nodes.refuse_if_strict,
                inputs=["data_issues", "data_card", "params:ingestion"],
                outputs=None,
                name="refuse_if_strict",
            ),
        ],
        namespace=TAG,
        prefix_datasets_with_namespace=False,
        tags=TAG,
    )
