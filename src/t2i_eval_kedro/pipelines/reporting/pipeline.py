"""The graph of reporting."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from t2i_eval_kedro.pipelines.naming import by_name
from t2i_eval_kedro.pipelines.reporting import nodes


def create_pipeline() -> Pipeline:
    """The summary, the tables and the curves -> report.html."""
    return pipeline(
        [
            node(
                nodes.write_report,
                inputs=by_name(
                    "summary",
                    "diagnostics",
                    "items",
                    "splits",
                    "ratings",
                    "scores",
                    "images",
                    "sft_curve",
                    "grpo_curve",
                    "sft_time",
                    "grpo_time",
                    "recorded_transcripts",
                    "teacher_transcripts",
                    "base_transcripts",
                    "sft_transcripts",
                    "grpo_transcripts",
                    "params:teacher",
                    "params:model.model",
                    card="data_card",
                    rebalancing="rebalancing_table",
                    costs="teacher_costs",
                    checks="teacher_checks",
                ),
                outputs="report",
                name="write_report",
            )
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
        tags="reporting",
    )
