"""The graph of meta-evaluation."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.meta_evaluation import nodes
from t2i_eval_kedro.pipelines.naming import by_name


def create_pipeline() -> Pipeline:
    """Scores of all evaluators and people's ratings -> agreement."""
    return pipeline(
        [
            node(
                nodes.score_baselines,
                inputs=by_name("items", "splits", "ratings", "images", settings="params:meta_evaluation"),
                outputs="baseline_scores",
                name="score_baselines",
            ),
            node(
                nodes.gather_scores,
                inputs=[
                    "recorded_scores",
                    "teacher_scores",
                    "base_scores",
                    "sft_scores",
                    "grpo_scores",
                    "heads_scores",
                    "baseline_scores",
                ],
                outputs="scores",
                name="gather_scores",
            ),
            node(
                nodes.gather_element_scores,
                inputs=[
                    "recorded_element_scores",
                    "base_element_scores",
                    "sft_element_scores",
                    "grpo_element_scores",
                    "heads_element_scores",
                ],
                outputs="element_scores",
                name="gather_element_scores",
            ),
            node(
                nodes.measure,
                inputs=by_name(
                    "items",
                    "splits",
                    "ratings",
                    "scores",
                    "elements",
                    "element_ratings",
                    "element_scores",
                    "preferences",
                    "base_preference_scores",
                    "sft_preference_scores",
                    "grpo_preference_scores",
                    "base_protocol",
                    "parameters",
                    card="data_card",
                    settings="params:meta_evaluation",
                ),
                outputs="summary",
                name="measure_agreement",
            ),
            node(
                nodes.diagnose,
                inputs=by_name(
                    "items",
                    "splits",
                    "ratings",
                    "elements",
                    "element_ratings",
                    "scores",
                    "element_scores",
                    "prompts",
                    "params:judging",
                    "teacher_transcripts",
                    "base_transcripts",
                    "sft_transcripts",
                    "grpo_transcripts",
                    "teacher_attribution",
                    "base_attribution",
                    "sft_attribution",
                    "grpo_attribution",
                    settings="params:meta_evaluation",
                ),
                outputs="diagnostics",
                name="diagnose_judges",
            ),
        ],
        namespace="meta_evaluation",
        prefix_datasets_with_namespace=False,
        tags="meta_evaluation",
    )
