"""The graph of meta-evaluation."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.meta_evaluation import nodes


def create_pipeline() -> Pipeline:
    """Scores of all evaluators and people's ratings -> agreement."""
    return pipeline(
        [
            node(
                nodes.gather_scores,
                inputs=["recorded_scores", "teacher_scores", "base_scores", "sft_scores", "grpo_scores"],
                outputs="scores",
                name="gather_scores",
            ),
            node(
                nodes.gather_element_scores,
                inputs=["recorded_element_scores", "base_element_scores", "sft_element_scores", "grpo_element_scores"],
                outputs="element_scores",
                name="gather_element_scores",
            ),
            node(
                nodes.measure,
                inputs=[
                    "items",
                    "splits",
                    "ratings",
                    "scores",
                    "elements",
                    "element_ratings",
                    "element_scores",
                    "preferences",
                    "data_card",
                    "params:meta_evaluation",
                    "params:variant",
                    "params:seed",
                ],
                outputs="summary",
                name="measure_agreement",
            ),
        ],
        tags="meta_evaluation",
    )
